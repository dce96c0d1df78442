//! Looking into a data directory without a broker.

use std::path::Path;

use bytes::Bytes;
use tidelog_log::{PartitionLog, StoreError, StoredPartition};
use tidelog_types::{LocalPartition, Offset};

use super::db::Db;
use super::directory::{DirectoryMeta, Layout, OpenError};
use super::options::{Budget, MIN_MEMORY_BUDGET_BYTES};
use super::reader::{self, Batches};
use super::recovery;
use super::tails::{Bounds, Tails};

/// A data directory, opened to be looked into: nothing in it is changed. It shows what was there at
/// the opening.
pub struct ReadOnlyStore {
    db: Db,
    meta: DirectoryMeta,
    tails: Tails,
}

impl ReadOnlyStore {
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let layout = Layout::new(dir);
        let missing = || OpenError::Missing { dir: dir.to_owned() };
        if !layout.has_database() {
            return Err(missing());
        }
        let db = recovery::open_read_only(&layout, &Budget::of(MIN_MEMORY_BUDGET_BYTES))?;
        let (meta, _) = layout.read_meta(&db)?.ok_or_else(missing)?;
        let tails = recovery::list_partitions(&layout, &db)?;
        Ok(Self { db, meta, tails })
    }

    /// Whose directory it is.
    pub fn directory(&self) -> DirectoryMeta {
        self.meta
    }

    /// Every partition in it.
    pub fn partitions(&self) -> Vec<StoredPartition> {
        self.tails.list()
    }

    /// What a partition's log remembers.
    pub fn load(&self, partition: LocalPartition) -> Result<PartitionLog, StoreError> {
        reader::load(&self.db, partition, self.bounds(partition)?)
    }

    /// The stored batches from the one that holds `from` on, or the first after it; those not
    /// reclaimed yet below the log start, too. An item is an error where a batch is damaged; the
    /// batches after it follow.
    pub fn batches(&self, partition: LocalPartition, from: Offset) -> Result<BatchIter<'_>, StoreError> {
        self.bounds(partition)?;
        Ok(BatchIter {
            batches: Batches::new(&self.db, partition, from, Offset::MAX),
        })
    }

    fn bounds(&self, partition: LocalPartition) -> Result<Bounds, StoreError> {
        Ok(self.tails.get(partition)?.bounds())
    }
}

/// Stored batches of one partition, in offset order, each verified.
pub struct BatchIter<'a> {
    batches: Batches<'a>,
}

impl Iterator for BatchIter<'_> {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next().map(|batch| batch.map(|batch| batch.bytes))
    }
}
