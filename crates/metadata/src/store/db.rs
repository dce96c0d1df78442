//! The metadata database and the one thread that writes to it.
//!
//! Everything is written in the order it was queued, by a thread of its own, so that the threads of
//! Raft never wait inside RocksDB for a disk. What waits together is synced together. The first
//! failure poisons the queue: nothing is written or reported written after it.
//!
//! It is guarded as the record database is: the same options, its background errors looked for
//! before every write, and beside it the sequence number that was last synced, which it must reach
//! when it is opened again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{BoundColumnFamily, ColumnFamilyDescriptor, DB, Options, WriteBatch, WriteOptions};
use thiserror::Error;
use tidelog_storage::rocks::{BackgroundWatch, SyncMark, open_unchanged, safe_options};
use tidelog_types::crash::point;
use tidelog_types::{BrokerId, DirectoryId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::{RAFT, STATE};
use crate::codec::DecodeError;

const DATABASE: &str = "db";
const MARK: &str = "mark";
/// How old the mark may become while writes follow each other closely; when there is nothing to do
/// it is exact.
const MAX_MARK_AGE: Duration = Duration::from_secs(1);
/// Most writes that may be queued.
const QUEUE_LENGTH: usize = 256;
/// Size of a memtable, bytes: the metadata is small.
const WRITE_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// WAL size that flushes families that are quiet, bytes.
const MAX_WAL_BYTES: u64 = 64 * 1024 * 1024;

/// What every remedy for a metadata folder that cannot be used comes down to.
const REMEDY: &str = "move the whole data directory aside and start this broker on an empty one: the cluster takes the new \
                      directory in the old one's place, as long as a majority of the voters is there";

/// Why the metadata database cannot be used.
#[derive(Debug, Error)]
pub enum DbError {
    /// RocksDB refused, now or before.
    #[error("metadata database: {0}")]
    Rocks(#[from] rocksdb::Error),
    /// A value that this build cannot read.
    #[error("metadata database: {0}")]
    Decode(#[from] DecodeError),
    /// The file system refused.
    #[error("metadata database: {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// An earlier write failed.
    #[error(
        "metadata database: an earlier write failed ({0}); the broker must stop, and starts again when the disk is healthy"
    )]
    Poisoned(String),
    /// It is not the one that belongs to the record database beside it.
    #[error(
        "metadata database {path}: it {found}, and this is broker {broker} on directory {directory}: one half of the data directory \
         was exchanged or lost; put back what belongs together, or {REMEDY}"
    )]
    Foreign {
        /// The metadata folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        broker: BrokerId,
        /// The data directory's id, from the record database.
        directory: DirectoryId,
    },
    /// It is empty, and must have held this node's votes and log.
    #[error(
        "metadata database {path}: it is empty, but {why}: its votes and its log are lost, and without them this broker could vote \
         twice; put the folder back, or {REMEDY}"
    )]
    Lost {
        /// The metadata folder.
        path: PathBuf,
        /// How that is known.
        why: String,
    },
    /// The disk lost writes that it had reported to be on stable storage.
    #[error(
        "metadata database {path}: it lost synced writes: it ends at sequence {found}, {marked} was synced; check the disk and \
         {REMEDY}"
    )]
    LostWrites {
        /// The metadata folder.
        path: PathBuf,
        /// RocksDB's sequence number there.
        found: u64,
        /// The one that was marked as synced.
        marked: u64,
    },
    /// Its sync mark is gone.
    #[error("metadata database {0}: the file `mark` beside it is gone; restore it, or {REMEDY}")]
    NoMark(PathBuf),
    /// The snapshot is damaged.
    #[error("metadata snapshot {0}")]
    Snapshot(String),
}

/// The database. Reads may come from any thread; writes go through the queue.
pub(crate) struct Db {
    rocks: Arc<DB>,
    queue: mpsc::Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Fields are dropped in order: when this one goes, RocksDB has closed and its folder may be
    /// opened again.
    _closed: DropGuard,
}

struct Job {
    batch: WriteBatch,
    sync: bool,
    done: oneshot::Sender<Result<(), DbError>>,
}

impl Db {
    /// Whether there is a database in a metadata folder.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(DATABASE).join("CURRENT").exists()
    }

    /// Opens the database in a metadata folder, or makes it. One that lost synced writes is refused
    /// and left as it is. `closed` is cancelled when it has closed again.
    pub(crate) fn open(folder: &Path, closed: CancellationToken) -> Result<Self, DbError> {
        let io = |what| move |source| DbError::Io { what, source };
        let path = folder.join(DATABASE);
        std::fs::create_dir_all(&path).map_err(io("making its folder"))?;
        let mark_path = folder.join(MARK);
        if Self::is_in(folder) && !mark_path.exists() {
            return Err(DbError::NoMark(folder.to_owned()));
        }
        let mark = SyncMark::open(&mark_path).map_err(io("reading its sync mark"))?;
        check_before_opening(folder, &mark)?;
        let rocks = Arc::new(DB::open_cf_descriptors(&database_options(), &path, families())?);
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        let writer = std::thread::Builder::new()
            .name("tidelog-meta-wal".to_owned())
            .spawn({
                let writer = Writer {
                    rocks: Arc::clone(&rocks),
                    background: BackgroundWatch::default(),
                    synced: mark.sequence(),
                    mark,
                    marked_at: Instant::now(),
                };
                move || writer.run(jobs)
            })
            .map_err(io("starting its writer"))?;
        Ok(Self {
            rocks,
            queue,
            writer: Mutex::new(Some(writer)),
            _closed: closed.drop_guard(),
        })
    }

    pub(crate) fn rocks(&self) -> &DB {
        &self.rocks
    }

    pub(crate) fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.rocks
            .cf_handle(name)
            .expect("both families are made when the database is opened")
    }

    /// Writes a batch after everything queued before, and returns when it is readable; with `sync`,
    /// when it is durable.
    pub(crate) async fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), DbError> {
        let (done, written) = oneshot::channel();
        let gone = || DbError::Poisoned("its writer is gone".to_owned());
        self.queue
            .send(Job { batch, sync, done })
            .await
            .map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // The queue closes with its last sender; whoever opens the folder next finds the lock free.
        let (closed, _) = mpsc::channel(1);
        self.queue = closed;
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

/// Who writes, and keeps the mark.
struct Writer {
    rocks: Arc<DB>,
    background: BackgroundWatch,
    mark: SyncMark,
    /// When the mark was last written.
    marked_at: Instant,
    /// The sequence number that the last sync covered.
    synced: u64,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut poisoned: Option<String> = None;
        let mut group = Vec::new();
        while jobs.blocking_recv_many(&mut group, QUEUE_LENGTH) > 0 {
            let result = match &poisoned {
                Some(reason) => Err(reason.clone()),
                None => self.write(&mut group),
            };
            poison(&mut poisoned, &result);
            for job in group.drain(..) {
                // Whoever waited may have given up.
                let _ = job.done.send(result.clone().map_err(DbError::Poisoned));
            }
            // After the answers, so that nobody waits for the mark; not between writes that follow
            // each other closely.
            if poisoned.is_none() && (jobs.is_empty() || self.marked_at.elapsed() >= MAX_MARK_AGE) {
                poison(&mut poisoned, &self.keep_mark());
            }
        }
        if poisoned.is_none() {
            let closed = self.sync().and_then(|()| self.keep_mark());
            poison(&mut poisoned, &closed);
        }
    }

    fn write(&mut self, group: &mut [Job]) -> Result<(), String> {
        self.background.look(&self.rocks)?;
        let mut unsynced = WriteOptions::default();
        unsynced.set_sync(false);
        for job in group.iter_mut() {
            let batch = std::mem::take(&mut job.batch);
            point("crash:metadata/write/begun");
            let written = self.rocks.write_opt(batch, &unsynced);
            written.map_err(|error| error.to_string())?;
            point("crash:metadata/write/written");
        }
        if group.iter().any(|job| job.sync) {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        let sequence = self.rocks.latest_sequence_number();
        self.rocks.flush_wal(true).map_err(|error| error.to_string())?;
        self.synced = sequence;
        point("crash:metadata/write/synced");
        Ok(())
    }

    fn keep_mark(&mut self) -> Result<(), String> {
        if self.synced > self.mark.sequence() {
            let marked = self.mark.record(self.synced);
            marked.map_err(|error| format!("writing the sync mark failed: {error}"))?;
            self.marked_at = Instant::now();
            point("crash:metadata/mark/recorded");
        }
        Ok(())
    }
}

fn poison(poisoned: &mut Option<String>, result: &Result<(), String>) {
    if let (Err(reason), None) = (result, &poisoned) {
        tracing::error!(%reason, "the metadata database failed and takes no more writes");
        *poisoned = Some(reason.clone());
    }
}

/// Checks, before anything is written, that a database has all that was ever synced.
fn check_before_opening(folder: &Path, mark: &SyncMark) -> Result<(), DbError> {
    // Nothing was ever synced: it is new, or its creation was cut short.
    if mark.sequence() == 0 {
        return Ok(());
    }
    if !Db::is_in(folder) {
        return Err(DbError::Lost {
            path: folder.to_owned(),
            why: "its sync mark says that it was written to".to_owned(),
        });
    }
    let found = open_unchanged(&folder.join(DATABASE), families())?.latest_sequence_number();
    if found < mark.sequence() {
        return Err(DbError::LostWrites {
            path: folder.to_owned(),
            found,
            marked: mark.sequence(),
        });
    }
    Ok(())
}

fn database_options() -> Options {
    let mut options = safe_options();
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    let family = |name| {
        let mut options = Options::default();
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        ColumnFamilyDescriptor::new(name, options)
    };
    [RAFT, STATE].map(family).into()
}
