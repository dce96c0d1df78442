//! The contract of a broker's storage.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidelog_types::{
    BatchInfo, EpochEntry, LocalPartition, Offset, ProducerId, ProducerState, TopicIdPartition,
};

/// All partition replicas of one data directory.
///
/// ```text
///   log start            high watermark       durable end        log end
///       │ readable to consumers │                  │                │
///       ├───────────────────────┼──────────────────┼────────────────┤
///       │        survives a crash of this machine  │ may be lost    │
/// ```
///
/// **Ordering.** Operations on one partition take effect in the order of the calls. `append`,
/// `truncate`, `trim` and `checkpoint` only enqueue: they never wait for the disk, so they may be
/// called under a lock, and bounding what is enqueued is the caller's part
/// ([`LogStore::queued_bytes`]).
///
/// **Durability.** Every step is *written* first and *durable* later; both are reported to the
/// [`StoreListener`] where the log's end is concerned. What was reported durable survives a crash
/// at any moment. What was only written survives in part: always a prefix of the sequence of writes
/// over all partitions, and never part of one [`Append`].
///
/// **Failure.** The first failed write or sync poisons the store: it is reported once through
/// [`StoreListener::failed`], nothing is reported durable afterwards, and every later call fails.
/// The process is expected to end.
pub trait LogStore: Send + Sync + 'static {
    /// Every partition in the directory.
    fn partitions(&self) -> Result<Vec<StoredPartition>, StoreError>;

    /// Makes an empty partition, durably; blocks for a sync. The number returned was never used in
    /// this directory before. A partition that is here already is [`StoreError::AlreadyExists`].
    fn create(&self, partition: TopicIdPartition) -> Result<LocalPartition, StoreError>;

    /// Removes a partition and everything in it, durably; blocks for a sync.
    fn delete(&self, partition: LocalPartition) -> Result<(), StoreError>;

    /// What a partition's log remembers, as after everything that was enqueued before; blocks.
    fn load(&self, partition: LocalPartition) -> Result<PartitionLog, StoreError>;

    /// Enqueues batches at the end of the log: all of them, with their epoch and producer changes,
    /// in one atomic write.
    ///
    /// The first batch must begin at the log end, each other one where the one before it ended:
    /// else the store is poisoned before anything of it is written. To a partition that was deleted
    /// it does nothing, as do truncate, trim and checkpoint.
    fn append(&self, append: Append);

    /// Enqueues the removal of everything from an offset on. It is synced before it is reported, as
    /// written or as durable, and before anything is written behind it.
    fn truncate(&self, truncate: Truncate);

    /// Enqueues an advance of the log start offset: what lies below is unreadable at once, its
    /// space is freed later. A log start past the log end empties the log, which then begins and
    /// ends there: how a follower that fell behind its leader's log start begins anew. That is
    /// reported as progress like an append; a trim within the log is not: an end told late, after a
    /// truncation, would be taken for that of what was appended since.
    fn trim(&self, partition: LocalPartition, log_start: Offset);

    /// Enqueues a note of the high watermark, at most the log end. Not synced by itself. A log that
    /// ends below its note has lost committed records: a store refuses to open on it.
    fn checkpoint(&self, partition: LocalPartition, high_watermark: Offset);

    /// Whole batches from the one that holds `from` (or the first after it) up to the first that
    /// begins at `until`, at most `max_bytes` but always at least one if there is one. Served from
    /// memory alone, or `None` if the disk must be asked.
    fn read_cached(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches>;

    /// The same from memory or disk; blocks, so never on a thread that others wait for. Sees what
    /// was reported written. Each batch's checksum is verified when it comes from the disk: a
    /// damaged one is [`StoreError::Corrupt`], never bytes.
    fn read(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, StoreError>;

    /// A batch-start offset from which on to look for the first record with a timestamp of at least
    /// `timestamp_ms` (no earlier batch holds one); `None` if the whole log is older. From the
    /// sparse index; blocks.
    fn offset_for_timestamp(
        &self,
        partition: LocalPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, StoreError>;

    /// The size of a partition's log, bytes: its written batches as they were appended, from the
    /// one that holds the log start on. After a trim, up to 256 KiB of trimmed batches may be
    /// counted too. From memory: never waits for the disk.
    ///
    /// Batches that were stored by versions without this count may be counted too low: by less than
    /// half if none of them is larger than 256 KiB.
    fn size_bytes(&self, partition: LocalPartition) -> Result<u64, StoreError>;

    /// Bytes that were enqueued and are not written yet.
    fn queued_bytes(&self) -> usize;
}

/// Is told what became of what was enqueued, on the store's own threads: it must be quick and never
/// call back into anything of the store that blocks.
pub trait StoreListener: Send + Sync + 'static {
    /// Steps are written: readable, not yet durable. In order for each partition.
    fn written(&self, progress: &[Progress]);
    /// Steps are durable. In order for each partition; several written steps may be reported as
    /// one.
    fn durable(&self, progress: &[Progress]);
    /// The store failed and is poisoned. Called once.
    fn failed(&self, error: &StoreError);
}

/// Where a partition's log ends after a step. `P` names the partition: stores number theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<P = LocalPartition> {
    /// The partition.
    pub partition: P,
    /// Its log end (written) or durable end (durable). After a truncation it is lower than the one
    /// reported before.
    pub end: Offset,
}

impl<P: Copy + Ord> Progress<P> {
    /// Makes one report of several steps, given in order. Of each partition's rising ends only the
    /// last is left, but a fall, which a truncation brings, stays visible. The result is in the
    /// order of partitions.
    pub fn merged(steps: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut merged: BTreeMap<P, Vec<Self>> = BTreeMap::new();
        for step in steps {
            let ends = merged.entry(step.partition).or_default();
            match ends.last_mut() {
                Some(last) if last.end <= step.end => last.end = step.end,
                _ => ends.push(step),
            }
        }
        merged.into_values().flatten().collect()
    }
}

/// A partition in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPartition {
    /// Its number here.
    pub local: LocalPartition,
    /// What it is a replica of.
    pub partition: TopicIdPartition,
}

/// What a partition's log remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionLog {
    /// The first readable offset.
    pub log_start: Offset,
    /// The offset after the last batch.
    pub log_end: Offset,
    /// The last high watermark noted; at most `log_end`.
    pub high_watermark: Offset,
    /// The leader-epoch cache, rising.
    pub epochs: Vec<EpochEntry>,
    /// Idempotent producers, by id.
    pub producers: Vec<ProducerState>,
}

impl PartitionLog {
    /// Brings what was noted at different times into line with the log's bounds: the high watermark
    /// lies between them, and of the epochs that end below the log start only the one that holds it
    /// is left, beginning there.
    pub fn normalize(&mut self) {
        self.high_watermark = self.high_watermark.max(self.log_start).min(self.log_end);
        let later = self
            .epochs
            .partition_point(|entry| entry.start_offset <= self.log_start);
        if later > 0 {
            self.epochs.drain(..later - 1);
            self.epochs[0].start_offset = self.log_start;
        }
    }
}

/// Batches to add to one partition.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub partition: LocalPartition,
    /// At least one.
    pub batches: Vec<BatchToAppend>,
    /// Leader epochs that begin with these batches.
    pub epochs: Vec<EpochEntry>,
    /// Producers as they are after these batches; only the changed ones.
    pub producers: Vec<ProducerState>,
}

/// A batch, final: base offset and leader epoch filled in, `info` read from these very bytes.
#[derive(Debug, Clone)]
pub struct BatchToAppend {
    /// Its header.
    pub info: BatchInfo,
    /// RecordBatch v2.
    pub bytes: Bytes,
}

/// The removal of a log's tail.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// Where.
    pub partition: LocalPartition,
    /// The new log end. Batches that begin at or after it go; one that spans it goes too, so the
    /// end may become lower.
    pub to: Offset,
    /// Producers whose state changes by it, as they are afterwards.
    pub producers: Vec<ProducerState>,
    /// Producers of whom nothing is left.
    pub forgotten: Vec<ProducerId>,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct ReadBatches {
    /// Whole batches in offset order, each as it was stored.
    pub batches: Vec<Bytes>,
    /// The offset after the last of them; where the read began if there is none.
    pub next: Offset,
}

/// Why the storage could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk failed, now or before: the store is poisoned.
    #[error("storage failed: {0}; the broker must stop, and starts again when the disk is healthy")]
    Failed(String),
    /// Stored bytes are damaged.
    #[error("damaged data in {partition} at offset {offset}: {what}")]
    Corrupt {
        /// Where.
        partition: LocalPartition,
        /// The batch's base offset.
        offset: Offset,
        /// What does not fit.
        what: String,
    },
    /// No such partition in this directory.
    #[error("{0} is not in this data directory")]
    UnknownPartition(LocalPartition),
    /// The directory holds a replica of that partition already.
    #[error("{partition} is in this data directory already, as {local}")]
    AlreadyExists {
        /// What was to be created.
        partition: TopicIdPartition,
        /// Its number.
        local: LocalPartition,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_merge_but_a_fall_stays_visible() {
        let step = |local, end| Progress {
            partition: LocalPartition(local),
            end: Offset(end),
        };
        let steps = [
            step(1, 5),
            step(2, 3),
            step(1, 9),
            step(1, 4),
            step(1, 6),
            step(2, 3),
        ];
        assert_eq!(Progress::merged(steps), [step(1, 9), step(1, 6), step(2, 3)]);
    }
}
