//! The state of a modelled disk, and what each operation makes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidelog_types::{
    BatchInfo, EpochEntry, LeaderEpoch, LocalPartition, Offset, ProducerId, ProducerState, TopicIdPartition,
};

use crate::{Append, PartitionLog, Progress, ReadBatches, StoreError, Truncate};

/// A disk with all that is on it. Cloning shares the batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) logs: BTreeMap<LocalPartition, Log>,
    next_local: u32,
}

/// One partition on a disk.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) partition: TopicIdPartition,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    high_watermark: Offset,
    batches: BTreeMap<Offset, (BatchInfo, Bytes)>,
    epochs: BTreeMap<LeaderEpoch, Offset>,
    producers: BTreeMap<ProducerId, ProducerState>,
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Append(Append),
    Checkpoint(LocalPartition, Offset),
    Trim(LocalPartition, Offset),
    Truncate(Truncate),
    Create(TopicIdPartition),
    Delete(LocalPartition),
}

impl Write {
    /// Whether it is synced before anything else is written.
    pub(crate) fn is_synced(&self) -> bool {
        matches!(self, Self::Truncate(_) | Self::Create(_) | Self::Delete(_))
    }

    /// Bytes of batches in it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.batches.iter().map(|batch| batch.bytes.len()).sum(),
            _ => 0,
        }
    }
}

impl Disk {
    /// The number that the next partition gets.
    pub(crate) fn next_local(&self) -> LocalPartition {
        LocalPartition(self.next_local)
    }

    pub(crate) fn find(&self, partition: TopicIdPartition) -> Option<LocalPartition> {
        self.logs
            .iter()
            .find(|(_, log)| log.partition == partition)
            .map(|(&local, _)| local)
    }

    /// Performs a write. Gives where the log ends then, for those that are reported.
    pub(crate) fn apply(&mut self, write: &Write) -> Result<Option<Progress>, StoreError> {
        let (local, reported) = match write {
            Write::Create(partition) => {
                self.logs
                    .insert(LocalPartition(self.next_local), Log::new(*partition));
                self.next_local += 1;
                return Ok(None);
            }
            Write::Delete(local) => {
                self.logs.remove(local);
                return Ok(None);
            }
            Write::Append(append) => (append.partition, true),
            Write::Truncate(truncate) => (truncate.partition, true),
            Write::Trim(local, log_start) => (
                *local,
                self.logs.get(local).is_some_and(|log| *log_start > log.end),
            ),
            Write::Checkpoint(local, _) => (*local, false),
        };
        // Deleted meanwhile: nothing happens.
        let Some(log) = self.logs.get_mut(&local) else {
            return Ok(None);
        };
        match write {
            Write::Append(append) => log.append(append)?,
            Write::Truncate(truncate) => log.truncate(truncate),
            Write::Trim(_, log_start) => log.trim(*log_start),
            Write::Checkpoint(_, offset) => log.high_watermark = *offset,
            Write::Create(_) | Write::Delete(_) => {}
        }
        Ok(reported.then_some(Progress {
            partition: local,
            end: log.end,
        }))
    }
}

impl Log {
    fn new(partition: TopicIdPartition) -> Self {
        Self {
            partition,
            start: Offset::ZERO,
            end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            batches: BTreeMap::new(),
            epochs: BTreeMap::new(),
            producers: BTreeMap::new(),
        }
    }

    fn append(&mut self, append: &Append) -> Result<(), StoreError> {
        let mut end = self.end;
        for batch in &append.batches {
            if batch.info.base_offset != end {
                return Err(StoreError::Failed(format!(
                    "an append to {} begins at {}, its log ends at {end}",
                    append.partition, batch.info.base_offset
                )));
            }
            end = batch.info.end_offset();
        }
        self.end = end;
        let batches = append.batches.iter();
        self.batches
            .extend(batches.map(|batch| (batch.info.base_offset, (batch.info, batch.bytes.clone()))));
        self.epochs.extend(
            append
                .epochs
                .iter()
                .map(|entry| (entry.epoch, entry.start_offset)),
        );
        self.producers
            .extend(append.producers.iter().map(|state| (state.id, state.clone())));
        Ok(())
    }

    fn truncate(&mut self, truncate: &Truncate) {
        self.producers
            .extend(truncate.producers.iter().map(|state| (state.id, state.clone())));
        for producer in &truncate.forgotten {
            self.producers.remove(producer);
        }
        if truncate.to >= self.end {
            return;
        }
        let to = truncate.to.max(self.start);
        let spanning = self
            .batches
            .values()
            .map(|(info, _)| info)
            .find(|info| info.end_offset() > to);
        self.end = spanning
            .map_or(to, |info| info.base_offset.min(to))
            .max(self.start);
        self.batches.retain(|_, (info, _)| info.end_offset() <= to);
        self.epochs.retain(|_, start| *start < self.end);
        self.high_watermark = self.high_watermark.min(self.end);
    }

    fn trim(&mut self, log_start: Offset) {
        self.start = self.start.max(log_start);
        self.batches.retain(|_, (info, _)| info.end_offset() > log_start);
        if log_start > self.end {
            self.end = log_start;
            self.epochs.clear();
            self.producers.clear();
        }
    }

    /// What it remembers.
    pub(crate) fn load(&self) -> PartitionLog {
        let entry = |(&epoch, &start_offset)| EpochEntry { epoch, start_offset };
        let mut log = PartitionLog {
            log_start: self.start,
            log_end: self.end,
            high_watermark: self.high_watermark,
            epochs: self.epochs.iter().map(entry).collect(),
            producers: self.producers.values().cloned().collect(),
        };
        log.normalize();
        log
    }

    /// Bytes of batches in it.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.batches.values().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// What is between `from` and `until`, of what lies above the log start.
    pub(crate) fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> ReadBatches {
        let mut read = ReadBatches {
            batches: Vec::new(),
            next: from,
        };
        let mut bytes = 0;
        if from >= until {
            return read;
        }
        let wanted = self.batches.values().filter(|(info, _)| info.end_offset() > from);
        for (info, batch) in wanted.take_while(|(info, _)| info.base_offset < until) {
            bytes += batch.len();
            if bytes > max_bytes && !read.batches.is_empty() {
                break;
            }
            read.batches.push(batch.clone());
            read.next = info.end_offset();
        }
        read
    }

    /// The first batch from `start` on with so late a record.
    pub(crate) fn offset_for_timestamp(&self, start: Offset, timestamp_ms: i64) -> Option<Offset> {
        let mut batches = self
            .batches
            .values()
            .map(|(info, _)| info)
            .filter(|info| info.end_offset() > start);
        batches
            .find(|info| info.max_timestamp_ms >= timestamp_ms)
            .map(|info| info.base_offset)
    }
}
