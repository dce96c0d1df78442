//! The upkeep thread: what has to be done now and then, off everybody's path.
//!
//! Once a second it looks for background errors of RocksDB and brings the sync mark up to date; once a reclaim interval it has
//! what was trimmed deleted, in one write for all partitions, and compacts the keys there, so that disk use really falls.
//!
//! A blob file goes when all in it is garbage, which is the rule where topics keep their records equally long. RocksDB's own
//! collection for the other case moves every live blob of the oldest files in *every* compaction, garbage there or none: on a
//! log that is a rewrite of a quarter of all data for every few flushes. So it is off, and switched on here for one compaction
//! once most of what blob files hold is garbage: what is then rewritten is less than what is freed.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocksdb::properties::{BACKGROUND_ERRORS, IS_WRITE_STOPPED};
use rocksdb::{BottommostLevelCompaction, CompactOptions};
use tidelog_types::{LocalPartition, Offset};

use super::db::Family;
use super::keys;
use super::queue::Command;
use super::shared::Shared;
use super::sync_mark::SyncMark;
use crate::StoreError;

/// How often errors are looked for and the mark is written.
const TICK: Duration = Duration::from_secs(1);
/// How long RocksDB may refuse writes (it does while flushes or compactions are behind) before that counts as failed.
const MAX_WRITE_STOP: Duration = Duration::from_mins(1);

/// Garbage below this is left alone, bytes.
const MIN_BLOB_GARBAGE_BYTES: u64 = 8 * 1024 * 1024;

/// What is waiting to be done.
#[derive(Default)]
pub(crate) struct Upkeep {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    trimmed: HashMap<LocalPartition, Offset>,
    deleted: Vec<LocalPartition>,
    /// Callers of [`Upkeep::reclaim_now`].
    waiting: Vec<mpsc::SyncSender<()>>,
    stopped: bool,
}

impl State {
    fn has_work(&self) -> bool {
        !self.trimmed.is_empty() || !self.deleted.is_empty()
    }
}

impl Upkeep {
    /// A log start advanced: what lies below it is to be deleted.
    pub(crate) fn trimmed(&self, local: LocalPartition, log_start: Offset) {
        self.state.lock().trimmed.insert(local, log_start);
    }

    /// A partition's keys were deleted: its space is to be freed.
    pub(crate) fn deleted(&self, local: LocalPartition) {
        let mut state = self.state.lock();
        state.trimmed.remove(&local);
        state.deleted.push(local);
    }

    /// Reclaims without waiting for the interval; the answer comes when it is done.
    pub(crate) fn reclaim_now(&self) -> mpsc::Receiver<()> {
        let (done, finished) = mpsc::sync_channel(1);
        self.state.lock().waiting.push(done);
        self.changed.notify_all();
        finished
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// Runs until it is stopped. Gives the mark back for the last word.
pub(crate) fn run(shared: &Shared, mut mark: SyncMark, reclaim_interval: Duration) -> SyncMark {
    let mut last_reclaim = Instant::now();
    let mut write_stopped_since = None;
    loop {
        let (work, waiting) = {
            let mut state = shared.upkeep.state.lock();
            if !state.stopped && state.waiting.is_empty() {
                shared.upkeep.changed.wait_for(&mut state, TICK);
            }
            if state.stopped {
                return mark;
            }
            let waiting = std::mem::take(&mut state.waiting);
            let due = !waiting.is_empty() || last_reclaim.elapsed() >= reclaim_interval;
            let work = (due && state.has_work()).then(|| {
                (
                    std::mem::take(&mut state.trimmed),
                    std::mem::take(&mut state.deleted),
                )
            });
            (work, waiting)
        };
        let done = watch(shared, &mut write_stopped_since).and_then(|()| keep_mark(shared, &mut mark));
        if let Err(error) = done {
            shared.health.poison(error);
            return mark;
        }
        if let Some((trimmed, deleted)) = work {
            last_reclaim = Instant::now();
            reclaim(shared, trimmed, &deleted);
        }
        drop(waiting);
    }
}

/// Looks for what RocksDB does not tell by a failed write: its background work.
fn watch(shared: &Shared, write_stopped_since: &mut Option<Instant>) -> Result<(), StoreError> {
    let property = |name| {
        shared
            .engine
            .db
            .inner
            .property_int_value(name)
            .ok()
            .flatten()
            .unwrap_or(0)
    };
    let errors = property(BACKGROUND_ERRORS);
    if errors > 0 {
        return Err(StoreError::Failed(format!(
            "RocksDB had {errors} errors in background work; see its LOG file"
        )));
    }
    if property(IS_WRITE_STOPPED) == 0 {
        *write_stopped_since = None;
    } else if write_stopped_since.get_or_insert_with(Instant::now).elapsed() >= MAX_WRITE_STOP {
        let waited = MAX_WRITE_STOP.as_secs();
        return Err(StoreError::Failed(format!(
            "RocksDB has refused writes for {waited} s; see its LOG file"
        )));
    }
    Ok(())
}

fn keep_mark(shared: &Shared, mark: &mut SyncMark) -> Result<(), StoreError> {
    let synced = shared.tickets.synced_sequence();
    if synced > mark.sequence() {
        mark.record(synced)
            .map_err(|error| StoreError::Failed(format!("writing the sync mark failed: {error}")))?;
    }
    Ok(())
}

fn reclaim(shared: &Shared, trimmed: HashMap<LocalPartition, Offset>, deleted: &[LocalPartition]) {
    let trimmed: Vec<_> = trimmed.into_iter().collect();
    let (reply, answer) = mpsc::sync_channel(1);
    shared.queue.push(Command::Reclaim(trimmed.clone(), reply));
    // No answer: the store failed or is being closed. What was not deleted is again below the log start after the next start.
    if !matches!(answer.recv(), Ok(Ok(()))) {
        return;
    }
    let emptied = trimmed.iter().map(|(local, _)| local).chain(deleted);
    let (Some(&first), Some(&last)) = (emptied.clone().min(), emptied.max()) else {
        return;
    };
    // One pass over all of them: partitions share key files, so one after the other would rewrite the same files again and again.
    compact(shared, &keys::partition_start(first), &keys::partition_end(last));
    if let Err(error) = collect_blobs(shared) {
        tracing::warn!(%error, "blob files could not be collected; tried again after the next trim");
    }
}

fn compact(shared: &Shared, from: &[u8], until: &[u8]) {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    let db = &shared.engine.db;
    db.inner
        .compact_range_cf_opt(&db.family(Family::Records), Some(from), Some(until), &options);
}

/// Rewrites the live part of blob files if most of what they hold is garbage.
fn collect_blobs(shared: &Shared) -> Result<(), rocksdb::Error> {
    let db = &shared.engine.db;
    let records = db.family(Family::Records);
    let size = |name: &str| Ok(db.inner.property_int_value_cf(&records, name)?.unwrap_or(0));
    let garbage = size("rocksdb.live-blob-file-garbage-size")?;
    if garbage < MIN_BLOB_GARBAGE_BYTES || garbage * 2 < size("rocksdb.live-blob-file-size")? {
        return Ok(());
    }
    tracing::info!(garbage_bytes = garbage, "collecting blob files");
    let collect = |on| {
        db.inner
            .set_options_cf(&records, &[("enable_blob_garbage_collection", on)])
    };
    collect("true")?;
    compact(
        shared,
        &keys::partition_start(LocalPartition(0)),
        &keys::partition_start(LocalPartition(u32::MAX)),
    );
    collect("false")
}
