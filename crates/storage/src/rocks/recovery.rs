//! Opening a directory: every check that comes before the first write, and what is read back into
//! memory.

use std::collections::HashMap;

use rocksdb::DB;
use tidelog_log::StoreError;
use tidelog_types::{LocalPartition, Offset, TopicIdPartition};

use super::codec;
use super::db::{Changes, Db, Family};
use super::directory::{DirectoryMeta, Layout, OpenError};
use super::engine::Engine;
use super::keys::{self, FORMAT_VERSION, MetaKind, StateKind};
use super::options::{self, Budget, RocksOptions};
use super::reader::{self, Batches};
use super::sync_mark::SyncMark;
use super::tails::{Tail, Tails};
use super::times::TimeCursor;
use super::writer::LogTail;

/// Opens a directory's database without changing anything in it, not even RocksDB's own log.
pub(crate) fn open_read_only(layout: &Layout, budget: &Budget) -> Result<Db, OpenError> {
    let inner = options::open_unchanged(&layout.database(), options::families(budget))
        .map_err(|error| layout.database_error(&error))?;
    Ok(Db { inner })
}

/// Every partition of a directory, and where its log begins and ends.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) tails: Tails,
    pub(crate) logs: HashMap<LocalPartition, LogTail>,
}

/// Checks, before anything is written, that a directory is whole, has all that was ever synced, is
/// the right one, and that its logs have no holes at their ends; gives what is in it.
///
/// All of it on a read-only opening: the one that follows replays the WAL for good and removes what
/// it has replayed, and with it what could tell how a damaged log came about.
pub(crate) fn check_before_opening(
    layout: &Layout,
    mark: &SyncMark,
    options: &RocksOptions,
) -> Result<Found, OpenError> {
    let incomplete = |what: &str| OpenError::Incomplete {
        dir: layout.dir.clone(),
        what: what.to_owned(),
    };
    if !layout.has_database() {
        // Sequence 0: nothing was ever synced, so creating it was cut short.
        let begun = mark.sequence() > 0;
        return if begun {
            Err(incomplete("the database's CURRENT file is gone"))
        } else {
            Ok(Found::default())
        };
    }
    let known = DB::list_cf(&options::safe_options(), layout.database())
        .map_err(|error| layout.database_error(&error))?;
    let whole = Family::ALL
        .iter()
        .all(|family| known.iter().any(|name| name == family.name()));
    if !whole {
        return if mark.sequence() > 0 {
            Err(incomplete("a column family is gone"))
        } else {
            Ok(Found::default())
        };
    }
    let db = open_read_only(layout, &Budget::of(options.memory_budget))?;
    let found = db.inner.latest_sequence_number();
    if found < mark.sequence() {
        return Err(OpenError::LostWrites {
            dir: layout.dir.clone(),
            found,
            marked: mark.sequence(),
        });
    }
    if let Some((meta, _)) = layout.read_meta(&db)? {
        layout.check_owner(&meta, options)?;
    }
    find_partitions(layout, &db)
}

/// Reads whose directory it is, or makes it this broker's if it is fresh. Gives also the next local
/// partition number.
pub(crate) fn take_over(
    layout: &Layout,
    engine: &Engine,
    options: &RocksOptions,
) -> Result<(DirectoryMeta, u32), OpenError> {
    if let Some((meta, next)) = layout.read_meta(&engine.db)? {
        let mut changes = Changes::default();
        changes.delete(&engine.db, Family::Meta, &keys::meta_key(MetaKind::CleanShutdown));
        engine
            .write(changes, true)
            .map_err(|error| layout.store_error(error))?;
        return Ok((meta, next));
    }
    let identity = codec::DirectoryIdentity {
        directory: options.fresh_directory,
        broker: options.broker,
        cluster: options.cluster,
    };
    let mut changes = Changes::default();
    let mut put = |kind, value: &[u8]| changes.put(&engine.db, Family::Meta, &keys::meta_key(kind), value);
    put(MetaKind::FormatVersion, &FORMAT_VERSION.to_be_bytes());
    put(MetaKind::Directory, &codec::encode_directory(&identity));
    put(MetaKind::NextLocalPartition, &codec::encode_next_local(0));
    engine
        .write(changes, true)
        .map_err(|error| layout.store_error(error))?;
    let codec::DirectoryIdentity {
        directory,
        broker,
        cluster,
    } = identity;
    Ok((
        DirectoryMeta {
            format_version: FORMAT_VERSION,
            directory,
            broker,
            cluster,
            was_clean: true,
        },
        0,
    ))
}

/// Finds every partition and where its log begins and ends, and checks the end of each.
fn find_partitions(layout: &Layout, db: &Db) -> Result<Found, OpenError> {
    let Found { tails, mut logs } = Found::default();
    for (local, partition) in registered(layout, db)? {
        let log = recover_log(db, local).map_err(|error| layout.store_error_in(partition, error))?;
        let tail = Tail::new(partition, log.start, log.end);
        tail.set_size_bytes(log.times.size_bytes());
        tails.insert(local, tail);
        logs.insert(local, log);
    }
    Ok(Found { tails, logs })
}

/// Finds every partition, whatever state its log is in.
pub(crate) fn list_partitions(layout: &Layout, db: &Db) -> Result<Tails, OpenError> {
    let tails = Tails::default();
    for (local, partition) in registered(layout, db)? {
        let start = reader::offset_of(db, local, StateKind::LogStart)
            .map_err(|error| layout.store_error_in(partition, error))?;
        // A damaged last batch ends where it begins: the rest of the log can still be looked at.
        let end = match reader::last_batch(db, local, Offset::MAX) {
            Ok(last) => last.map_or(start, |batch| batch.end_offset()),
            Err(StoreError::Corrupt { offset, .. }) => offset,
            Err(error) => return Err(layout.store_error_in(partition, error)),
        };
        tails.insert(local, Tail::new(partition, start, end.max(start)));
    }
    Ok(tails)
}

fn registered(layout: &Layout, db: &Db) -> Result<Vec<(LocalPartition, TopicIdPartition)>, OpenError> {
    let mut found = Vec::new();
    let mut iterator = db.inner.raw_iterator_cf(&db.family(Family::State));
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let incomplete = |what: String| OpenError::Incomplete {
            dir: layout.dir.clone(),
            what,
        };
        let (local, partition) = match keys::parse_state_key(key) {
            Some((local, keys::StateId::Partition)) => (local, codec::decode_partition(value)),
            Some((local, _)) => return Err(incomplete(format!("the entry of {local} is missing"))),
            None => return Err(incomplete(format!("it has an unknown state key {key:?}"))),
        };
        found.push((
            local,
            partition.map_err(|error| incomplete(format!("the entry of {local}: {error}")))?,
        ));
        iterator.seek(keys::partition_end(local));
    }
    iterator.status().map_err(|error| layout.database_error(&error))?;
    Ok(found)
}

fn recover_log(db: &Db, local: LocalPartition) -> Result<LogTail, StoreError> {
    let start = reader::offset_of(db, local, StateKind::LogStart)?;
    let checkpoint = reader::offset_of(db, local, StateKind::HighWatermark)?;
    let last = reader::last_batch(db, local, Offset::MAX)?;
    let end = last.map_or(start, |batch| batch.end_offset().max(start));
    if checkpoint > end {
        let what = format!("the log ends there, and {checkpoint} was committed");
        return Err(StoreError::Corrupt {
            partition: local,
            offset: end,
            what,
        });
    }
    check_contiguity(db, local, checkpoint.max(start), end)?;
    Ok(LogTail {
        start,
        end,
        times: TimeCursor::recover(db, local, start, end)?,
    })
}

/// Checks that the batches from the one that holds `from` on continue each other up to `end`.
fn check_contiguity(db: &Db, local: LocalPartition, from: Offset, end: Offset) -> Result<(), StoreError> {
    if from >= end {
        return Ok(());
    }
    let mut expected = None;
    for batch in Batches::new(db, local, from, end) {
        let header = batch?.header;
        let gap = expected.map_or(header.base_offset > from, |expected| {
            header.base_offset != expected
        });
        if gap {
            let offset = expected.unwrap_or(from);
            let what = format!("the next batch there is begins at {}", header.base_offset);
            return Err(StoreError::Corrupt {
                partition: local,
                offset,
                what,
            });
        }
        expected = Some(header.end_offset());
    }
    Ok(())
}
