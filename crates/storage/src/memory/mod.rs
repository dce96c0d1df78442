//! The in-memory model of a [`LogStore`]: what the engine is held to, and what simulations and tests run on.

mod disk;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};
use tidelog_types::{LocalPartition, Offset, TopicIdPartition};

use self::disk::{Disk, Write};
use crate::{
    Append, LogStore, PartitionLog, Progress, ReadBatches, StoreError, StoreListener, StoredPartition,
    Truncate,
};

/// Partition logs in memory, with a disk's manners: what is enqueued is written by one step, made durable by another, and a crash
/// loses what no sync covered.
///
/// [`MemoryStore::new`] gives one that moves only when it is told to ([`MemoryStore::step_write`],
/// [`MemoryStore::step_sync`], [`MemoryStore::crash`]), so that a simulation decides what happens when; listeners are called
/// by the caller of the step. [`MemoryStore::auto`] gives one that writes and syncs by itself, on a thread of its own.
pub struct MemoryStore {
    listener: Arc<dyn StoreListener>,
    model: Mutex<Model>,
    /// Held over a step and its report, so that reports keep the order of the steps.
    stepping: Mutex<()>,
    arrived: Condvar,
}

#[derive(Default)]
struct Model {
    queued: VecDeque<Write>,
    /// With everything written.
    written: Disk,
    /// As it would be after a crash that loses all that no sync covered.
    durable: Disk,
    /// What is in `written` and not in `durable`, in order.
    unsynced: Vec<Write>,
    /// Log starts that were asked for: unreadable at once.
    raised: HashMap<LocalPartition, Offset>,
    failure: Option<StoreError>,
}

impl Model {
    fn check(&self) -> Result<(), StoreError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn log(&self, local: LocalPartition) -> Result<&disk::Log, StoreError> {
        self.check()?;
        self.written
            .logs
            .get(&local)
            .ok_or(StoreError::UnknownPartition(local))
    }

    fn start_of(&self, local: LocalPartition, log: &disk::Log) -> Offset {
        self.raised
            .get(&local)
            .map_or(log.start, |&raised| raised.max(log.start))
    }

    /// Syncs everything written. Gives what that made durable.
    fn sync(&mut self) -> Vec<Progress> {
        let mut progress: Vec<Progress> = Vec::new();
        for write in std::mem::take(&mut self.unsynced) {
            let step = self
                .durable
                .apply(&write)
                .expect("it was applied to what is written before");
            progress.extend(step);
        }
        progress
    }
}

impl MemoryStore {
    /// An empty store that moves only by steps.
    pub fn new(listener: Arc<dyn StoreListener>) -> Arc<Self> {
        Arc::new(Self {
            listener,
            model: Mutex::default(),
            stepping: Mutex::new(()),
            arrived: Condvar::new(),
        })
    }

    /// An empty store that writes and syncs whatever is enqueued at once, on a thread that ends with the store.
    ///
    /// # Panics
    /// If no thread can be started.
    pub fn auto(listener: Arc<dyn StoreListener>) -> Arc<Self> {
        let store = Self::new(listener);
        let weak = Arc::downgrade(&store);
        std::thread::Builder::new()
            .name("store-memory".to_owned())
            .spawn(move || run(&weak))
            .expect("a test's process may start a thread");
        store
    }

    /// Writes the oldest of what is enqueued. False if there is nothing.
    pub fn step_write(&self) -> bool {
        let _stepping = self.stepping.lock();
        self.write_next().is_some()
    }

    /// Syncs everything written. False if there was nothing to sync.
    pub fn step_sync(&self) -> bool {
        let _stepping = self.stepping.lock();
        let progress = {
            let mut model = self.model.lock();
            if model.failure.is_some() || model.unsynced.is_empty() {
                return false;
            }
            model.sync()
        };
        self.report_durable(&progress);
        true
    }

    /// How many writes a crash may lose: those written and not synced.
    pub fn unsynced_writes(&self) -> usize {
        self.model.lock().unsynced.len()
    }

    /// The machine stops and starts again: what was enqueued is lost, and of the unsynced writes all but the first
    /// `survivors`. What is left is durable then. A failed store is whole again. Nothing is reported.
    pub fn crash(&self, survivors: usize) {
        let _stepping = self.stepping.lock();
        let mut model = self.model.lock();
        model.queued.clear();
        model.raised.clear();
        model.failure = None;
        model.unsynced.truncate(survivors);
        model.sync();
        model.written = model.durable.clone();
    }

    /// The disk fails: the store is poisoned until the next [`MemoryStore::crash`].
    pub fn fail(&self, reason: &str) {
        let _stepping = self.stepping.lock();
        self.poison(StoreError::Failed(reason.to_owned()));
    }

    fn poison(&self, error: StoreError) {
        let first = {
            let mut model = self.model.lock();
            model.queued.clear();
            let first = model.failure.is_none();
            model.failure.get_or_insert_with(|| error.clone());
            first
        };
        if first {
            self.listener.failed(&error);
        }
    }

    /// Writes the oldest of what is enqueued and reports it. The caller holds `stepping`.
    fn write_next(&self) -> Option<()> {
        let (step, durable) = {
            let mut model = self.model.lock();
            model.check().ok()?;
            let write = model.queued.pop_front()?;
            match model.written.apply(&write) {
                Ok(step) => {
                    let synced = write.is_synced();
                    model.unsynced.push(write);
                    let durable = if synced { model.sync() } else { Vec::new() };
                    (step, durable)
                }
                Err(error) => {
                    drop(model);
                    self.poison(error);
                    return Some(());
                }
            }
        };
        if let Some(step) = step {
            self.listener.written(&[step]);
        }
        self.report_durable(&durable);
        Some(())
    }

    fn report_durable(&self, progress: &[Progress]) {
        if !progress.is_empty() {
            self.listener.durable(progress);
        }
    }

    /// Writes everything enqueued.
    fn drain(&self) -> Result<(), StoreError> {
        while self.write_next().is_some() {}
        self.model.lock().check()
    }

    fn push(&self, write: Write) {
        let mut model = self.model.lock();
        if model.failure.is_none() {
            model.queued.push_back(write);
            self.arrived.notify_all();
        }
    }
}

/// Writes and syncs what arrives, for as long as the store lives.
fn run(store: &Weak<MemoryStore>) {
    /// How often it looks whether the store is still there.
    const LOOK: std::time::Duration = std::time::Duration::from_millis(50);
    while let Some(store) = store.upgrade() {
        while store.step_write() {}
        store.step_sync();
        let mut model = store.model.lock();
        if model.queued.is_empty() {
            store.arrived.wait_for(&mut model, LOOK);
        }
    }
}

impl LogStore for MemoryStore {
    fn partitions(&self) -> Result<Vec<StoredPartition>, StoreError> {
        let model = self.model.lock();
        model.check()?;
        let stored = |(&local, log): (_, &disk::Log)| StoredPartition {
            local,
            partition: log.partition,
        };
        Ok(model.written.logs.iter().map(stored).collect())
    }

    fn create(&self, partition: TopicIdPartition) -> Result<LocalPartition, StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        let local = {
            let mut model = self.model.lock();
            if let Some(local) = model.written.find(partition) {
                return Err(StoreError::AlreadyExists { partition, local });
            }
            let local = model.written.next_local();
            model.queued.push_front(Write::Create(partition));
            local
        };
        self.write_next();
        self.model.lock().check().map(|()| local)
    }

    fn delete(&self, partition: LocalPartition) -> Result<(), StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        {
            let mut model = self.model.lock();
            model.log(partition)?;
            model.raised.remove(&partition);
            model.queued.push_front(Write::Delete(partition));
        }
        self.write_next();
        self.model.lock().check()
    }

    fn load(&self, partition: LocalPartition) -> Result<PartitionLog, StoreError> {
        let _stepping = self.stepping.lock();
        self.drain()?;
        self.model.lock().log(partition).map(disk::Log::load)
    }

    fn append(&self, append: Append) {
        self.push(Write::Append(append));
    }

    fn truncate(&self, truncate: Truncate) {
        self.push(Write::Truncate(truncate));
    }

    fn trim(&self, partition: LocalPartition, log_start: Offset) {
        {
            let mut model = self.model.lock();
            let raised = model.raised.entry(partition).or_default();
            *raised = log_start.max(*raised);
        }
        self.push(Write::Trim(partition, log_start));
    }

    fn checkpoint(&self, partition: LocalPartition, high_watermark: Offset) {
        self.push(Write::Checkpoint(partition, high_watermark));
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
        let model = self.model.lock();
        let log = model.log(partition)?;
        Ok(log.read(from.max(model.start_of(partition, log)), until, max_bytes))
    }

    fn offset_for_timestamp(
        &self,
        partition: LocalPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, StoreError> {
        let model = self.model.lock();
        let log = model.log(partition)?;
        Ok(log.offset_for_timestamp(model.start_of(partition, log), timestamp_ms))
    }

    fn size_bytes(&self, partition: LocalPartition) -> Result<u64, StoreError> {
        self.model.lock().log(partition).map(disk::Log::size_bytes)
    }

    fn queued_bytes(&self) -> usize {
        self.model.lock().queued.iter().map(Write::bytes).sum()
    }
}
