//! Reading batches, state and timestamps out of an open database, for writing or not.

use bytes::Bytes;
use rocksdb::DBRawIterator;
use tidelog_log::{PartitionLog, ReadBatches, StoreError};
use tidelog_types::{EpochEntry, LocalPartition, Offset};

use super::codec;
use super::db::{Db, Family};
use super::engine::failed;
use super::keys::{self, StateId, StateKind};
use super::tails::Bounds;
use crate::batch_header::BatchHeader;

/// The batches of one partition that begin in a range, in offset order, each verified. An item is
/// an error where one is damaged, and those behind it follow as far as RocksDB can find them.
pub(crate) struct Batches<'a> {
    local: LocalPartition,
    iterator: DBRawIterator<'a>,
    state: State,
    /// Where the next batch is looked for: what RocksDB cannot read has no key to go by.
    expected: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The iterator stands at the item to come.
    Placed,
    /// It stands at the item before that.
    Passed,
    /// RocksDB could not read, and lost its place.
    Lost,
    Ended,
}

/// A batch as it was stored.
pub(crate) struct StoredBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

impl<'a> Batches<'a> {
    /// From the batch that holds `from`, or the first after it, up to the first that begins at
    /// `until`.
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
            state: State::Placed,
            expected: from,
        }
    }

    fn current(&self) -> Option<Result<StoredBatch, StoreError>> {
        let Some((key, bytes)) = self.iterator.item() else {
            return self.iterator.status().err().map(|error| Err(self.failed(&error)));
        };
        let Some((_, base)) = keys::parse_record_key(key) else {
            return Some(Err(self.corrupt(
                self.expected,
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
            rocksdb::ErrorKind::Corruption => self.corrupt(self.expected, error.to_string()),
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
        let was = std::mem::replace(&mut self.state, State::Passed);
        match was {
            State::Placed => {}
            State::Passed => self.iterator.next(),
            // Most likely the batch that was expected: what comes behind it.
            State::Lost => self
                .iterator
                .seek(keys::record_key(self.local, self.expected.next())),
            State::Ended => {
                self.state = State::Ended;
                return None;
            }
        }
        let current = self.current();
        if let Some(Ok(batch)) = &current {
            self.expected = batch.header.end_offset();
        }
        if !self.iterator.valid() {
            let is_lost = current.is_some() && was != State::Lost;
            self.state = if is_lost { State::Lost } else { State::Ended };
        }
        current
    }
}

fn base_of(iterator: &DBRawIterator<'_>) -> Option<Offset> {
    iterator
        .key()
        .and_then(keys::parse_record_key)
        .map(|(_, base)| base)
}

/// Reads what lies within the bounds. What stands before a damaged or missing batch is handed over;
/// the read that begins there fails, and none goes past it.
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
        let found = batch.and_then(|batch| {
            continues(local, &read, batch.header)?;
            Ok(batch)
        });
        let batch = match found {
            Ok(batch) => batch,
            Err(_) if !read.batches.is_empty() => return Ok(read),
            Err(error) => return Err(error),
        };
        bytes += batch.bytes.len();
        if bytes > max_bytes && !read.batches.is_empty() {
            break;
        }
        read.next = batch.header.end_offset();
        read.batches.push(batch.bytes);
    }
    if read.batches.is_empty() {
        // The bounds say that there is something.
        let what = format!("nothing is stored from there to {until}");
        return Err(corrupt_at(local, from, what));
    }
    Ok(read)
}

/// Checks that a batch is the next one of a read: what is missing is not passed over.
fn continues(local: LocalPartition, read: &ReadBatches, header: BatchHeader) -> Result<(), StoreError> {
    let is_next = if read.batches.is_empty() {
        header.base_offset <= read.next
    } else {
        header.base_offset == read.next
    };
    if is_next {
        return Ok(());
    }
    let what = format!("the next batch there is begins at {}", header.base_offset);
    Err(corrupt_at(local, read.next, what))
}

fn corrupt_at(partition: LocalPartition, offset: Offset, what: String) -> StoreError {
    StoreError::Corrupt {
        partition,
        offset,
        what,
    }
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
    // `from` lies just below the end of the range, so there is at most one batch: the one that
    // holds it, or the last before it.
    let lower = keys::record_key(local, Offset::ZERO);
    let mut iterator = db.range(Family::Records, &lower, &keys::record_key(local, below));
    iterator.seek_to_last();
    let batches = Batches {
        local,
        iterator,
        state: State::Placed,
        expected: below,
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
    corrupt_at(local, Offset::ZERO, what)
}

/// See [`tidelog_log::LogStore::offset_for_timestamp`].
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
    // An entry is the largest timestamp up to and with its batch: after the last one that is
    // smaller, the search begins.
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
