//! The reclaim thread: once a reclaim interval it has what was trimmed deleted, in one write for all partitions, and compacts the
//! keys there, so that disk use really falls.
//!
//! A compaction may take minutes; nothing waits for this thread. When the store ends, it is given up; that space
//! comes back by RocksDB's own compactions after the next start.
//!
//! A blob file goes when all in it is garbage, which is the rule where topics keep their records equally long. RocksDB's own
//! collection for the other case moves every live blob of the oldest files in *every* compaction, garbage there or none: on a
//! log that is a rewrite of a quarter of all data for every few flushes. So it is off, and switched on here for one compaction
//! once most of what blob files hold is garbage: what is then rewritten is less than what is freed.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocksdb::{BottommostLevelCompaction, CompactOptions};
use tidelog_types::{LocalPartition, Offset};

use super::db::Family;
use super::keys;
use super::queue::Command;
use super::shared::Shared;

/// Garbage below this is left alone, bytes.
const MIN_BLOB_GARBAGE_BYTES: u64 = 8 * 1024 * 1024;

/// What is waiting to be done.
#[derive(Default)]
pub(crate) struct ToReclaim {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    trimmed: HashMap<LocalPartition, Offset>,
    deleted: Vec<LocalPartition>,
    /// Callers of [`ToReclaim::reclaim_now`].
    waiting: Vec<mpsc::SyncSender<()>>,
    stopped: bool,
}

impl State {
    fn has_work(&self) -> bool {
        !self.trimmed.is_empty() || !self.deleted.is_empty()
    }
}

impl ToReclaim {
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
        let mut state = self.state.lock();
        if !state.stopped {
            state.waiting.push(done);
        }
        self.changed.notify_all();
        finished
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

/// Runs until it is stopped.
pub(crate) fn run(shared: &Shared, interval: Duration) {
    let mut last = Instant::now();
    loop {
        let (work, waiting) = {
            let mut state = shared.to_reclaim.state.lock();
            if !state.stopped && state.waiting.is_empty() {
                let rest = interval.saturating_sub(last.elapsed());
                shared.to_reclaim.changed.wait_for(&mut state, rest);
            }
            if state.stopped {
                return;
            }
            let waiting = std::mem::take(&mut state.waiting);
            if waiting.is_empty() && last.elapsed() < interval {
                continue;
            }
            let work = state.has_work().then(|| {
                (
                    std::mem::take(&mut state.trimmed),
                    std::mem::take(&mut state.deleted),
                )
            });
            (work, waiting)
        };
        if let Some((trimmed, deleted)) = work {
            reclaim(shared, trimmed, &deleted);
        }
        last = Instant::now();
        drop(waiting);
    }
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
    #[cfg(test)]
    while shared
        .engine
        .faults
        .hold_compactions
        .load(std::sync::atomic::Ordering::SeqCst)
        && !shared.to_reclaim.is_stopped()
    {
        std::thread::yield_now();
    }
    if shared.to_reclaim.is_stopped() {
        return;
    }
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
