//! The RocksDB engine of [`LogStore`].
//!
//! ```text
//!  callers ──▶ Queue ──▶ writer thread ──ticket──▶ sync thread ──▶ StoreListener::durable
//!     │                     │  └─▶ StoreListener::written
//!     │                     ▼
//!     └─reads──▶ TailCache, RocksDB ◀── upkeep thread (errors, sync mark), reclaim thread (space)
//! ```
//!
//! A write goes to WAL and memtable and is readable at once; one WAL sync makes durable whatever
//! was written since the last, of all partitions. The next write goes on while a sync runs.

mod background;
mod codec;
mod db;
mod directory;
mod engine;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod health;
mod keys;
mod options;
mod queue;
mod read_only;
mod reader;
mod reclaim;
mod recovery;
mod shared;
mod sync_mark;
mod syncer;
mod tails;
#[cfg(test)]
mod tests;
mod times;
mod upkeep;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tidelog_log::{
    Append, LogStore, PartitionLog, ReadBatches, StoreError, StoreListener, StoredPartition, Truncate,
};
use tidelog_types::{ClusterId, LocalPartition, Offset, TopicIdPartition};

pub use background::BackgroundWatch;
pub use directory::{DirectoryMeta, OpenError, create_dir_durably};
pub use options::{MIN_MEMORY_BUDGET_BYTES, RocksOptions, direct_io_works, open_unchanged, safe_options};
pub use read_only::{BatchIter, ReadOnlyStore};
pub use sync_mark::SyncMark;

use self::codec::DirectoryIdentity;
use self::db::{Changes, Db, Family};
use self::directory::Layout;
use self::engine::Engine;
use self::health::Health;
use self::keys::MetaKind;
use self::options::Budget;
use self::queue::{Command, Queue, Reply};
use self::reclaim::ToReclaim;
use self::recovery::Found;
use self::shared::Shared;
use self::syncer::Tickets;
use self::upkeep::Upkeep;
use self::writer::Writer;
use crate::cache::TailCache;

/// A filesystem's size, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may still fill, bytes.
    pub free_bytes: u64,
    /// What the store will yet take of it for what it has accepted, bytes: everything in memtables
    /// is written a second time before its WAL goes, what is queued both times, and the next WAL is
    /// allocated ahead.
    pub owed_bytes: u64,
    /// All of it, bytes.
    pub total_bytes: u64,
}

/// How often a read is begun anew because a truncation or a trim crossed it. Those of one partition
/// are seconds apart.
const MAX_READ_ATTEMPTS: usize = 8;

/// All partitions of one data directory, on RocksDB.
///
/// Dropping it writes and syncs what is queued, but leaves the directory marked as not closed in
/// order; see [`RocksStore::close`].
pub struct RocksStore {
    shared: Arc<Shared>,
    meta: DirectoryMeta,
    layout: Layout,
    threads: Mutex<Option<Threads>>,
    wal_ahead_bytes: u64,
    /// Keeps others out of the directory. Dropped after the database.
    _lock: File,
}

struct Threads {
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    upkeep: JoinHandle<SyncMark>,
    reclaim: JoinHandle<()>,
}

/// Ends the reclaim thread when the database has nothing more to do: what it compacts just then is
/// given up.
struct Reclaiming<'a> {
    shared: &'a Shared,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reclaiming<'_> {
    fn drop(&mut self) {
        // RocksDB takes no flush after this, and begins no background work.
        self.shared.engine.db.inner.cancel_all_background_work(false);
        if let Some(thread) = self.thread.take() {
            join(&self.shared.health, thread);
        }
    }
}

impl RocksStore {
    /// Opens a data directory, or makes a fresh one of it; blocks for seconds if much has to be
    /// recovered.
    ///
    /// Everything found is on stable storage when it returns. A directory that lost synced writes,
    /// or whose logs have holes at their ends, is refused and left as it is.
    pub fn open(
        dir: &Path,
        options: RocksOptions,
        listener: Arc<dyn StoreListener>,
    ) -> Result<Arc<Self>, OpenError> {
        let layout = Layout::new(dir);
        let lock = layout.lock()?;
        if !layout.mark().exists() && layout.has_database_files() {
            return Err(OpenError::Incomplete {
                dir: dir.to_owned(),
                what: "the file `mark` is gone".to_owned(),
            });
        }
        let mut mark =
            SyncMark::open(&layout.mark()).map_err(|error| layout.io("reading the sync mark", error))?;
        let Found { tails, logs } = recovery::check_before_opening(&layout, &mark, &options)?;

        layout.make_database_folder()?;
        let disk = filesystem(dir).map_err(|error| layout.io("asking for free space", error))?;
        let budget = Budget::of(options.memory_budget).on_disk(disk.total_bytes);
        let database = options::store_options(&budget, direct_io_works(dir));
        let db = Db::open(&database, &layout.database(), options::families(&budget))
            .map_err(|error| layout.database_error(&error))?;
        let engine = Engine::new(db);
        let (meta, next_local) = recovery::take_over(&layout, &engine, &options)?;
        let sequence = engine.sequence();
        engine.sync().map_err(|error| layout.store_error(error))?;
        mark.record(sequence)
            .map_err(|error| layout.io("writing the sync mark", error))?;

        let tickets = Arc::new(Tickets::default());
        tickets.set_synced_sequence(sequence);
        let identity = DirectoryIdentity {
            directory: meta.directory,
            broker: meta.broker,
            cluster: meta.cluster,
        };
        let shared = Arc::new(Shared {
            engine,
            health: Health::new(listener),
            queue: Queue::default(),
            tickets,
            tails,
            cache: TailCache::new(budget.tail_cache),
            upkeep: Upkeep::default(),
            to_reclaim: ToReclaim::default(),
            identity: Mutex::new(identity),
        });
        for (&local, log) in &logs {
            if reader::holds_batches_below(&shared.engine.db, local, log.start) {
                shared.to_reclaim.trimmed(local, log.start);
            }
        }
        let writer = Writer::new(Arc::clone(&shared), logs, next_local);
        let threads =
            spawn(&shared, writer, mark, &options).map_err(|error| layout.io("starting threads", error))?;
        Ok(Arc::new(Self {
            shared,
            meta,
            layout,
            threads: Mutex::new(Some(threads)),
            wal_ahead_bytes: budget.wal_ahead(),
            _lock: lock,
        }))
    }

    /// Opens a data directory to look into it, while no broker has it open or even while one does;
    /// changes nothing in it.
    pub fn open_read_only(dir: &Path) -> Result<ReadOnlyStore, OpenError> {
        ReadOnlyStore::open(dir)
    }

    /// Whose directory it is. The cluster is the one adopted meanwhile, if it was.
    pub fn directory(&self) -> DirectoryMeta {
        DirectoryMeta {
            cluster: self.shared.identity.lock().cluster,
            ..self.meta
        }
    }

    /// Notes the cluster that the broker has become part of, durably; blocks for a sync. A
    /// directory never changes its cluster: for one that has another the answer is an error, and
    /// nothing changes.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), OpenError> {
        match self.shared.identity.lock().cluster {
            Some(found) if found == cluster => return Ok(()),
            Some(found) => {
                let dir = self.layout.dir.clone();
                return Err(OpenError::ForeignCluster {
                    dir,
                    found,
                    expected: cluster,
                });
            }
            None => {}
        }
        self.ask(|reply| Command::AdoptCluster(cluster, reply))
            .map_err(|error| self.layout.store_error(error))
    }

    /// How large and how full the directory's filesystem is. May block for long on a remote
    /// filesystem.
    pub fn space(&self) -> std::io::Result<Space> {
        let db = &self.shared.engine.db;
        // What is queued is counted first: what is written meanwhile counts twice rather than not
        // at all.
        let queued = self.shared.queue.bytes() as u64;
        let memtables = db.memtable_bytes();
        let disk = filesystem(&self.layout.dir)?;
        Ok(Space {
            owed_bytes: memtables + 2 * queued + self.wal_ahead_bytes,
            ..disk
        })
    }

    /// What the files of the directory take, bytes.
    pub fn used_bytes(&self) -> std::io::Result<u64> {
        let mut used = 0;
        for entry in std::fs::read_dir(self.layout.database())? {
            // RocksDB removes files as it likes: one that is gone takes nothing.
            used += entry?.metadata().map_or(0, |file| file.len());
        }
        Ok(used)
    }

    /// Deletes what was trimmed before this call and compacts, without waiting for the reclaim
    /// interval; blocks until done.
    pub fn reclaim(&self) -> Result<(), StoreError> {
        self.ask(Command::Barrier)?;
        // Ends when the reclaim thread drops the sender: it is done, or stopped.
        let _ = self.shared.to_reclaim.reclaim_now().recv();
        self.shared.health.check()
    }

    /// Ends in order: writes and syncs what is queued, flushes memtables, marks the directory
    /// clean. A compaction that frees space is given up. Later calls fail. Calling it again does
    /// nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        let Some((mark, _reclaiming)) = self.stop() else {
            return Ok(());
        };
        self.shared.health.check()?;
        let mut mark = mark.ok_or_else(|| StoreError::Failed("the sync mark is gone".to_owned()))?;
        self.shared.health.retire();
        let engine = &self.shared.engine;
        let failed = |error: rocksdb::Error| engine::failed("closing", &error);
        for family in Family::ALL {
            engine
                .db
                .inner
                .flush_cf(&engine.db.family(family))
                .map_err(failed)?;
        }
        let mut changes = Changes::default();
        let clean = codec::encode_clean_shutdown(engine.sequence());
        changes.put(
            &engine.db,
            Family::Meta,
            &keys::meta_key(MetaKind::CleanShutdown),
            &clean,
        );
        engine.write(changes, true)?;
        engine
            .db
            .inner
            .flush_cf(&engine.db.family(Family::Meta))
            .map_err(failed)?;
        mark.record(engine.sequence())
            .map_err(|error| StoreError::Failed(format!("writing the sync mark failed: {error}")))
    }

    /// Ends the threads once everything queued is written and synced; gives the mark for the last
    /// word, and the reclaim thread, which may be in the middle of a compaction: that ends when it
    /// is dropped.
    fn stop(&self) -> Option<(Option<SyncMark>, Reclaiming<'_>)> {
        let threads = self.threads.lock().take()?;
        let health = &self.shared.health;
        self.shared.upkeep.stop();
        self.shared.to_reclaim.stop();
        self.shared.queue.close();
        join(health, threads.writer);
        join(health, threads.syncer);
        let mark = join(health, threads.upkeep);
        let reclaiming = Reclaiming {
            shared: &self.shared,
            thread: Some(threads.reclaim),
        };
        Some((mark, reclaiming))
    }

    /// Has the writer do something and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        self.shared.health.check()?;
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.queue.push(command(reply));
        answer.recv().unwrap_or_else(|_| {
            self.shared.health.check()?;
            Err(StoreError::Failed("the store was closed".to_owned()))
        })
    }

    fn push(&self, command: Command) {
        // The listener was told of a failure; nobody waits for what comes after it.
        if self.shared.health.check().is_ok() {
            self.shared.queue.push(command);
        }
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A filesystem as the operating system has it: nothing is owed.
fn filesystem(path: &Path) -> std::io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        free_bytes: found.f_bavail * found.f_frsize,
        owed_bytes: 0,
        total_bytes: found.f_blocks * found.f_frsize,
    })
}

/// Waits for a thread, unless it is this one: the last handle may be dropped by a listener, on a
/// thread of the store, which ends by itself after that.
fn join<T>(health: &Health, thread: JoinHandle<T>) -> Option<T> {
    if thread.thread().id() == std::thread::current().id() {
        return None;
    }
    let ended = thread.join();
    if ended.is_err() {
        health.poison(panicked());
    }
    ended.ok()
}

fn panicked() -> StoreError {
    StoreError::Failed("a thread of the store panicked".to_owned())
}

/// Stands at the top of every thread of the store. One that panics fails the store, as a failed
/// write does: the others stop, whoever waits gets an answer, and the listener is told.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.health.poison(panicked());
            self.0.queue.abandon();
            self.0.tickets.close();
        }
    }
}

fn spawn(
    shared: &Arc<Shared>,
    writer: Writer,
    mark: SyncMark,
    options: &RocksOptions,
) -> std::io::Result<Threads> {
    fn guarded<T: Send + 'static>(
        shared: &Arc<Shared>,
        name: &str,
        run: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> std::io::Result<JoinHandle<T>> {
        let guard = PanicGuard(Arc::clone(shared));
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            let guard = guard;
            run(&guard.0)
        })
    }
    let interval = options.reclaim_interval;
    Ok(Threads {
        writer: guarded(shared, "store-write", move |_| writer.run())?,
        syncer: guarded(shared, "store-sync", |shared| {
            syncer::run(&shared.tickets, &shared.engine, &shared.health);
        })?,
        upkeep: guarded(shared, "store-upkeep", move |shared| upkeep::run(shared, mark))?,
        reclaim: guarded(shared, "store-reclaim", move |shared| {
            reclaim::run(shared, interval);
        })?,
    })
}

impl LogStore for RocksStore {
    fn partitions(&self) -> Result<Vec<StoredPartition>, StoreError> {
        self.shared.health.check()?;
        Ok(self.shared.tails.list())
    }

    fn create(&self, partition: TopicIdPartition) -> Result<LocalPartition, StoreError> {
        self.ask(|reply| Command::Create(partition, reply))
    }

    fn delete(&self, partition: LocalPartition) -> Result<(), StoreError> {
        self.ask(|reply| Command::Delete(partition, reply))
    }

    fn load(&self, partition: LocalPartition) -> Result<PartitionLog, StoreError> {
        self.ask(Command::Barrier)?;
        let bounds = self.shared.tails.get(partition)?.bounds();
        reader::load(&self.shared.engine.db, partition, bounds)
    }

    fn append(&self, append: Append) {
        self.push(Command::Append(append));
    }

    fn truncate(&self, truncate: Truncate) {
        self.push(Command::Truncate(truncate));
    }

    fn trim(&self, partition: LocalPartition, log_start: Offset) {
        if let Ok(tail) = self.shared.tails.get(partition) {
            tail.raise_start(log_start);
        }
        self.push(Command::Trim(partition, log_start));
    }

    fn checkpoint(&self, partition: LocalPartition, high_watermark: Offset) {
        self.push(Command::Checkpoint(partition, high_watermark));
    }

    fn read_cached(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        self.shared.health.check().ok()?;
        let tail = self.shared.tails.get(partition).ok()?;
        let bounds = tail.bounds();
        let (from, until) = bounds.clamp(from, until);
        if from >= until {
            return Some(ReadBatches {
                batches: Vec::new(),
                next: from,
            });
        }
        let read = self.shared.cache.read(partition, from, until, max_bytes)?;
        (tail.bounds().generation == bounds.generation).then_some(read)
    }

    fn read(
        &self,
        partition: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, StoreError> {
        self.shared.health.check()?;
        if let Some(read) = self.read_cached(partition, from, until, max_bytes) {
            return Ok(read);
        }
        let tail = self.shared.tails.get(partition)?;
        for _ in 0..MAX_READ_ATTEMPTS {
            let bounds = tail.bounds();
            let read = reader::read(
                &self.shared.engine.db,
                partition,
                bounds,
                (from, until),
                max_bytes,
            );
            let now = self.shared.tails.get(partition)?.bounds();
            // What was trimmed meanwhile may be gone, and is not missing.
            let is_missing = read.is_err() && now.start == bounds.start;
            if now.generation == bounds.generation && (read.is_ok() || is_missing) {
                return read;
            }
        }
        Err(StoreError::Failed(format!(
            "reading {partition}: its log was truncated again and again"
        )))
    }

    fn offset_for_timestamp(
        &self,
        partition: LocalPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, StoreError> {
        self.shared.health.check()?;
        let bounds = self.shared.tails.get(partition)?.bounds();
        reader::offset_for_timestamp(&self.shared.engine.db, partition, bounds, timestamp_ms)
    }

    fn size_bytes(&self, partition: LocalPartition) -> Result<u64, StoreError> {
        self.shared.health.check()?;
        Ok(self.shared.tails.get(partition)?.size_bytes())
    }

    fn queued_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }
}
