//! Where the cluster is: the flag that every command which talks to brokers has.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tidelog_client::{Admin, Client};

/// What the program calls itself to brokers.
const CLIENT_ID: &str = "tidelog-cli";

/// How to reach the cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectFlags {
    /// Brokers to begin with, HOST:PORT separated by commas: one that answers is enough
    #[arg(
        long,
        value_name = "ADDRESSES",
        env = "TIDELOG_BOOTSTRAP",
        default_value = "127.0.0.1:7171"
    )]
    bootstrap: String,
    /// How long to try before giving up, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl ConnectFlags {
    /// Connects, or fails when nobody answers in time.
    pub(crate) async fn client(&self) -> Result<Client> {
        let client = Client::builder([self.bootstrap.as_str()])
            .client_id(CLIENT_ID)
            .connect_timeout(self.timeout())
            .connect()
            .await?;
        Ok(client)
    }

    /// Connects, for topics, groups and the cluster; each call tries as long as connecting does.
    pub(crate) async fn admin(&self) -> Result<Admin> {
        Ok(self.client().await?.admin().timeout(self.timeout()))
    }

    /// How long to try.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
