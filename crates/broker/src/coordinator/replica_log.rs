//! [`StateLog`] over this broker's replicas.

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::image::ClusterImage;
use tidelog_record::Batch;
use tidelog_types::{
    ErrorCode, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicIdPartition, TopicName,
};
use tokio::sync::Notify;

use super::log::{ReadRecords, StateLog};
use crate::partition::{
    Acks, DiskUse, FetchSpec, OffsetQuery, Partition, PartitionFetch, Produce, ReplicaManager,
};

/// The newest cluster image.
pub(crate) type Images = Arc<dyn Fn() -> Arc<ClusterImage> + Send + Sync>;

/// The replicas of a state topic on this broker.
pub struct ReplicaLog {
    replicas: Arc<ReplicaManager>,
    images: Images,
    topic: TopicName,
}

impl ReplicaLog {
    /// Over these replicas. The topic's id is looked up in the newest image.
    pub fn new(replicas: Arc<ReplicaManager>, images: Images, topic: TopicName) -> Self {
        Self {
            replicas,
            images,
            topic,
        }
    }

    fn partition(&self, partition: PartitionIndex) -> Result<Arc<Partition>, PartitionError> {
        let image = (self.images)();
        let topic = image.topic_by_name(&self.topic).ok_or_else(|| {
            let message = format!("the topic {} does not exist yet", self.topic);
            PartitionError::new(ErrorCode::NotLeaderOrFollower, message)
        })?;
        self.replicas.target(TopicIdPartition {
            topic_id: topic.id,
            partition,
        })
    }
}

impl StateLog for ReplicaLog {
    fn check(&self, partition: PartitionIndex, epoch: LeaderEpoch) -> Result<(), PartitionError> {
        self.partition(partition)?.high_watermark(epoch).map(drop)
    }

    async fn append(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        batch: Batch,
    ) -> Result<Offset, PartitionError> {
        let info = batch.info();
        let permit = self.replicas.reserve(info.size_bytes as usize).await;
        let produce = Produce {
            leader_epoch: Some(epoch),
            batch,
            acks: Acks::All,
            purpose: DiskUse::Groups,
            permit,
        };
        // The acknowledgement is not waited for here: the high watermark is.
        let appended = self.partition(partition)?.append(produce)?.produced();
        Ok(appended.base_offset + info.offset_count())
    }

    async fn read(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        from: Offset,
        max_bytes: usize,
    ) -> Result<ReadRecords, PartitionError> {
        let replica = self.partition(partition)?;
        let start = replica
            .list_offset(Some(epoch), OffsetQuery::Earliest)
            .await?
            .offset;
        let fetch = PartitionFetch {
            partition: replica.id(),
            leader_epoch: Some(epoch),
            fetch_offset: from.max(start),
            max_bytes,
        };
        let spec = FetchSpec {
            partitions: vec![fetch],
            max_wait: Duration::ZERO,
            min_bytes: 0,
            max_bytes,
        };
        let fetched = self.replicas.fetch(spec).await.answers.pop().unwrap_or_else(|| {
            Err(PartitionError::new(
                ErrorCode::UnknownServerError,
                "a fetch of one partition answered none",
            ))
        })?;
        Ok(ReadRecords {
            batches: fetched.batches,
            next: fetched.next_offset,
            high_watermark: fetched.high_watermark,
        })
    }

    async fn high_watermark_above(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        seen: Offset,
    ) -> Result<Offset, PartitionError> {
        let replica = self.partition(partition)?;
        let waiting = Waiting::register(&replica);
        loop {
            // Registered first, then asked: a move in between is not missed.
            let high_watermark = replica.high_watermark(epoch)?;
            if high_watermark > seen {
                return Ok(high_watermark);
            }
            waiting.woken.notified().await;
        }
    }
}

/// A place among those whom the partition wakes when its high watermark or its role changes; given
/// up on drop.
struct Waiting<'a> {
    partition: &'a Partition,
    woken: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn register(partition: &'a Partition) -> Self {
        let woken = Arc::new(Notify::new());
        partition.state.lock().consumers.push(Arc::clone(&woken));
        Self { partition, woken }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.partition
            .state
            .lock()
            .consumers
            .retain(|waiting| !Arc::ptr_eq(waiting, &self.woken));
    }
}

impl Partition {
    /// The high watermark, of the leader of this epoch.
    fn high_watermark(&self, epoch: LeaderEpoch) -> Result<Offset, PartitionError> {
        let state = self.state.lock();
        self.check(&state)?;
        let start = state.replica.earliest_offset(Some(epoch))?.0;
        Ok(state.replica.consumer_read(Some(epoch), start)?.until)
    }
}
