//! The model of a store's disk: one log of writes over all partitions, without threads, clock or
//! chance.
//!
//! 1. [`Disk::enqueue`] takes a write. It cannot be read yet.
//! 2. [`Disk::write_next`] performs the oldest write that waits. It can be read.
//! 3. A sync makes durable everything that was written when it began ([`Disk::begin_sync`],
//!    [`Disk::end_sync`]). Writes go on meanwhile.
//! 4. A crash keeps what is durable and the oldest of the writes after it ([`Disk::crash`]): one
//!    prefix over all partitions.
//!
//! A truncation is synced alone: before a sync covers it, nothing is written behind it, and its
//! written end is not reported.
//!
//! The driver decides when each step happens, and how much of what is not synced a crash keeps.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use tidelog_types::{BatchInfo, EpochEntry, LeaderEpoch, Offset, ProducerId, ProducerState};

use crate::{PartitionLog, Progress, StoreError};

/// A batch as a driver keeps it. Clones share their payload.
pub trait Stored: Clone {
    /// The batch's header.
    fn info(&self) -> &BatchInfo;
}

/// A change of one partition's log; [`LogStore`](crate::LogStore) says what each does.
#[derive(Debug, Clone)]
pub enum Write<B> {
    /// Adds batches at the log end.
    Append {
        /// At least one, the first at the log end, each other one where the one before it ends.
        batches: Vec<B>,
        /// Leader epochs that begin with these batches.
        epochs: Vec<EpochEntry>,
        /// Changed producers, as they are after these batches.
        producers: Vec<ProducerState>,
    },
    /// Removes everything from an offset on.
    Truncate {
        /// The new log end. A batch that spans it goes too.
        to: Offset,
        /// Changed producers, as they are afterwards.
        producers: Vec<ProducerState>,
        /// Producers of whom nothing is left.
        forgotten: Vec<ProducerId>,
    },
    /// Advances the log start.
    Trim(Offset),
    /// Notes the high watermark.
    Checkpoint(Offset),
}

impl<B> Write<B> {
    /// Whether it is synced before anything is written behind it, and before it is reported.
    const fn is_synced_alone(&self) -> bool {
        matches!(self, Self::Truncate { .. })
    }
}

/// The progress that a sync brings, in the order in which it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced<P> {
    /// The written end after a truncation, which is reported once it is durable.
    pub written: Option<Progress<P>>,
    /// What became durable.
    pub durable: Vec<Progress<P>>,
}

/// The disk of one data directory. `P` names a partition, and no two partitions ever; `B` is a
/// batch.
#[derive(Debug, Clone)]
pub struct Disk<P, B> {
    queued: VecDeque<(P, Write<B>)>,
    /// With everything written.
    written: BTreeMap<P, Log<B>>,
    /// As a crash leaves it that loses everything no sync covered.
    durable: BTreeMap<P, Log<B>>,
    /// What is in `written` and not in `durable`, oldest first.
    unsynced: VecDeque<(P, Write<B>)>,
    /// How many of the unsynced writes the sync that is under way covers.
    syncing: Option<usize>,
    /// A write that is synced alone is among the unsynced ones, as the last of them.
    is_blocked: bool,
    /// Log starts that were asked for: what lies below is unreadable at once.
    raised: BTreeMap<P, Offset>,
}

impl<P, B> Default for Disk<P, B> {
    fn default() -> Self {
        Self {
            queued: VecDeque::new(),
            written: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: VecDeque::new(),
            syncing: None,
            is_blocked: false,
            raised: BTreeMap::new(),
        }
    }
}

impl<P: Copy + Ord + Display, B: Stored> Disk<P, B> {
    /// The partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = P> {
        self.written.keys().copied()
    }

    /// Whether the partition is here.
    pub fn contains(&self, partition: P) -> bool {
        self.written.contains_key(&partition)
    }

    /// Makes an empty partition, durably and at once. What is queued or unsynced stays so: a driver
    /// whose store waits for that first does so itself.
    ///
    /// # Panics
    /// If the partition is here.
    pub fn create(&mut self, partition: P) {
        assert!(!self.contains(partition), "{partition} is created once");
        self.written.insert(partition, Log::default());
        self.durable.insert(partition, Log::default());
    }

    /// Removes a partition, durably and at once. Writes to it that are queued or unsynced do
    /// nothing.
    pub fn delete(&mut self, partition: P) {
        self.written.remove(&partition);
        self.durable.remove(&partition);
        self.raised.remove(&partition);
    }

    /// What a partition's written log remembers; `None` without such a partition.
    pub fn load(&self, partition: P) -> Option<PartitionLog> {
        self.written.get(&partition).map(Log::load)
    }

    /// The first readable offset: the log start, or a higher one that was asked for and is not yet
    /// written. 0 without such a partition.
    pub fn readable_start(&self, partition: P) -> Offset {
        let start = self.written.get(&partition).map(|log| log.start);
        start
            .max(self.raised.get(&partition).copied())
            .unwrap_or_default()
    }

    /// The written batches from the one that holds `from`, or the first after it, up to the first
    /// that begins at `until`; none that ends at or below [`Disk::readable_start`].
    pub fn read(&self, partition: P, from: Offset, until: Offset) -> impl Iterator<Item = &B> {
        let from = from.max(self.readable_start(partition));
        let log = self.written.get(&partition).filter(|_| from < until);
        log.into_iter().flat_map(move |log| log.read(from, until))
    }

    /// Every written batch of a partition, oldest first.
    pub fn batches(&self, partition: P) -> impl Iterator<Item = &B> {
        self.written
            .get(&partition)
            .into_iter()
            .flat_map(|log| &log.batches)
    }

    /// Takes a write, which is performed after those taken before it.
    pub fn enqueue(&mut self, partition: P, write: Write<B>) {
        if let Write::Trim(log_start) = write
            && self.contains(partition)
        {
            let raised = self.raised.entry(partition).or_default();
            *raised = log_start.max(*raised);
        }
        self.queued.push_back((partition, write));
    }

    /// Bytes of the batches that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        let batches = self.queued.iter().flat_map(|(_, write)| match write {
            Write::Append { batches, .. } => batches.as_slice(),
            _ => &[],
        });
        batches.map(|batch| batch.info().size_bytes as usize).sum()
    }

    /// Forgets what waits to be written, as a store does that failed.
    pub fn forget_queued(&mut self) {
        self.queued.clear();
    }

    /// How many writes a crash may lose.
    pub fn unsynced_writes(&self) -> usize {
        self.unsynced.len()
    }

    /// Whether something waits to be written and may be.
    pub fn may_write(&self) -> bool {
        !self.queued.is_empty() && !self.is_blocked
    }

    /// Whether something waits to be written behind a write that is synced alone.
    pub fn is_held_up(&self) -> bool {
        !self.queued.is_empty() && self.is_blocked
    }

    /// Whether something waits to be synced, and nothing is being synced.
    pub fn may_sync(&self) -> bool {
        self.syncing.is_none() && !self.unsynced.is_empty()
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Performs the oldest write that waits, if it may be ([`Disk::may_write`]). Gives the progress
    /// to report. A write to a partition that is not here does nothing.
    ///
    /// # Errors
    /// An append that leaves a hole or begins within the log. Nothing of it is written.
    pub fn write_next(&mut self) -> Result<Option<Progress<P>>, StoreError> {
        if self.is_blocked {
            return Ok(None);
        }
        let Some((partition, write)) = self.queued.pop_front() else {
            return Ok(None);
        };
        let progress = perform(&mut self.written, partition, &write)?;
        self.is_blocked = write.is_synced_alone();
        self.unsynced.push_back((partition, write));
        Ok(progress.filter(|_| !self.is_blocked))
    }

    /// Begins a sync of everything that is written.
    pub fn begin_sync(&mut self) {
        self.syncing = Some(self.unsynced.len());
    }

    /// Ends the sync that was begun, if one was: what it covers is durable.
    pub fn end_sync(&mut self) -> Synced<P> {
        let count = self.syncing.take().unwrap_or(0);
        self.harden(count)
    }

    /// Loses what is queued, and of the unsynced writes all but the oldest `kept`. Those become
    /// durable.
    ///
    /// # Panics
    /// If a log that is left ends below its noted high watermark: no store opens on it.
    pub fn crash(&mut self, kept: usize) {
        self.harden(kept.min(self.unsynced.len()));
        self.check_opens();
        *self = Self {
            written: self.durable.clone(),
            durable: std::mem::take(&mut self.durable),
            ..Self::default()
        };
    }

    /// Writes and syncs everything, as an orderly stop does. Nothing is reported.
    ///
    /// # Errors
    /// As [`Disk::write_next`].
    ///
    /// # Panics
    /// As [`Disk::crash`].
    pub fn close(&mut self) -> Result<(), StoreError> {
        loop {
            while self.may_write() {
                self.write_next()?;
            }
            self.harden(self.unsynced.len());
            self.syncing = None;
            if self.queued.is_empty() {
                self.check_opens();
                return Ok(());
            }
        }
    }

    /// Checks what a store checks when it opens: that no log ends below its noted high watermark.
    fn check_opens(&self) {
        for (partition, log) in &self.durable {
            let (noted, end) = (log.high_watermark, log.end);
            assert!(
                noted <= end,
                "{partition} ends at {end}, and {noted} was committed"
            );
        }
    }

    fn harden(&mut self, count: usize) -> Synced<P> {
        let (mut written, mut durable) = (None, Vec::new());
        for (partition, write) in self.unsynced.drain(..count) {
            let progress = perform(&mut self.durable, partition, &write)
                .expect("it was performed on what is written before");
            if write.is_synced_alone() {
                self.is_blocked = false;
                written = progress;
            }
            durable.extend(progress);
        }
        Synced {
            written,
            durable: Progress::merged(durable),
        }
    }
}

/// Performs a write. Gives the log's end, if the write is reported.
fn perform<P: Copy + Ord + Display, B: Stored>(
    logs: &mut BTreeMap<P, Log<B>>,
    partition: P,
    write: &Write<B>,
) -> Result<Option<Progress<P>>, StoreError> {
    let Some(log) = logs.get_mut(&partition) else {
        return Ok(None);
    };
    let is_reported = match write {
        Write::Append {
            batches,
            epochs,
            producers,
        } => {
            log.append(partition, batches)?;
            let begun = epochs.iter().map(|entry| (entry.epoch, entry.start_offset));
            log.epochs.extend(begun);
            log.remember(producers);
            true
        }
        Write::Truncate {
            to,
            producers,
            forgotten,
        } => {
            log.truncate(*to);
            log.remember(producers);
            for producer in forgotten {
                log.producers.remove(producer);
            }
            true
        }
        Write::Trim(log_start) => log.trim(*log_start),
        Write::Checkpoint(offset) => {
            log.high_watermark = *offset;
            false
        }
    };
    Ok(is_reported.then_some(Progress {
        partition,
        end: log.end,
    }))
}

/// One partition's log.
#[derive(Debug, Clone)]
struct Log<B> {
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    batches: VecDeque<B>,
    epochs: BTreeMap<LeaderEpoch, Offset>,
    producers: BTreeMap<ProducerId, ProducerState>,
}

impl<B> Default for Log<B> {
    fn default() -> Self {
        Self {
            start: Offset::ZERO,
            end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            batches: VecDeque::new(),
            epochs: BTreeMap::new(),
            producers: BTreeMap::new(),
        }
    }
}

impl<B: Stored> Log<B> {
    fn append(&mut self, partition: impl Display, batches: &[B]) -> Result<(), StoreError> {
        let mut end = self.end;
        for info in batches.iter().map(Stored::info) {
            if info.base_offset != end {
                return Err(StoreError::Failed(format!(
                    "an append to {partition} begins at {}, its log ends at {end}",
                    info.base_offset
                )));
            }
            end = info.end_offset();
        }
        self.end = end;
        self.batches.extend(batches.iter().cloned());
        Ok(())
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
        while let Some(last) = self.batches.pop_back_if(|batch| batch.info().end_offset() > to) {
            end = end.min(last.info().base_offset);
        }
        self.end = end.max(self.start);
        self.epochs.retain(|_, start| *start < self.end);
        self.high_watermark = self.high_watermark.min(self.end);
    }

    /// Whether the log was left behind, and is empty: its end moved.
    fn trim(&mut self, log_start: Offset) -> bool {
        self.start = self.start.max(log_start);
        while self
            .batches
            .pop_front_if(|batch| batch.info().end_offset() <= log_start)
            .is_some()
        {}
        let is_left_behind = log_start > self.end;
        if is_left_behind {
            self.end = log_start;
            self.epochs.clear();
            self.producers.clear();
        }
        is_left_behind
    }

    fn load(&self) -> PartitionLog {
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

    fn read(&self, from: Offset, until: Offset) -> impl Iterator<Item = &B> {
        let first = self
            .batches
            .partition_point(|batch| batch.info().end_offset() <= from);
        let wanted = self.batches.range(first..);
        wanted.take_while(move |batch| batch.info().base_offset < until)
    }
}
