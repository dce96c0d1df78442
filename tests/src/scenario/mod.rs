//! Loads that tests, the demo and the full-year run share: a producer of numbered flights, and
//! members of a group that read them.

mod load;
mod member;

pub use load::{Disturbance, Load, LoadReport, RowHeader};
pub use member::{Member, MemberReport};

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tidelog_client::Client;

use crate::ledger::Ledger;
use crate::wait;

/// Waits until every partition of a topic has so many replicas in sync.
pub async fn in_sync(client: &Client, topic: &str, replicas: u32, deadline: Duration) -> Result<()> {
    wait::until("every replica in sync", deadline, async || {
        let topic = client.admin().describe_topic(topic).await?;
        let behind = topic
            .partitions
            .iter()
            .find(|partition| partition.isr.len() < replicas as usize);
        ensure!(behind.is_none(), "{behind:?}");
        Ok(())
    })
    .await
}

/// A ledger that producers and readers write together.
pub type SharedLedger = Arc<Mutex<Ledger>>;
