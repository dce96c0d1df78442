//! The two things that happen to the database: a write and a sync.

#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::WriteOptions;
use tidelog_log::StoreError;

use super::db::{Changes, Db};

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
    writes_fail: AtomicBool,
    syncs_fail: AtomicBool,
    compactions_wait: AtomicBool,
}

#[cfg(test)]
impl Faults {
    /// Fails every write from now on, or none.
    pub(crate) fn fail_writes(&self, fail: bool) {
        self.writes_fail.store(fail, Ordering::SeqCst);
    }

    /// Fails every sync from now on, or none.
    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.syncs_fail.store(fail, Ordering::SeqCst);
    }

    /// Compactions begin and do nothing until the store closes.
    pub(crate) fn hold_compactions(&self) {
        self.compactions_wait.store(true, Ordering::SeqCst);
    }

    /// Whether compactions are held.
    pub(crate) fn holds_compactions(&self) -> bool {
        self.compactions_wait.load(Ordering::SeqCst)
    }
}

impl Engine {
    pub(crate) fn new(db: Db) -> Self {
        Self {
            db,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    /// Writes to WAL and memtable. With `sync`, the WAL up to here is on stable storage when it
    /// returns.
    pub(crate) fn write(&self, changes: Changes, sync: bool) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.faults.writes_fail.load(Ordering::SeqCst) {
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
        if self.faults.syncs_fail.load(Ordering::SeqCst) {
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
