//! What the metadata leader looks after besides sessions: the internal topic, the balance of
//! leaderships.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::command::CreateTopic;
use tidelog_cluster::configs::CLEANUP_POLICY;
use tidelog_cluster::{ClusterImage, Command};
use tidelog_metadata::Metadata;
use tidelog_types::limits::CONSUMER_OFFSETS_PARTITIONS;
use tidelog_types::{TopicId, TopicName};
use tokio::time::Instant;
use uuid::Uuid;

use super::PROPOSE_TIMEOUT;

/// How many brokers the internal topic waits for, if the cluster has so many voters; then also its
/// replication factor.
const OFFSETS_REPLICATION_FACTOR: u32 = 3;
/// How soon a proposal that failed is made again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped, or the metadata stops.
pub(super) async fn run(metadata: Metadata, balance_interval: Duration) {
    let mut images = metadata.subscribe();
    let mut balance_at = Instant::now() + balance_interval;
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let wanted = offsets_topic(&image, metadata.voters().len() as u32);
        if let Some(create) = wanted
            && !propose(&metadata, Command::CreateTopic(create)).await
        {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(balance_at) => {
                balance_at = Instant::now() + balance_interval;
                if metadata.image().is_unbalanced() {
                    propose(&metadata, Command::ElectPreferredLeaders).await;
                }
            }
        }
    }
}

/// Whether the command was applied; a refusal is logged.
async fn propose(metadata: &Metadata, command: Command) -> bool {
    match metadata.propose(command, PROPOSE_TIMEOUT).await {
        Ok(outcome) => {
            if let Err(refusal) = &outcome.result {
                tracing::warn!(%refusal, "upkeep was refused");
            }
            metadata.wait_for_index(outcome.index).await && outcome.result.is_ok()
        }
        Err(error) => {
            tracing::warn!(%error, "upkeep failed");
            false
        }
    }
}

/// The internal topic, if it is missing and enough brokers are there to hold it.
fn offsets_topic(image: &ClusterImage, voters: u32) -> Option<CreateTopic> {
    let name = TopicName::consumer_offsets();
    let active = image.brokers.values().filter(|broker| broker.is_active()).count() as u32;
    let enough = OFFSETS_REPLICATION_FACTOR.min(voters.max(1));
    if image.topic_by_name(&name).is_some() || active < enough {
        return None;
    }
    Some(CreateTopic {
        name,
        topic_id: TopicId(Uuid::new_v4()),
        partitions: Some(CONSUMER_OFFSETS_PARTITIONS),
        replication_factor: Some(OFFSETS_REPLICATION_FACTOR.min(active)),
        configs: BTreeMap::from([(CLEANUP_POLICY.to_owned(), "compact".to_owned())]),
        placement_start: 0,
        internal: true,
    })
}
