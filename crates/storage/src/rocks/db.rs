//! The database handle: families by name, and errors in our words.

use std::path::Path;
use std::sync::Arc;

use rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DB, DBRawIterator, Options, ReadOptions, WriteBatch,
};

/// The column families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Records,
    Times,
    State,
    Meta,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::Records, Self::Times, Self::State, Self::Meta];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Times => "times",
            Self::State => "state",
            Self::Meta => "meta",
        }
    }
}

/// An open database.
pub(crate) struct Db {
    pub(crate) inner: DB,
}

impl Db {
    pub(crate) fn open(
        options: &Options,
        path: &Path,
        families: Vec<ColumnFamilyDescriptor>,
    ) -> Result<Self, rocksdb::Error> {
        Ok(Self {
            inner: DB::open_cf_descriptors(options, path, families)?,
        })
    }

    pub(crate) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.inner
            .cf_handle(family.name())
            .expect("every family was named at open")
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        self.inner.get_cf(&self.family(family), key)
    }

    /// What memtables hold that is in no key or blob file yet, bytes, roughly and rather too much.
    pub(crate) fn memtable_bytes(&self) -> u64 {
        let held = |family| {
            let size = self
                .inner
                .property_int_value_cf(&self.family(family), CUR_SIZE_ALL_MEM_TABLES);
            size.ok().flatten().unwrap_or(0)
        };
        Family::ALL.into_iter().map(held).sum()
    }

    /// An iterator over `lower..upper`, a moment's view of the database. Not positioned yet.
    pub(crate) fn range(&self, family: Family, lower: &[u8], upper: &[u8]) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        options.set_iterate_upper_bound(upper);
        self.inner.raw_iterator_cf_opt(&self.family(family), options)
    }
}

/// A write batch under construction, family by family.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) batch: WriteBatch,
}

impl Changes {
    pub(crate) fn put(&mut self, db: &Db, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(&db.family(family), key, value);
    }

    pub(crate) fn delete(&mut self, db: &Db, family: Family, key: &[u8]) {
        self.batch.delete_cf(&db.family(family), key);
    }

    pub(crate) fn delete_range(&mut self, db: &Db, family: Family, from: &[u8], until: &[u8]) {
        self.batch.delete_range_cf(&db.family(family), from, until);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}
