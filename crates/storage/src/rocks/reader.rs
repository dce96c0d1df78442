//! Reading batches, state and timestamps out of an open database, for writing or not.

use bytes::Bytes;
use rocksdb::DBRawIterator;
use tidelog_types::{EpochEntry, LocalPartition, Offset};

use super::codec;
use super::db::{Db, Family};
use super::engine::failed;
use super::keys::{self, StateId, StateKind};
use super::tails::Bounds;
use crate::batch_header::BatchHeader;
use crate::{PartitionLog, ReadBatches, StoreError};

/// The batches of one partition that begin in a range, in offset order, each verified.
pub(crate) struct Batches<'a> {
    local: LocalPartition,
    iterator: DBRawIterator<'a>,
    started: bool,
}

/// A batch as it was stored.
pub(crate) struct StoredBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

impl<'a> Batches<'a> {
    /// From the batch that holds `from`, or the first after it, up to the first that begins at `until`.
    pub(crate) fn new(db: &'a Db, local: LocalPartition, from: Offset, until: Offset) -> Self {
        let lower = keys::record_key(local, Offset::ZERO);
        let mut iterator = db.range(Family::Records, &lower, &keys::record_key(local, until));
        let target = keys::record_key(local, from);
        iterator.seek_for_prev(target);
        let holds = iterator
            .value()
            .zip(base_of(&iterator))
            .is_some_and(|(bytes, base)| {
                // What cannot be read counts as holding it: the caller is to meet the damage.
                BatchHeader::verify(bytes, base).map_or(base <= from, |header| header.end_offset() > from)
            });
        if !holds && iterator.status().is_ok() {
            iterator.seek(target);
        }
        Self {
            local,
            iterator,
            started: false,
        }
    }

    fn current(&self) -> Option<Result<StoredBatch, StoreError>> {
        let Some((key, bytes)) = self.iterator.item() else {
            return self.iterator.status().err().map(|error| Err(self.failed(&error)));
        };
        let Some((_, base)) = keys::parse_record_key(key) else {
            return Some(Err(self.corrupt(
                Offset::ZERO,
                format!("a record key is {} bytes long", key.len()),
            )));
        };
        Some(match BatchHeader::verify(bytes, base) {
            Ok(header) => Ok(StoredBatch {
                header,
                bytes: Bytes::copy_from_slice(bytes),
            }),
            Err(what) => Err(self.corrupt(base, what)),
        })
    }

    fn failed(&self, error: &rocksdb::Error) -> StoreError {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => self.corrupt(Offset::ZERO, error.to_string()),
            _ => StoreError::Failed(format!("reading {} failed: {error}", self.local)),
        }
    }

    fn corrupt(&self, offset: Offset, what: String) -> StoreError {
        StoreError::Corrupt {
            partition: self.local,
            offset,
            what,
        }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<StoredBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.started && self.iterator.valid() {
            self.iterator.next();
        }
        self.started = true;
        self.current()
    }
}

fn base_of(iterator: &DBRawIterator<'_>) -> Option<Offset> {
    iterator
        .key()
        .and_then(keys::parse_record_key)
        .map(|(_, base)| base)
}

/// Reads what lies within the bounds.
pub(crate) fn read(
    db: &Db,
    local: LocalPartition,
    bounds: Bounds,
    (from, until): (Offset, Offset),
    max_bytes: usize,
) -> Result<ReadBatches, StoreError> {
    let (from, until) = bounds.clamp(from, until);
    let mut read = ReadBatches {
        batches: Vec::new(),
        next: from,
    };
    if from >= until {
        return Ok(read);
    }
    let mut bytes = 0;
    for batch in Batches::new(db, local, from, until) {
        let batch = batch?;
        bytes += batch.bytes.len();
        if bytes > max_bytes && !read.batches.is_empty() {
            break;
        }
        read.next = batch.header.end_offset();
        read.batches.push(batch.bytes);
    }
    Ok(read)
}

/// The last batch that begins below `below`.
pub(crate) fn last_batch(
    db: &Db,
    local: LocalPartition,
    below: Offset,
) -> Result<Option<BatchHeader>, StoreError> {
    if below == Offset::ZERO {
        return Ok(None);
    }
    // `from` lies just below the end of the range, so there is at most one batch: the one that holds it, or the last before it.
    let lower = keys::record_key(local, Offset::ZERO);
    let mut iterator = db.range(Family::Records, &lower, &keys::record_key(local, below));
    iterator.seek_to_last();
    let batches = Batches {
        local,
        iterator,
        started: true,
    };
    batches
        .current()
        .transpose()
        .map(|found| found.map(|batch| batch.header))
}

/// Whether batches that end below a log start are still stored.
pub(crate) fn holds_batches_below(db: &Db, local: LocalPartition, start: Offset) -> bool {
    let first = Batches::new(db, local, Offset::ZERO, start).next();
    // A damaged one below the log start may go as well.
    first.is_some_and(|batch| batch.map_or(true, |batch| batch.header.end_offset() <= start))
}

/// What a partition remembers beside its batches.
pub(crate) fn load(db: &Db, local: LocalPartition, bounds: Bounds) -> Result<PartitionLog, StoreError> {
    let mut log = PartitionLog {
        log_start: bounds.start,
        log_end: bounds.end,
        ..PartitionLog::default()
    };
    let corrupt = |what: String| StoreError::Corrupt {
        partition: local,
        offset: bounds.start,
        what,
    };
    let mut iterator = db.range(
        Family::State,
        &keys::partition_start(local),
        &keys::partition_end(local),
    );
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let (_, id) =
            keys::parse_state_key(key).ok_or_else(|| corrupt(format!("an unknown state key {key:?}")))?;
        let bad = |error: codec::DecodeError| corrupt(error.to_string());
        match id {
            StateId::Partition | StateId::LogStart => {}
            StateId::HighWatermark => {
                log.high_watermark = codec::decode_offset("high watermark", value).map_err(bad)?;
            }
            StateId::Epoch(epoch) => {
                let start_offset = codec::decode_epoch_start(value).map_err(bad)?;
                log.epochs.push(EpochEntry { epoch, start_offset });
            }
            StateId::Producer(id) => log
                .producers
                .push(codec::decode_producer(id, value).map_err(bad)?),
        }
        iterator.next();
    }
    iterator
        .status()
        .map_err(|error| StoreError::Failed(format!("reading the state of {local} failed: {error}")))?;
    log.normalize();
    Ok(log)
}

/// The leader-epoch cache as it is stored.
pub(crate) fn epochs(db: &Db, local: LocalPartition) -> Result<Vec<EpochEntry>, StoreError> {
    let (from, until) = (
        keys::state_key(local, StateKind::Epoch),
        keys::state_kind_end(local, StateKind::Epoch),
    );
    let mut iterator = db.range(Family::State, &from, &until);
    iterator.seek_to_first();
    let mut epochs = Vec::new();
    while let Some((key, value)) = iterator.item() {
        let Some((_, StateId::Epoch(epoch))) = keys::parse_state_key(key) else {
            return Err(corrupt_state(local, format!("an unknown state key {key:?}")));
        };
        let start_offset =
            codec::decode_epoch_start(value).map_err(|error| corrupt_state(local, error.to_string()))?;
        epochs.push(EpochEntry { epoch, start_offset });
        iterator.next();
    }
    iterator
        .status()
        .map_err(|error| failed("reading leader epochs", &error))?;
    Ok(epochs)
}

/// A stored log start or high watermark; 0 if none was stored yet.
pub(crate) fn offset_of(db: &Db, local: LocalPartition, kind: StateKind) -> Result<Offset, StoreError> {
    let value = db
        .get(Family::State, &keys::state_key(local, kind))
        .map_err(|error| failed("reading a partition's state", &error))?;
    let Some(value) = value else {
        return Ok(Offset::ZERO);
    };
    let what = if kind == StateKind::LogStart {
        "log start"
    } else {
        "high watermark"
    };
    codec::decode_offset(what, &value).map_err(|error| corrupt_state(local, error.to_string()))
}

/// Damage in what is remembered beside the batches.
pub(crate) fn corrupt_state(local: LocalPartition, what: String) -> StoreError {
    StoreError::Corrupt {
        partition: local,
        offset: Offset::ZERO,
        what,
    }
}

/// See [`crate::LogStore::offset_for_timestamp`].
pub(crate) fn offset_for_timestamp(
    db: &Db,
    local: LocalPartition,
    bounds: Bounds,
    timestamp_ms: i64,
) -> Result<Option<Offset>, StoreError> {
    let mut from = bounds.start;
    let mut iterator = db.range(
        Family::Times,
        &keys::partition_start(local),
        &keys::partition_end(local),
    );
    // An entry is the largest timestamp up to and with its batch: after the last one that is smaller, the search begins.
    iterator.seek_for_prev(keys::time_key(local, timestamp_ms, Offset::ZERO));
    if let Some((smaller, base)) = iterator.key().and_then(keys::parse_time_key) {
        // The key sought has offset 0, and a batch at 0 may have just that timestamp.
        if smaller < timestamp_ms {
            from = from.max(base);
        }
    }
    if from >= bounds.end {
        return Ok(None);
    }
    for batch in Batches::new(db, local, from, bounds.end) {
        let header = batch?.header;
        if header.max_timestamp_ms >= timestamp_ms {
            return Ok(Some(header.base_offset));
        }
    }
    Ok(None)
}
