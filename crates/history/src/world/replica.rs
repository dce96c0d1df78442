//! One replica's log, as its broker's events tell of it.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelog_types::{LeaderEpoch, Offset};

use crate::event::Entry;

/// The epoch of what stood below the log start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Nothing did, or it was truncated.
    Nothing,
    /// It was trimmed.
    Epoch(LeaderEpoch),
    /// An empty log was recovered: what its cache remembers cannot be told from it.
    Unknown,
}

/// One replica of one partition, on one disk.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) log_start: Offset,
    /// The log end offset.
    pub(crate) end: Offset,
    /// What is in the log, oldest first. The first batch may begin below the log start.
    pub(crate) entries: VecDeque<Arc<Entry>>,
    /// Up to where the disk keeps it.
    pub(crate) durable_end: Offset,
    /// Its high watermark in this life. A former life's counts as far as it was noted on the disk,
    /// which the replica says: a recovered log may hold what a truncation that did not reach the
    /// disk had removed.
    pub(crate) high_watermark: Offset,
    /// Up to where it was compared with the committed log and found equal.
    pub(crate) agreed: Offset,
    pub(crate) floor: Floor,
    /// The last epoch in which this life of it led.
    pub(crate) leads: Option<LeaderEpoch>,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            log_start: Offset::ZERO,
            end: Offset::ZERO,
            entries: VecDeque::new(),
            durable_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            agreed: Offset::ZERO,
            floor: Floor::Nothing,
            leads: None,
        }
    }
}

impl Replica {
    /// What stands at or after an offset, the batch that holds it included.
    pub(crate) fn entries_from(&self, offset: Offset) -> impl Iterator<Item = &Arc<Entry>> {
        let first = self.entries.partition_point(|entry| entry.end_offset() <= offset);
        self.entries.range(first..)
    }

    /// The epoch of the last batch.
    pub(crate) fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.entries.back().map(|entry| entry.leader_epoch)
    }

    pub(super) fn recover(&mut self, log_start: Offset, log: &[Arc<Entry>]) {
        self.entries = log.iter().cloned().collect();
        self.log_start = log_start;
        self.end = log
            .last()
            .map_or(log_start, |entry| entry.end_offset().max(log_start));
        self.durable_end = self.end;
        self.high_watermark = log_start;
        self.agreed = log_start;
        // A restarted broker leads in no epoch until it is given one.
        self.leads = None;
        self.floor = match self.entries.front() {
            Some(first) if first.base_offset < log_start => Floor::Epoch(first.leader_epoch),
            Some(_) => Floor::Nothing,
            None => Floor::Unknown,
        };
    }

    pub(super) fn append(&mut self, entry: &Arc<Entry>) {
        self.end = entry.end_offset();
        self.entries.push_back(Arc::clone(entry));
    }

    pub(super) fn sync(&mut self, end: Offset) {
        self.durable_end = self.durable_end.max(end);
    }

    pub(super) fn truncate(&mut self, to: Offset) {
        while self
            .entries
            .pop_back_if(|entry| entry.base_offset >= to)
            .is_some()
        {}
        if to <= self.log_start {
            // Nothing readable is left, and nothing is remembered of a batch that held the log
            // start.
            self.entries.clear();
            self.floor = Floor::Nothing;
        }
        self.end = self.end.min(to);
        self.durable_end = self.durable_end.min(to);
        self.high_watermark = self.high_watermark.min(to);
        self.agreed = self.agreed.min(to);
    }

    pub(super) fn trim(&mut self, log_start: Offset) {
        if log_start > self.end || log_start < self.log_start {
            // The log begins anew: its leader has nothing that goes on from what was here.
            self.entries.clear();
            self.floor = Floor::Nothing;
            self.end = log_start;
            self.durable_end = log_start;
            self.high_watermark = log_start;
            self.agreed = log_start;
        }
        self.log_start = log_start;
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.end_offset() <= log_start) {
            self.floor = Floor::Epoch(entry.leader_epoch);
        }
        if let Some(first) = self.entries.front()
            && first.base_offset < log_start
        {
            self.floor = Floor::Epoch(first.leader_epoch);
        }
        self.high_watermark = self.high_watermark.max(log_start);
        self.agreed = self.agreed.max(log_start);
    }
}
