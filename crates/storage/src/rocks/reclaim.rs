//! The reclaim thread: once a reclaim interval it has what was trimmed deleted, in one write for
//! all partitions, and compacts the keys there, so that disk use really falls.
//!
//! A compaction may take minutes; nothing waits for this thread. When the store ends, it is given
//! up; that space comes back by RocksDB's own compactions after the next start.
//!
//! A blob file goes when all in it is garbage, which is the rule where topics keep their records
//! equally long. RocksDB's own collection for the other case moves every live blob of the oldest
//! files in *every* compaction, garbage there or none: on a log that is a rewrite of a quarter of
//! all data for every few flushes. So it is off, and switched on here for one compaction once most
//! of what blob files hold is garbage: what is then rewritten is less than what is freed.
//!
//! On a disk that is nearly full there is no room to rewrite everything at once. Then the oldest
//! blob files go first, as many as fit into what is free, and so on in passes: each frees what the
//! next one needs.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rocksdb::{AsColumnFamilyRef, BottommostLevelCompaction, CompactOptions, DB};
use tidelog_types::{LocalPartition, Offset};

use super::db::Family;
use super::keys;
use super::queue::Command;
use super::shared::Shared;

/// How soon the space of deleted partitions is freed: whoever deletes a topic may need it now. Long
/// enough for all of its partitions to come together.
const DELETED_INTERVAL: Duration = Duration::from_secs(2);
/// Most passes over the blob files in a row.
const MAX_PASSES: usize = 64;
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

    /// How long to wait after the last round.
    fn interval(&self, usual: Duration) -> Duration {
        if self.deleted.is_empty() {
            usual
        } else {
            usual.min(DELETED_INTERVAL)
        }
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
        self.changed.notify_all();
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
                let rest = state.interval(interval).saturating_sub(last.elapsed());
                shared.to_reclaim.changed.wait_for(&mut state, rest);
            }
            if state.stopped {
                return;
            }
            let waiting = std::mem::take(&mut state.waiting);
            if waiting.is_empty() && last.elapsed() < state.interval(interval) {
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
        // Also without new work: what had no room before may have it now.
        if let Err(error) = collect_blobs(shared) {
            tracing::warn!(%error, "blob files could not be collected; tried again later");
        }
        last = Instant::now();
        drop(waiting);
    }
}

fn reclaim(shared: &Shared, trimmed: HashMap<LocalPartition, Offset>, deleted: &[LocalPartition]) {
    let trimmed: Vec<_> = trimmed.into_iter().collect();
    let (reply, answer) = mpsc::sync_channel(1);
    shared.queue.push(Command::Reclaim(trimmed.clone(), reply));
    // No answer: the store failed or is being closed. What was not deleted is again below the log
    // start after the next start.
    if !matches!(answer.recv(), Ok(Ok(()))) {
        return;
    }
    let emptied = trimmed.iter().map(|(local, _)| local).chain(deleted);
    let (Some(&first), Some(&last)) = (emptied.clone().min(), emptied.max()) else {
        return;
    };
    // One pass over all of them: partitions share key files, so one after the other would rewrite
    // the same files again and again.
    compact(shared, &keys::partition_start(first), &keys::partition_end(last));
}

fn compact(shared: &Shared, from: &[u8], until: &[u8]) {
    #[cfg(test)]
    while shared.engine.faults.holds_compactions() && !shared.to_reclaim.is_stopped() {
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

/// Rewrites the live part of blob files while most of what they hold is garbage, in as many passes
/// as the free space makes of it.
fn collect_blobs(shared: &Shared) -> Result<(), rocksdb::Error> {
    let db = &shared.engine.db.inner;
    let records = shared.engine.db.family(Family::Records);
    let mut before = u64::MAX;
    for _ in 0..MAX_PASSES {
        let blobs = BlobFiles::look(db, &records)?;
        // A pass that freed nothing is not worth another one like it.
        if !blobs.are_mostly_garbage() || blobs.garbage_bytes >= before || shared.to_reclaim.is_stopped() {
            return Ok(());
        }
        before = blobs.garbage_bytes;
        let free_bytes = super::filesystem(db.path()).map_or(0, |disk| disk.free_bytes);
        let Some(part) = blobs.part_that_fits(free_bytes) else {
            tracing::warn!(
                free_bytes,
                "there is no room to collect blob files in; tried again later"
            );
            return Ok(());
        };
        tracing::info!(garbage_bytes = blobs.garbage_bytes, part, "collecting blob files");
        let part = part.to_string();
        let collect = |on| {
            let options = [
                ("enable_blob_garbage_collection", on),
                ("blob_garbage_collection_age_cutoff", part.as_str()),
            ];
            db.set_options_cf(&records, &options)
        };
        collect("true")?;
        compact(
            shared,
            &keys::partition_start(LocalPartition(0)),
            &keys::partition_start(LocalPartition(u32::MAX)),
        );
        collect("false")?;
    }
    Ok(())
}

/// What the blob files hold.
#[derive(Debug, Clone, Copy)]
struct BlobFiles {
    count: u64,
    total_bytes: u64,
    garbage_bytes: u64,
}

impl BlobFiles {
    fn look(db: &DB, records: &impl AsColumnFamilyRef) -> Result<Self, rocksdb::Error> {
        let value = |name: &str| Ok(db.property_int_value_cf(records, name)?.unwrap_or(0));
        Ok(Self {
            count: value("rocksdb.num-blob-files")?,
            total_bytes: value("rocksdb.live-blob-file-size")?,
            garbage_bytes: value("rocksdb.live-blob-file-garbage-size")?,
        })
    }

    fn are_mostly_garbage(&self) -> bool {
        self.garbage_bytes >= MIN_BLOB_GARBAGE_BYTES && self.garbage_bytes * 2 >= self.total_bytes
    }

    /// Which part of the files, the oldest, may be collected with so much free space. Only three
    /// quarters of it are counted on, and each file as if all of it lived: others write meanwhile,
    /// and a compaction without room would end the store.
    fn part_that_fits(&self, free_bytes: u64) -> Option<f64> {
        let room = free_bytes / 4 * 3;
        if self.total_bytes - self.garbage_bytes <= room {
            return Some(1.0);
        }
        let file_bytes = (self.total_bytes / self.count.max(1)).max(1);
        // Half a file is added, so that no rounding takes one away: RocksDB rounds down.
        let files = (room / file_bytes).min(self.count - 1);
        (files > 0).then(|| (files as f64 + 0.5) / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn as_many_blob_files_are_collected_as_fit_into_what_is_free() {
        let blobs = BlobFiles {
            count: 100,
            total_bytes: 200 * MIB,
            garbage_bytes: 120 * MIB,
        };
        assert!(blobs.are_mostly_garbage());
        let part = |free| blobs.part_that_fits(free * MIB);
        assert_eq!(part(200), Some(1.0), "all that lives fits");
        // 30 MiB are counted on: 15 files.
        assert_eq!(part(40), Some(0.155));
        assert_eq!(part(3), Some(0.015));
        assert_eq!(part(2), None, "not one file fits");
    }
}
