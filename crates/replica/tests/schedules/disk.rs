//! A log store of one partition: what is enqueued is written, then synced, in order; a crash keeps a prefix.

use std::time::Duration;

use tidelog_replica::{EpochCache, LogState, ProducerTable};
use tidelog_types::{BatchInfo, Offset};

/// A batch and what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub info: BatchInfo,
    pub value: u64,
}

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<Entry>),
    Truncate(Offset),
    Checkpoint(Offset),
}

impl Op {
    fn is_reported(&self) -> bool {
        !matches!(self, Self::Checkpoint(_))
    }
}

/// Logs after each of the steps.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    base: Vec<Entry>,
    base_high_watermark: Offset,
    ops: Vec<Op>,
    written: usize,
    synced: usize,
}

impl Disk {
    pub fn append(&mut self, entries: Vec<Entry>) {
        self.ops.push(Op::Append(entries));
    }

    pub fn truncate(&mut self, to: Offset) {
        self.ops.push(Op::Truncate(to));
    }

    /// Notes the high watermark, in the same order as everything else.
    pub fn checkpoint(&mut self, high_watermark: Offset) {
        self.ops.push(Op::Checkpoint(high_watermark));
    }

    /// With everything enqueued.
    pub fn log(&self) -> Vec<Entry> {
        self.after(self.ops.len())
    }

    /// With what is written.
    pub fn written(&self) -> Vec<Entry> {
        self.after(self.written)
    }

    /// What any crash leaves.
    pub fn synced(&self) -> Vec<Entry> {
        self.after(self.synced)
    }

    /// Writes the oldest of what is enqueued, and says where the log ends then; of a checkpoint nothing is reported.
    pub fn step_write(&mut self) -> Option<Offset> {
        let op = self.ops.get(self.written)?;
        let reported = op.is_reported();
        self.written += 1;
        reported.then(|| end(&self.written()))
    }

    /// Syncs what is written, and says where the log ends then if anything of that is reported.
    pub fn step_sync(&mut self) -> Option<Offset> {
        let reported = self.ops[self.synced..self.written].iter().any(Op::is_reported);
        self.synced = self.written;
        reported.then(|| end(&self.synced()))
    }

    /// Loses all but the first `keep` of the unsynced writes.
    pub fn crash(&mut self, keep: usize) {
        let survived = (self.synced + keep).min(self.written);
        *self = Self {
            base: self.after(survived),
            base_high_watermark: self.noted(survived),
            ..Self::default()
        };
    }

    pub fn unsynced(&self) -> usize {
        self.written - self.synced
    }

    /// What a restart finds.
    pub fn load(&self) -> LogState {
        let log = self.log();
        let (epochs, producers) = replay(&log);
        let log_end = end(&log);
        LogState {
            log_start: Offset::ZERO,
            log_end,
            high_watermark: self.noted(self.ops.len()).min(log_end),
            epochs: epochs.entries().to_vec(),
            producers: producers.states(),
        }
    }

    fn after(&self, steps: usize) -> Vec<Entry> {
        let mut log = self.base.clone();
        for op in &self.ops[..steps] {
            match op {
                Op::Append(entries) => log.extend(entries),
                Op::Truncate(to) => log.retain(|entry| entry.info.base_offset < *to),
                Op::Checkpoint(_) => {}
            }
        }
        log
    }

    fn noted(&self, steps: usize) -> Offset {
        let noted = self.ops[..steps].iter().rev().find_map(|op| match op {
            Op::Checkpoint(high_watermark) => Some(*high_watermark),
            Op::Append(_) | Op::Truncate(_) => None,
        });
        noted.unwrap_or(self.base_high_watermark)
    }
}

pub fn end(log: &[Entry]) -> Offset {
    log.last().map_or(Offset::ZERO, |entry| entry.info.end_offset())
}

/// What a log remembers, by its batches alone.
pub fn replay(log: &[Entry]) -> (EpochCache, ProducerTable) {
    let (mut epochs, mut producers) = (EpochCache::default(), ProducerTable::default());
    for entry in log {
        epochs.replay(&entry.info);
        producers.replay(&entry.info, Duration::ZERO);
    }
    (epochs, producers)
}
