//! A [`LogStore`] in memory, on the model of a disk.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_types::{BatchInfo, LocalPartition, Offset, TopicIdPartition};

use crate::disk::{Disk, Stored, Synced, Write};
use crate::{
    Append, BatchToAppend, LogStore, PartitionLog, ReadBatches, StoreError, StoreListener, StoredPartition,
    Truncate,
};

/// Partition logs in memory, for tests. It moves only when it is told to
/// ([`MemoryStore::step_write`], [`MemoryStore::step_sync`], [`MemoryStore::crash`]) and in calls
/// that block, which write everything enqueued first. Listeners are called by the caller of the
/// step.
pub struct MemoryStore {
    listener: Arc<dyn StoreListener>,
    state: Mutex<State>,
    /// Held over a step and its report, so that reports keep the order of the steps.
    stepping: Mutex<()>,
}

#[derive(Default)]
struct State {
    disk: Disk<LocalPartition, BatchToAppend>,
    partitions: BTreeMap<LocalPartition, TopicIdPartition>,
    next_local: u32,
    failure: Option<StoreError>,
}

impl Stored for BatchToAppend {
    fn info(&self) -> &BatchInfo {
        &self.info
    }
}

impl State {
    fn check(&self) -> Result<(), StoreError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Checks also that a partition is here.
    fn check_holds(&self, local: LocalPartition) -> Result<(), StoreError> {
        self.check()?;
        if self.disk.contains(local) {
            return Ok(());
        }
        Err(StoreError::UnknownPartition(local))
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(listener: Arc<dyn StoreListener>) -> Arc<Self> {
        Arc::new(Self {
            listener,
            state: Mutex::default(),
            stepping: Mutex::new(()),
        })
    }

    /// Writes the oldest of what is enqueued. False if there is nothing, if the store failed, or if
    /// a truncation has to be synced first.
    pub fn step_write(&self) -> bool {
        let _stepping = self.stepping.lock();
        self.write_next()
    }

    /// Syncs everything written. False if there was nothing to sync.
    pub fn step_sync(&self) -> bool {
        let _stepping = self.stepping.lock();
        self.sync()
    }

    /// Begins a sync of everything written, for [`MemoryStore::end_sync`] to end. False if there is
    /// nothing to sync, or a sync is under way.
    pub fn begin_sync(&self) -> bool {
        let _stepping = self.stepping.lock();
        self.begin()
    }

    /// Ends the sync that is under way. False if there is none.
    pub fn end_sync(&self) -> bool {
        let _stepping = self.stepping.lock();
        self.end()
    }

    /// How many writes a crash may lose: those written and not synced.
    pub fn unsynced_writes(&self) -> usize {
        self.state.lock().disk.unsynced_writes()
    }

    /// The machine stops and starts again: what was enqueued is lost, and of the unsynced writes
    /// all but the first `survivors`. What is left is durable then. A failed store is whole again.
    /// Nothing is reported.
    pub fn crash(&self, survivors: usize) {
        let _stepping = self.stepping.lock();
        let mut state = self.state.lock();
        state.failure = None;
        state.disk.crash(survivors);
    }

    /// The process ends in order and starts again: what was enqueued is written and synced. Nothing
    /// is reported.
    pub fn restart(&self) -> Result<(), StoreError> {
        let _stepping = self.stepping.lock();
        let mut state = self.state.lock();
        state.check()?;
        state.disk.close()
    }

    /// The disk fails: the store is poisoned until the next [`MemoryStore::crash`].
    pub fn fail(&self, reason: &str) {
        let _stepping = self.stepping.lock();
        self.poison(StoreError::Failed(reason.to_owned()));
    }

    fn poison(&self, error: StoreError) {
        {
            let mut state = self.state.lock();
            state.disk.forget_queued();
            if state.failure.is_some() {
                return;
            }
            state.failure = Some(error.clone());
        }
        self.listener.failed(&error);
    }

    /// Writes the oldest of what is enqueued and reports it. False if nothing may be written. The
    /// caller holds `stepping`, here and below.
    fn write_next(&self) -> bool {
        let written = {
            let mut state = self.state.lock();
            if state.failure.is_some() || !state.disk.may_write() {
                return false;
            }
            state.disk.write_next()
        };
        match written {
            Ok(progress) => self.report(&Synced {
                written: progress,
                durable: Vec::new(),
            }),
            Err(error) => self.poison(error),
        }
        true
    }

    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let may_begin = state.failure.is_none() && state.disk.may_sync();
        if may_begin {
            state.disk.begin_sync();
        }
        may_begin
    }

    fn end(&self) -> bool {
        let synced = {
            let mut state = self.state.lock();
            if state.failure.is_some() || !state.disk.is_syncing() {
                return false;
            }
            state.disk.end_sync()
        };
        self.report(&synced);
        true
    }

    /// Ends a sync that is under way, then makes one of everything written.
    fn sync(&self) -> bool {
        let ended = self.end();
        (self.begin() && self.end()) || ended
    }

    fn report(&self, progress: &Synced<LocalPartition>) {
        if let Some(written) = progress.written {
            self.listener.written(&[written]);
        }
        if !progress.durable.is_empty() {
            self.listener.durable(&progress.durable);
        }
    }

    /// Writes everything enqueued.
    fn drain(&self) -> Result<(), StoreError> {
        loop {
            while self.write_next() {}
            let is_held_up = self.state.lock().disk.is_held_up();
            if !(is_held_up && self.sync()) {
                return self.state.lock().check();
            }
        }
    }

    fn push(&self, partition: LocalPartition, write: Write<BatchToAppend>) {
        let mut state = self.state.lock();
        if state.failure.is_none() {
            state.disk.enqueue(partition, write);
        }
    }
}

impl LogStore for MemoryStore {
    fn partitions(&self) -> Result<Vec<StoredPartition>, StoreError> {
        let state = self.state.lock();
        state.check()?;
        let stored = |(&local, &partition): (_, _)| StoredPartition { local, partition };
        Ok(state.partitions.iter().map(stored).collect())
    }

    fn create(&self, partition: TopicIdPartition) -> Result<LocalPartition, StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        self.sync();
        let mut state = self.state.lock();
        let found = state.partitions.iter().find(|(_, here)| **here == partition);
        if let Some((&local, _)) = found {
            return Err(StoreError::AlreadyExists { partition, local });
        }
        let local = LocalPartition(state.next_local);
        state.next_local += 1;
        state.partitions.insert(local, partition);
        state.disk.create(local);
        Ok(local)
    }

    fn delete(&self, partition: LocalPartition) -> Result<(), StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        self.sync();
        let mut state = self.state.lock();
        state.check_holds(partition)?;
        state.partitions.remove(&partition);
        state.disk.delete(partition);
        Ok(())
    }

    fn load(&self, partition: LocalPartition) -> Result<PartitionLog, StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        let log = self.state.lock().disk.load(partition);
        log.ok_or(StoreError::UnknownPartition(partition))
    }

    fn append(&self, append: Append) {
        let Append {
            partition,
            batches,
            epochs,
            producers,
        } = append;
        let write = Write::Append {
            batches,
            epochs,
            producers,
        };
        self.push(partition, write);
    }

    fn truncate(&self, truncate: Truncate) {
        let Truncate {
            partition,
            to,
            producers,
            forgotten,
        } = truncate;
        let write = Write::Truncate {
            to,
            producers,
            forgotten,
        };
        self.push(partition, write);
    }

    fn trim(&self, partition: LocalPartition, log_start: Offset) {
        self.push(partition, Write::Trim(log_start));
    }

    fn checkpoint(&self, partition: LocalPartition, high_watermark: Offset) {
        self.push(partition, Write::Checkpoint(high_watermark));
    }

    fn read_cached(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        self.read(partition, from, until, max_bytes).ok()
    }

    fn read(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, StoreError> {
        let state = self.state.lock();
        state.check_holds(partition)?;
        let mut read = ReadBatches {
            batches: Vec::new(),
            next: from.max(state.disk.readable_start(partition)),
        };
        let mut bytes = 0;
        for batch in state.disk.read(partition, from, until) {
            bytes += batch.bytes.len();
            if bytes > max_bytes && !read.batches.is_empty() {
                break;
            }
            read.batches.push(batch.bytes.clone());
            read.next = batch.info.end_offset();
        }
        Ok(read)
    }

    fn offset_for_timestamp(
        &self,
        partition: LocalPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, StoreError> {
        let state = self.state.lock();
        state.check_holds(partition)?;
        let mut batches = state.disk.read(partition, Offset::ZERO, Offset::MAX);
        let found = batches.find(|batch| batch.info.max_timestamp_ms >= timestamp_ms);
        Ok(found.map(|batch| batch.info.base_offset))
    }

    fn size_bytes(&self, partition: LocalPartition) -> Result<u64, StoreError> {
        let state = self.state.lock();
        state.check_holds(partition)?;
        let batches = state.disk.batches(partition);
        Ok(batches.map(|batch| u64::from(batch.info.size_bytes)).sum())
    }

    fn queued_bytes(&self) -> usize {
        self.state.lock().disk.queued_bytes()
    }
}
