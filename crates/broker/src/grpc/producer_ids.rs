//! Ids for idempotent producers, out of blocks that the metadata log reserves for this broker.

use std::time::Duration;

use tidelog_cluster::command::{BrokerIncarnation, Command};
use tidelog_cluster::outcome::Accepted;
use tidelog_metadata::Metadata;
use tidelog_types::{ErrorCode, PartitionError, ProducerId};
use tokio::sync::Mutex;

use super::proposal_refused;

/// How long reserving a block may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands out producer ids, each once in the cluster's life. What is left of a block when the broker stops is never used.
pub struct ProducerIds {
    metadata: Metadata,
    block: Mutex<std::ops::Range<u64>>,
}

impl ProducerIds {
    /// With no block yet.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            block: Mutex::new(0..0),
        }
    }

    /// The next id; reserves a block where the last one is used up.
    pub async fn next(&self, broker: BrokerIncarnation) -> Result<ProducerId, PartitionError> {
        // The lock is held while a block is reserved, so that a crowd of new producers reserves one block and not one each.
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(ProducerId(id));
        }
        let command = Command::AllocateProducerIds(broker);
        let outcome = self
            .metadata
            .propose(command, TIMEOUT)
            .await
            .map_err(proposal_refused)?;
        let Accepted::ProducerIdsAllocated { first, count } = outcome.result? else {
            let text = "the metadata log answered a request for producer ids with something else";
            return Err(PartitionError::new(ErrorCode::UnknownServerError, text));
        };
        *block = first.0 + 1..first.0 + count;
        Ok(first)
    }
}
