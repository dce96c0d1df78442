//! What is known in memory of every partition: who it is, and between which offsets it can be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tidelog_log::{StoreError, StoredPartition};
use tidelog_types::{LocalPartition, Offset, TopicIdPartition};

/// The partitions of a directory.
#[derive(Default)]
pub(crate) struct Tails {
    by_local: RwLock<HashMap<LocalPartition, Arc<Tail>>>,
}

/// One partition.
pub(crate) struct Tail {
    pub(crate) partition: TopicIdPartition,
    bounds: Mutex<Bounds>,
    size_bytes: AtomicU64,
}

/// What of a partition is written, and so readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// Rises with every removal of a tail: a reader that sees it change in between may have mixed
    /// two histories.
    pub(crate) generation: u64,
}

impl Bounds {
    /// What of `from..until` can be read; nothing if the first is not below the second.
    pub(crate) fn clamp(&self, from: Offset, until: Offset) -> (Offset, Offset) {
        (from.max(self.start), until.min(self.end))
    }
}

impl Tail {
    pub(crate) fn new(partition: TopicIdPartition, start: Offset, end: Offset) -> Self {
        Self {
            partition,
            bounds: Mutex::new(Bounds {
                start,
                end,
                generation: 0,
            }),
            size_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        *self.bounds.lock()
    }

    /// How many bytes of batches are written: see [`tidelog_log::LogStore::size_bytes`].
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Takes note of the size. It is told and stands for itself, so nothing is ordered by it.
    pub(crate) fn set_size_bytes(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Relaxed);
    }

    /// Makes what was written readable.
    pub(crate) fn extend(&self, end: Offset) {
        self.bounds.lock().end = end;
    }

    /// Makes what lies below unreadable.
    pub(crate) fn raise_start(&self, start: Offset) {
        let mut bounds = self.bounds.lock();
        bounds.start = bounds.start.max(start);
    }

    /// Makes a tail unreadable, before it is removed.
    pub(crate) fn cut(&self, end: Offset) {
        let mut bounds = self.bounds.lock();
        bounds.end = end;
        bounds.generation += 1;
    }
}

impl Tails {
    pub(crate) fn get(&self, local: LocalPartition) -> Result<Arc<Tail>, StoreError> {
        self.by_local
            .read()
            .get(&local)
            .cloned()
            .ok_or(StoreError::UnknownPartition(local))
    }

    pub(crate) fn insert(&self, local: LocalPartition, tail: Tail) {
        let previous = self.by_local.write().insert(local, Arc::new(tail));
        assert!(previous.is_none(), "{local} is used once");
    }

    pub(crate) fn remove(&self, local: LocalPartition) {
        self.by_local.write().remove(&local);
    }

    /// The partition's number here, if it has one.
    pub(crate) fn find(&self, partition: TopicIdPartition) -> Option<LocalPartition> {
        let tails = self.by_local.read();
        tails
            .iter()
            .find(|(_, tail)| tail.partition == partition)
            .map(|(&local, _)| local)
    }

    /// All of them, by number.
    pub(crate) fn list(&self) -> Vec<StoredPartition> {
        let mut all: Vec<_> = self
            .by_local
            .read()
            .iter()
            .map(|(&local, tail)| StoredPartition {
                local,
                partition: tail.partition,
            })
            .collect();
        all.sort_by_key(|stored| stored.local);
        all
    }
}
