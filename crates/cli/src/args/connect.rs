//! Where the cluster is: the flags that every command which talks to brokers has.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tidelog_client::{Admin, Client};

use crate::exit::{Exit, Failure};
use crate::{interrupt, waiting};

/// How long to try, unless the command line says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first three brokers of `tidelog dev`, any of which may be gone.
pub(crate) const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:7171,127.0.0.1:7271,127.0.0.1:7371";

/// How to reach the cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectFlags {
    /// Brokers to begin with, HOST:PORT separated by commas: one that answers is enough
    #[arg(
        long,
        value_name = "ADDRESSES",
        env = "TIDELOG_BOOTSTRAP",
        default_value = DEFAULT_BOOTSTRAP
    )]
    bootstrap: String,
    /// How long to try before giving up, seconds [default: 10, and 120 for a record to be
    /// acknowledged]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    /// What brokers call this program in their logs
    #[arg(long, value_name = "NAME", default_value = "tidelog-cli")]
    client_id: String,
}

impl ConnectFlags {
    /// Connects, or fails when nobody answers in time. Says after a second that it waits.
    pub(crate) async fn client(&self) -> Result<Client> {
        let client = tokio::select! {
            biased;
            client = self.connect() => client?,
            () = interrupt::first().cancelled_owned() => {
                let text = format!("interrupted while connecting to {}: nothing was done", self.bootstrap);
                return Err(Failure::new(Exit::Interrupted, text).into());
            }
        };
        waiting::connected(format!(
            "the cluster at {}, for up to {} s",
            self.bootstrap,
            self.timeout().as_secs()
        ));
        Ok(client)
    }

    /// The client warns of each address that cannot be reached, and why.
    async fn connect(&self) -> Result<Client> {
        let client = Client::builder([self.bootstrap.as_str()])
            .client_id(&self.client_id)
            .connect_timeout(self.timeout());
        let what = || {
            let seconds = self.timeout().as_secs();
            format!(
                "waiting up to {seconds} s for a broker of {} to answer",
                self.bootstrap
            )
        };
        Ok(waiting::on(what, client.connect()).await?)
    }

    /// Connects, for topics, groups and the cluster; each call tries as long as connecting does.
    pub(crate) async fn admin(&self) -> Result<Admin> {
        Ok(self.client().await?.admin().timeout(self.timeout()))
    }

    /// How long to try.
    pub(crate) fn timeout(&self) -> Duration {
        self.given_timeout().unwrap_or(TIMEOUT)
    }

    /// How long to try, if the command line says so: for what has another default.
    pub(crate) fn given_timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_broker::config::Config;

    use super::*;

    #[test]
    fn commands_look_for_every_broker_of_dev_by_themselves() {
        let listens = |index| {
            let config = Config::for_dev(index, 3, 7171, std::path::Path::new("d")).unwrap();
            config.client_listeners[0].bind.clone()
        };
        let all: Vec<String> = (0..3).map(listens).collect();
        assert_eq!(DEFAULT_BOOTSTRAP, all.join(","));
    }
}
