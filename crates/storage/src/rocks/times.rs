//! The sparse timestamp index, which also counts a partition's bytes.
//!
//! Every [`INTERVAL_BYTES`] of a partition's batches leave one entry: the largest timestamp from
//! the log's beginning up to and with a batch, and that batch's base offset. Both rise from entry
//! to entry, so the entries sort alike by either, and a search by timestamp scans the batches of
//! one interval.
//!
//! The value of an entry is its interval: the bytes of the batches behind the entry before it, up
//! to and with its own batch. A log's size is the sum of its entries and of the few batches behind
//! the last one, so no other batch is read for it. Earlier versions wrote empty values: each counts
//! as [`INTERVAL_BYTES`], the least that an interval has.

use rocksdb::DBRawIterator;
use tidelog_log::StoreError;
use tidelog_types::{LocalPartition, Offset};

use super::codec;
use super::db::{Changes, Db, Family};
use super::engine::failed;
use super::keys;
use super::reader::{self, Batches};

/// How much of a partition lies between two entries, bytes.
pub(crate) const INTERVAL_BYTES: u64 = 256 * 1024;

/// Where a partition's index stands at its log end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeCursor {
    largest_ms: i64,
    /// Of the batches behind the last entry's.
    bytes_since_entry: u64,
    /// The intervals of all entries from `counted_from` on.
    indexed_bytes: u64,
    /// Entries of batches below it were trimmed; they are stored until space is reclaimed.
    counted_from: Offset,
}

impl TimeCursor {
    pub(crate) const EMPTY: Self = Self {
        largest_ms: i64::MIN,
        bytes_since_entry: 0,
        indexed_bytes: 0,
        counted_from: Offset::ZERO,
    };

    /// Reads the cursor of a log: its entries, and the batches behind the last one.
    pub(crate) fn recover(
        db: &Db,
        local: LocalPartition,
        start: Offset,
        end: Offset,
    ) -> Result<Self, StoreError> {
        let mut cursor = Self::EMPTY;
        let mut iterator = entries(db, local);
        iterator.seek_to_first();
        while let Some(entry) = Entry::at(&iterator, local)? {
            cursor.indexed_bytes = cursor.indexed_bytes.saturating_add(entry.interval_bytes);
            iterator.next();
        }
        cursor.trim(db, local, start)?;
        cursor.recover_end(db, local, start, end)?;
        Ok(cursor)
    }

    /// Reads the last entry and the batches behind it: what a truncation changes beside the entries
    /// that it removes.
    pub(crate) fn recover_end(
        &mut self,
        db: &Db,
        local: LocalPartition,
        start: Offset,
        end: Offset,
    ) -> Result<(), StoreError> {
        let mut iterator = entries(db, local);
        iterator.seek_to_last();
        let last = Entry::at(&iterator, local)?;
        self.largest_ms = last.map_or(i64::MIN, |entry| entry.largest_ms);
        self.bytes_since_entry = 0;
        let from = last.map_or(start, |entry| start.max(entry.base_offset));
        if from >= end {
            return Ok(());
        }
        for batch in Batches::new(db, local, from, end) {
            let batch = match batch {
                // Below the checkpoint, as what is above was verified: for the one who reads it to
                // find out.
                Err(StoreError::Corrupt { .. }) => continue,
                other => other?,
            };
            self.largest_ms = self.largest_ms.max(batch.header.max_timestamp_ms);
            if last.is_none_or(|entry| batch.header.base_offset > entry.base_offset) {
                self.bytes_since_entry += batch.bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// How many bytes of batches the log holds. After a trim it may be too large by less than one
    /// interval: the first one begins below the log start and is counted whole.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.indexed_bytes.saturating_add(self.bytes_since_entry)
    }

    /// Goes past a batch, and writes an entry for it if one is due.
    pub(crate) fn advance(
        &mut self,
        db: &Db,
        changes: &mut Changes,
        local: LocalPartition,
        batch: &tidelog_types::BatchInfo,
        bytes: usize,
    ) {
        self.largest_ms = self.largest_ms.max(batch.max_timestamp_ms);
        self.bytes_since_entry += bytes as u64;
        if self.bytes_since_entry >= INTERVAL_BYTES {
            changes.put(
                db,
                Family::Times,
                &keys::time_key(local, self.largest_ms, batch.base_offset),
                &codec::encode_time_entry(self.bytes_since_entry),
            );
            self.indexed_bytes = self.indexed_bytes.saturating_add(self.bytes_since_entry);
            self.bytes_since_entry = 0;
        }
    }

    /// Takes what lies below a log start off the size: the entries of all batches that end there or
    /// before.
    pub(crate) fn trim(&mut self, db: &Db, local: LocalPartition, start: Offset) -> Result<(), StoreError> {
        let mut iterator = entries(db, local);
        iterator.seek_to_first();
        let (mut passed_bytes, mut last) = (0_u64, None);
        while let Some(entry) = Entry::at(&iterator, local)?.filter(|entry| entry.base_offset < start) {
            if entry.base_offset >= self.counted_from {
                passed_bytes = passed_bytes.saturating_add(entry.interval_bytes);
                last = Some(entry);
            }
            iterator.next();
        }
        let Some(last) = last else {
            return Ok(());
        };
        if spans(db, local, last.base_offset, start)? {
            passed_bytes = passed_bytes.saturating_sub(last.interval_bytes);
            self.counted_from = last.base_offset;
        } else {
            self.counted_from = start;
        }
        self.indexed_bytes = self.indexed_bytes.saturating_sub(passed_bytes);
        Ok(())
    }

    /// Removes the entries of batches that begin at or after `end`. After that is written, the
    /// caller reads what lies behind the entry that is now the last one:
    /// [`TimeCursor::recover_end`].
    pub(crate) fn truncate(
        &mut self,
        db: &Db,
        changes: &mut Changes,
        local: LocalPartition,
        end: Offset,
    ) -> Result<(), StoreError> {
        let mut iterator = entries(db, local);
        iterator.seek_to_last();
        while let Some(entry) = Entry::at(&iterator, local)?.filter(|entry| entry.base_offset >= end) {
            let key = keys::time_key(local, entry.largest_ms, entry.base_offset);
            changes.delete(db, Family::Times, &key);
            if entry.base_offset >= self.counted_from {
                self.indexed_bytes = self.indexed_bytes.saturating_sub(entry.interval_bytes);
            }
            iterator.prev();
        }
        Ok(())
    }
}

/// An entry, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    largest_ms: i64,
    base_offset: Offset,
    interval_bytes: u64,
}

impl Entry {
    /// The entry at which an iterator stands; `None` past the last one.
    fn at(iterator: &DBRawIterator<'_>, local: LocalPartition) -> Result<Option<Self>, StoreError> {
        let Some((key, value)) = iterator.item() else {
            return iterator
                .status()
                .map(|()| None)
                .map_err(|error| failed("reading the timestamp index", &error));
        };
        let corrupt = |what| reader::corrupt_state(local, what);
        let (largest_ms, base_offset) =
            keys::parse_time_key(key).ok_or_else(|| corrupt(format!("an unknown time key {key:?}")))?;
        let interval_bytes = match value {
            [] => INTERVAL_BYTES,
            value => codec::decode_time_entry(value).map_err(|error| corrupt(error.to_string()))?,
        };
        Ok(Some(Self {
            largest_ms,
            base_offset,
            interval_bytes,
        }))
    }
}

/// All entries of a partition, not positioned yet.
fn entries(db: &Db, local: LocalPartition) -> DBRawIterator<'_> {
    let (from, until) = (keys::partition_start(local), keys::partition_end(local));
    db.range(Family::Times, &from, &until)
}

/// Whether the batch that begins at `base` ends behind `start`. A damaged one may do so, and counts
/// as doing so.
fn spans(db: &Db, local: LocalPartition, base: Offset, start: Offset) -> Result<bool, StoreError> {
    match reader::last_batch(db, local, base.next()) {
        Ok(batch) => Ok(batch.is_some_and(|batch| batch.base_offset == base && batch.end_offset() > start)),
        Err(StoreError::Corrupt { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes the entries of batches that begin below `below`.
pub(crate) fn trim(db: &Db, changes: &mut Changes, local: LocalPartition, below: Offset) {
    let mut iterator = entries(db, local);
    iterator.seek_to_first();
    let mut until = None;
    while let Some(key) = iterator.key() {
        if keys::parse_time_key(key).is_some_and(|(_, base)| base >= below) {
            break;
        }
        iterator.next();
        until = Some(
            iterator
                .key()
                .map_or_else(|| keys::partition_end(local).to_vec(), <[u8]>::to_vec),
        );
    }
    if let Some(until) = until {
        changes.delete_range(db, Family::Times, &keys::partition_start(local), &until);
    }
}
