//! The disk of a broker's record store: one write-ahead log for all partitions, written, then synced.
//!
//! What is written can be read; what is synced survives a crash. A crash keeps what was synced and a prefix of what was written
//! after that, over all partitions alike, as one group-committed log does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidelog_group::Record;
use tidelog_history::event::Entry;
use tidelog_replica::LogState;
use tidelog_types::{
    BatchInfo, DirectoryId, EpochEntry, LeaderEpoch, Offset, ProducerId, ProducerState, TopicIdPartition,
};

use crate::random::Random;

/// A batch in a log.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Its header.
    pub(crate) info: BatchInfo,
    /// The same as histories name it.
    pub(crate) entry: Arc<Entry>,
    /// What a coordinator wrote in it.
    pub(crate) records: Option<Arc<Vec<Record>>>,
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Append {
        batches: Vec<Batch>,
        epochs: Vec<EpochEntry>,
        producers: Vec<ProducerState>,
    },
    Truncate {
        to: Offset,
        producers: Vec<ProducerState>,
        forgotten: Vec<ProducerId>,
    },
    Trim(Offset),
    Checkpoint(Offset),
}

type Step = (TopicIdPartition, Write);

/// A partition's log on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    batches: VecDeque<Batch>,
    epochs: BTreeMap<LeaderEpoch, Offset>,
    producers: BTreeMap<ProducerId, ProducerState>,
}

/// Where a partition's log ends after a step.
pub(crate) type Progress = (TopicIdPartition, Offset);

/// One data directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) directory: DirectoryId,
    queued: VecDeque<Step>,
    unsynced: VecDeque<Step>,
    written: BTreeMap<TopicIdPartition, Log>,
    synced: BTreeMap<TopicIdPartition, Log>,
    /// How many of the unsynced steps the sync that is under way covers.
    syncing: Option<usize>,
    /// A step that is synced before anything else is written has been written.
    barrier: bool,
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new(directory: DirectoryId) -> Self {
        Self {
            directory,
            queued: VecDeque::new(),
            unsynced: VecDeque::new(),
            written: BTreeMap::new(),
            synced: BTreeMap::new(),
            syncing: None,
            barrier: false,
        }
    }

    /// The partitions in it.
    pub(crate) fn partitions(&self) -> Vec<TopicIdPartition> {
        self.written.keys().copied().collect()
    }

    /// Makes a partition; returns when that is durable, as the real store does.
    pub(crate) fn create(&mut self, partition: TopicIdPartition) {
        self.written.entry(partition).or_default();
        self.synced.entry(partition).or_default();
    }

    /// Removes a partition, durably.
    pub(crate) fn delete(&mut self, partition: TopicIdPartition) {
        self.written.remove(&partition);
        self.synced.remove(&partition);
    }

    /// What a partition's log remembers.
    pub(crate) fn load(&self, partition: TopicIdPartition) -> LogState {
        self.written
            .get(&partition)
            .map_or_else(LogState::default, Log::load)
    }

    /// Everything in a partition's log, oldest first.
    pub(crate) fn entries(&self, partition: TopicIdPartition) -> Vec<Arc<Entry>> {
        let log = self.written.get(&partition);
        let batches = log.into_iter().flat_map(|log| &log.batches);
        batches.map(|batch| Arc::clone(&batch.entry)).collect()
    }

    /// Whole written batches from the one that holds `from` on, at most `max`, that begin below `until`.
    pub(crate) fn read(
        &self,
        partition: TopicIdPartition,
        from: Offset,
        until: Offset,
        max: usize,
    ) -> Vec<Batch> {
        self.written
            .get(&partition)
            .map_or_else(Vec::new, |log| log.read(from, until, max))
    }

    /// Takes a write to be done later, in order.
    pub(crate) fn enqueue(&mut self, partition: TopicIdPartition, write: Write) {
        self.queued.push_back((partition, write));
    }

    /// Whether something waits to be written and may be.
    pub(crate) fn may_write(&self) -> bool {
        !self.queued.is_empty() && !self.barrier
    }

    /// Whether something waits to be synced, and nothing is being synced.
    pub(crate) fn may_sync(&self) -> bool {
        self.syncing.is_none() && !self.unsynced.is_empty()
    }

    /// Writes at most `max` steps.
    pub(crate) fn write(&mut self, max: usize) -> Vec<Progress> {
        let mut progress = Vec::new();
        for _ in 0..max {
            if self.barrier {
                break;
            }
            let Some((partition, write)) = self.queued.pop_front() else {
                break;
            };
            self.barrier = matches!(write, Write::Truncate { .. });
            if let Some(log) = self.written.get_mut(&partition) {
                let is_told = log.moves_its_end(&write);
                log.apply(&write);
                if is_told {
                    progress.push((partition, log.end));
                }
            }
            self.unsynced.push_back((partition, write));
        }
        progress
    }

    /// Begins a sync of everything that is written.
    pub(crate) fn begin_sync(&mut self) {
        self.syncing = Some(self.unsynced.len());
    }

    /// A sync is done: says what became durable.
    pub(crate) fn end_sync(&mut self) -> Vec<Progress> {
        let count = self.syncing.take().unwrap_or(0);
        let touched = self.harden(count);
        let end = |partition: &TopicIdPartition| Some((*partition, self.synced.get(partition)?.end));
        touched.iter().filter_map(end).collect()
    }

    /// Loses what was not synced, except for a prefix of it that made it to the disk.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.unsynced.len() as u64 + 1) as usize;
        self.harden(kept);
        self.queued.clear();
        self.unsynced.clear();
        self.syncing = None;
        self.barrier = false;
        self.written = self.synced.clone();
    }

    /// Writes and syncs everything, as an orderly stop does.
    pub(crate) fn close(&mut self) {
        while !self.queued.is_empty() {
            self.barrier = false;
            self.write(usize::MAX);
        }
        self.harden(self.unsynced.len());
        self.syncing = None;
        self.barrier = false;
    }

    fn harden(&mut self, count: usize) -> BTreeSet<TopicIdPartition> {
        let mut touched = BTreeSet::new();
        for (partition, write) in self.unsynced.drain(..count) {
            self.barrier &= !matches!(write, Write::Truncate { .. });
            if let Some(log) = self.synced.get_mut(&partition) {
                if log.moves_its_end(&write) {
                    touched.insert(partition);
                }
                log.apply(&write);
            }
        }
        touched
    }
}

impl Log {
    /// Whether a write is told of, as the real store does: where it is about the log's end.
    fn moves_its_end(&self, write: &Write) -> bool {
        match write {
            Write::Append { .. } | Write::Truncate { .. } => true,
            Write::Trim(log_start) => *log_start > self.end,
            Write::Checkpoint(_) => false,
        }
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Append {
                batches,
                epochs,
                producers,
            } => {
                for batch in batches {
                    assert_eq!(
                        batch.info.base_offset, self.end,
                        "an append begins where the log on disk ends"
                    );
                    self.end = batch.info.end_offset();
                    self.batches.push_back(batch.clone());
                }
                let entries = epochs.iter().map(|entry| (entry.epoch, entry.start_offset));
                self.epochs.extend(entries);
                self.remember(producers);
            }
            Write::Truncate {
                to,
                producers,
                forgotten,
            } => {
                self.remember(producers);
                for producer in forgotten {
                    self.producers.remove(producer);
                }
                self.truncate(*to);
            }
            Write::Trim(log_start) => self.trim(*log_start),
            Write::Checkpoint(offset) => self.high_watermark = *offset,
        }
    }

    fn remember(&mut self, producers: &[ProducerState]) {
        self.producers
            .extend(producers.iter().map(|state| (state.id, state.clone())));
    }

    fn truncate(&mut self, to: Offset) {
        if to >= self.end {
            return;
        }
        let to = to.max(self.start);
        let mut end = to;
        while let Some(last) = self.batches.pop_back_if(|batch| batch.info.end_offset() > to) {
            end = end.min(last.info.base_offset);
        }
        self.end = end.max(self.start);
        self.epochs.retain(|_, start| *start < self.end);
        self.high_watermark = self.high_watermark.min(self.end);
    }

    fn trim(&mut self, log_start: Offset) {
        self.start = self.start.max(log_start);
        while self
            .batches
            .pop_front_if(|batch| batch.info.end_offset() <= log_start)
            .is_some()
        {}
        if log_start > self.end {
            self.end = log_start;
            self.epochs.clear();
            self.producers.clear();
        }
    }

    fn load(&self) -> LogState {
        let entry = |(&epoch, &start_offset): (&LeaderEpoch, &Offset)| EpochEntry { epoch, start_offset };
        let mut epochs: Vec<_> = self.epochs.iter().map(entry).collect();
        let later = epochs.partition_point(|entry| entry.start_offset <= self.start);
        if later > 0 {
            epochs.drain(..later - 1);
            epochs[0].start_offset = self.start;
        }
        LogState {
            log_start: self.start,
            log_end: self.end,
            high_watermark: self.high_watermark.max(self.start).min(self.end),
            epochs,
            producers: self.producers.values().cloned().collect(),
        }
    }

    fn read(&self, from: Offset, until: Offset, max: usize) -> Vec<Batch> {
        let first = self
            .batches
            .partition_point(|batch| batch.info.end_offset() <= from);
        let wanted = self.batches.range(first..);
        wanted
            .take_while(|batch| batch.info.base_offset < until)
            .take(max)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{PartitionIndex, TopicId};

    use super::*;

    fn partition(index: u32) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
            partition: PartitionIndex(index),
        }
    }

    fn append(base: u64) -> Write {
        let info = BatchInfo {
            base_offset: Offset(base),
            last_offset: Offset(base),
            leader_epoch: LeaderEpoch(1),
            max_timestamp_ms: 0,
            size_bytes: 1,
            producer: None,
        };
        let entry = Arc::new(Entry {
            base_offset: info.base_offset,
            leader_epoch: info.leader_epoch,
            values: Vec::new(),
            producer: None,
        });
        Write::Append {
            batches: vec![Batch {
                info,
                entry,
                records: None,
            }],
            epochs: Vec::new(),
            producers: Vec::new(),
        }
    }

    #[test]
    fn a_crash_keeps_a_prefix_over_all_partitions() {
        for seed in 0..50 {
            let mut disk = Disk::new(DirectoryId::from_slice(&[1; 16]).unwrap());
            disk.create(partition(0));
            disk.create(partition(1));
            for step in 0..6 {
                disk.enqueue(partition(step % 2), append(u64::from(step / 2)));
            }
            disk.write(2);
            disk.begin_sync();
            disk.write(3);
            assert_eq!(
                disk.end_sync(),
                [(partition(0), Offset(1)), (partition(1), Offset(1))]
            );
            disk.crash(&mut Random::new(seed));
            let ends = [
                disk.load(partition(0)).log_end.0,
                disk.load(partition(1)).log_end.0,
            ];
            assert!(ends[0] >= 1 && ends[1] >= 1, "what was synced is there: {ends:?}");
            assert!(ends[0] == ends[1] || ends[0] == ends[1] + 1, "a prefix: {ends:?}");
            assert!(ends[0] + ends[1] <= 5, "what was not written is gone: {ends:?}");
        }
    }

    #[test]
    fn nothing_is_written_behind_a_truncation_before_that_is_synced() {
        let mut disk = Disk::new(DirectoryId::from_slice(&[1; 16]).unwrap());
        disk.create(partition(0));
        let truncate = Write::Truncate {
            to: Offset(0),
            producers: Vec::new(),
            forgotten: Vec::new(),
        };
        for write in [append(0), truncate, append(0)] {
            disk.enqueue(partition(0), write);
        }
        assert_eq!(
            disk.write(9),
            [(partition(0), Offset(1)), (partition(0), Offset(0))]
        );
        assert!(!disk.may_write());
        disk.begin_sync();
        assert_eq!(disk.end_sync(), [(partition(0), Offset(0))]);
        assert_eq!(disk.write(9), [(partition(0), Offset(1))]);
    }
}
