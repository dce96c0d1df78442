//! What a coordinator needs of its replicated log.

use std::future::Future;

use bytes::Bytes;
use tidelog_record::Batch;
use tidelog_types::{LeaderEpoch, Offset, PartitionError, PartitionIndex};

/// The partitions of a state topic that this broker leads.
///
/// Every call names the leader epoch it is for: once that leadership is over, each of them fails,
/// with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH. So a shard that has not heard yet that it
/// was deposed appends nothing and reads nothing.
pub trait StateLog: Send + Sync + 'static {
    /// Whether this broker still serves as the leader of this epoch, as far as it knows. Cheap:
    /// asked for every request, so that one that was deposed or cut off does not answer the past as
    /// the present.
    fn check(&self, partition: PartitionIndex, epoch: LeaderEpoch) -> Result<(), PartitionError>;

    /// Appends a batch, all of it or nothing; answers the log end after it. Batches stand in the
    /// order of the calls, so a caller awaits one before it makes the next. It does not wait for
    /// replication, only for room.
    ///
    /// An error means that nothing was appended.
    fn append(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        batch: Batch,
    ) -> impl Future<Output = Result<Offset, PartitionError>> + Send;

    /// Whole batches from `from` up to the high watermark, about `max_bytes` of them. Empty if
    /// there are none yet. A `from` below the log's start means its start.
    fn read(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        from: Offset,
        max_bytes: usize,
    ) -> impl Future<Output = Result<ReadRecords, PartitionError>> + Send;

    /// Waits until the high watermark is above `seen`, and answers it. Cancel-safe.
    fn high_watermark_above(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        seen: Offset,
    ) -> impl Future<Output = Result<Offset, PartitionError>> + Send;
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadRecords {
    /// Whole batches; the first may begin before where the read began.
    pub batches: Vec<Bytes>,
    /// Where to read next.
    pub next: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
}
