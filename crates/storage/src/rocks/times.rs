//! The sparse timestamp index.
//!
//! Every [`INTERVAL_BYTES`] of a partition's batches leave one entry: the largest timestamp from the log's beginning up to and
//! with a batch, and that batch's base offset. Both rise from entry to entry, so the entries sort alike by either, and a
//! search by timestamp scans the batches of one interval.

use tidelog_types::{LocalPartition, Offset};

use super::db::{Changes, Db, Family};
use super::keys;
use super::reader::Batches;
use crate::StoreError;

/// How much of a partition lies between two entries, bytes.
pub(crate) const INTERVAL_BYTES: usize = 256 * 1024;

/// Where a partition's index stands at its log end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeCursor {
    largest_ms: i64,
    bytes_since_entry: usize,
}

impl TimeCursor {
    pub(crate) const EMPTY: Self = Self {
        largest_ms: i64::MIN,
        bytes_since_entry: 0,
    };

    /// Reads the cursor of a log: its last entry, and the batches after that.
    pub(crate) fn recover(
        db: &Db,
        local: LocalPartition,
        start: Offset,
        end: Offset,
    ) -> Result<Self, StoreError> {
        let mut iterator = db.range(
            Family::Times,
            &keys::partition_start(local),
            &keys::partition_end(local),
        );
        iterator.seek_to_last();
        let last = iterator.key().and_then(keys::parse_time_key);
        let mut cursor = Self {
            largest_ms: last.map_or(i64::MIN, |(at, _)| at),
            bytes_since_entry: 0,
        };
        let from = last.map_or(start, |(_, base)| start.max(base));
        if from >= end {
            return Ok(cursor);
        }
        for batch in Batches::new(db, local, from, end) {
            let batch = match batch {
                // Below the checkpoint, as what is above was verified: for the one who reads it to find out.
                Err(StoreError::Corrupt { .. }) => continue,
                other => other?,
            };
            cursor.largest_ms = cursor.largest_ms.max(batch.header.max_timestamp_ms);
            if last.is_none_or(|(_, base)| batch.header.base_offset > base) {
                cursor.bytes_since_entry += batch.bytes.len();
            }
        }
        Ok(cursor)
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
        self.bytes_since_entry += bytes;
        if self.bytes_since_entry >= INTERVAL_BYTES {
            self.bytes_since_entry = 0;
            changes.put(
                db,
                Family::Times,
                &keys::time_key(local, self.largest_ms, batch.base_offset),
                &[],
            );
        }
    }
}

/// Removes the entries of batches that begin at or after `end`.
pub(crate) fn truncate(db: &Db, changes: &mut Changes, local: LocalPartition, end: Offset) {
    let mut iterator = db.range(
        Family::Times,
        &keys::partition_start(local),
        &keys::partition_end(local),
    );
    iterator.seek_to_last();
    while let Some(key) = iterator.key() {
        if keys::parse_time_key(key).is_some_and(|(_, base)| base < end) {
            break;
        }
        changes.delete(db, Family::Times, key);
        iterator.prev();
    }
}

/// Removes the entries of batches that begin below `below`.
pub(crate) fn trim(db: &Db, changes: &mut Changes, local: LocalPartition, below: Offset) {
    let mut iterator = db.range(
        Family::Times,
        &keys::partition_start(local),
        &keys::partition_end(local),
    );
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
