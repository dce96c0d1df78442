//! The two things that happen to the database: a write and a sync.

use rocksdb::WriteOptions;

use super::db::{Changes, Db};
use crate::StoreError;

/// Writes and syncs, and turns either's failure into the store's.
pub(crate) struct Engine {
    pub(crate) db: Db,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

/// Failures on demand, for tests.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) fail_writes: std::sync::atomic::AtomicBool,
    pub(crate) fail_syncs: std::sync::atomic::AtomicBool,
    pub(crate) hold_compactions: std::sync::atomic::AtomicBool,
}

impl Engine {
    pub(crate) fn new(db: Db) -> Self {
        Self {
            db,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    /// Writes to WAL and memtable. With `sync`, the WAL up to here is on stable storage when it returns.
    pub(crate) fn write(&self, changes: Changes, sync: bool) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.faults.fail_writes.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::Failed("a write failed: injected".to_owned()));
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db
            .inner
            .write_opt(changes.batch, &options)
            .map_err(|error| failed("a write", &error))
    }

    /// Brings everything written so far to stable storage.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.faults.fail_syncs.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::Failed("a sync failed: injected".to_owned()));
        }
        self.db
            .inner
            .flush_wal(true)
            .map_err(|error| failed("a sync", &error))
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.db.inner.latest_sequence_number()
    }
}

pub(crate) fn failed(what: &str, error: &rocksdb::Error) -> StoreError {
    StoreError::Failed(format!("{what} failed: {error}"))
}
