//! A [`StateLog`] in memory for tests: replication can be held back, appends refused, leadership
//! taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, PartitionIndex};
use tokio::sync::Notify;

use super::log::{ReadRecords, StateLog};

#[derive(Default)]
pub(crate) struct MemoryLog {
    partitions: Mutex<BTreeMap<PartitionIndex, Log>>,
    moved: Notify,
}

#[derive(Default)]
struct Log {
    batches: Vec<Batch>,
    end: Offset,
    high_watermark: Offset,
    epoch: LeaderEpoch,
    held: bool,
    refusal: Option<ErrorCode>,
    fenced: bool,
    /// The next append finds that the broker may not serve any more.
    fenced_by_append: bool,
    /// Reads that fail before one succeeds, and with what.
    failing_reads: Vec<ErrorCode>,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A new leadership; answers where the log ends.
    pub(crate) fn elect(&self, partition: PartitionIndex, epoch: u32) -> Offset {
        self.change(partition, |log| {
            log.epoch = LeaderEpoch(epoch);
            log.end
        })
    }

    /// What is appended from now on is not replicated.
    pub(crate) fn hold(&self, partition: PartitionIndex) {
        self.change(partition, |log| log.held = true);
    }

    /// Everything is replicated, and what follows is at once.
    pub(crate) fn release(&self, partition: PartitionIndex) {
        self.change(partition, |log| {
            log.held = false;
            log.high_watermark = log.end;
        });
    }

    /// What was not replicated is lost.
    pub(crate) fn truncate(&self, partition: PartitionIndex) {
        self.change(partition, |log| {
            log.batches
                .retain(|batch| batch.info().end_offset() <= log.high_watermark);
            log.end = log.high_watermark;
            log.held = false;
        });
    }

    /// Appends are refused with this, or not any more.
    pub(crate) fn refuse(&self, partition: PartitionIndex, refusal: Option<ErrorCode>) {
        self.change(partition, |log| log.refusal = refusal);
    }

    /// The broker may not serve for now, or again, though its epoch stands.
    pub(crate) fn fence(&self, partition: PartitionIndex, fenced: bool) {
        self.change(partition, |log| log.fenced = fenced);
    }

    /// The next append finds that the broker may not serve any more.
    pub(crate) fn fence_by_append(&self, partition: PartitionIndex) {
        self.change(partition, |log| log.fenced_by_append = true);
    }

    /// The next reads fail with these, the last of them first.
    pub(crate) fn fail_reads(&self, partition: PartitionIndex, errors: Vec<ErrorCode>) {
        self.change(partition, |log| log.failing_reads = errors);
    }

    pub(crate) fn end(&self, partition: PartitionIndex) -> Offset {
        self.change(partition, |log| log.end)
    }

    fn change<T>(&self, partition: PartitionIndex, change: impl FnOnce(&mut Log) -> T) -> T {
        let result = change(self.partitions.lock().entry(partition).or_default());
        self.moved.notify_waiters();
        result
    }

    fn led<T>(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        act: impl FnOnce(&mut Log) -> Result<T, PartitionError>,
    ) -> Result<T, PartitionError> {
        self.change(partition, |log| {
            if log.fenced {
                Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, "fenced"))
            } else if log.epoch == epoch {
                act(log)
            } else {
                Err(PartitionError::new(
                    ErrorCode::FencedLeaderEpoch,
                    format!("epoch is {}", log.epoch),
                ))
            }
        })
    }
}

impl StateLog for MemoryLog {
    fn check(&self, partition: PartitionIndex, epoch: LeaderEpoch) -> Result<(), PartitionError> {
        self.led(partition, epoch, |_| Ok(()))
    }

    async fn append(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        batch: Batch,
    ) -> Result<Offset, PartitionError> {
        self.led(partition, epoch, |log| {
            if std::mem::take(&mut log.fenced_by_append) {
                log.fenced = true;
                return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, "fenced"));
            }
            if let Some(code) = log.refusal {
                return Err(PartitionError::new(code, "refused by the test"));
            }
            let batch = batch.assign(log.end, epoch);
            log.end = batch.info().end_offset();
            log.batches.push(batch);
            if !log.held {
                log.high_watermark = log.end;
            }
            Ok(log.end)
        })
    }

    async fn read(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        from: Offset,
        _max_bytes: usize,
    ) -> Result<ReadRecords, PartitionError> {
        self.led(partition, epoch, |log| {
            if let Some(code) = log.failing_reads.pop() {
                return Err(PartitionError::new(code, "failed by the test"));
            }
            let wanted = log.batches.iter().filter(|batch| {
                let end = batch.info().end_offset();
                end > from && end <= log.high_watermark
            });
            // A few batches at a time, so that a load takes several reads.
            let batches: Vec<Batch> = wanted.take(3).cloned().collect();
            let next = batches.last().map_or(from, |batch| batch.info().end_offset());
            let batches = batches.into_iter().map(Batch::into_bytes).collect();
            Ok(ReadRecords {
                batches,
                next,
                high_watermark: log.high_watermark,
            })
        })
    }

    async fn high_watermark_above(
        &self,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
        seen: Offset,
    ) -> Result<Offset, PartitionError> {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let mut partitions = self.partitions.lock();
                let log = partitions.entry(partition).or_default();
                if log.fenced {
                    return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, "fenced"));
                }
                if log.epoch != epoch {
                    return Err(PartitionError::new(ErrorCode::FencedLeaderEpoch, "deposed"));
                }
                if log.high_watermark > seen {
                    return Ok(log.high_watermark);
                }
            }
            moved.await;
        }
    }
}
