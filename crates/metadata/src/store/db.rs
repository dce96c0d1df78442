//! The metadata database and the one thread that writes to it.
//!
//! Everything is written in the order it was queued, by a thread of its own, so that the threads of Raft never wait inside
//! RocksDB for a disk. What waits together is synced together. The first failure poisons the queue: nothing is written or
//! reported written after it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Options, WriteBatch, WriteOptions,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::{RAFT, STATE};
use crate::codec::DecodeError;

/// Most writes that may be queued.
const QUEUE_LENGTH: usize = 256;
/// Size of a memtable, bytes: the metadata is small.
const WRITE_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// WAL size that flushes families that are quiet, bytes.
const MAX_WAL_BYTES: u64 = 64 * 1024 * 1024;

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
    /// The snapshot is damaged.
    #[error("metadata snapshot {0}")]
    Snapshot(String),
}

/// The database. Reads may come from any thread; writes go through the queue.
pub(crate) struct Db {
    rocks: Arc<DB>,
    queue: mpsc::Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Fields are dropped in order: when this one goes, RocksDB has closed and its folder may be opened again.
    _closed: DropGuard,
}

struct Job {
    batch: WriteBatch,
    sync: bool,
    done: oneshot::Sender<Result<(), DbError>>,
}

impl Db {
    /// Opens the database at `path`. `closed` is cancelled when it has closed again.
    pub(crate) fn open(path: &Path, closed: CancellationToken) -> Result<Self, DbError> {
        std::fs::create_dir_all(path).map_err(|source| DbError::Io {
            what: "making its folder",
            source,
        })?;
        let families = [RAFT, STATE].map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        let rocks = Arc::new(DB::open_cf_descriptors(&database_options(), path, families)?);
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        let writer = std::thread::Builder::new()
            .name("tidelog-meta-wal".to_owned())
            .spawn({
                let rocks = Arc::clone(&rocks);
                move || write_all(&rocks, jobs)
            })
            .map_err(|source| DbError::Io {
                what: "starting its writer",
                source,
            })?;
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

    /// Writes a batch after everything queued before, and returns when it is readable; with `sync`, when it is durable.
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

fn write_all(rocks: &DB, mut jobs: mpsc::Receiver<Job>) {
    let mut poisoned: Option<String> = None;
    let mut unsynced = WriteOptions::default();
    unsynced.set_sync(false);
    let mut group = Vec::new();
    while jobs.blocking_recv_many(&mut group, QUEUE_LENGTH) > 0 {
        let result = match &poisoned {
            Some(reason) => Err(reason.clone()),
            None => write_group(rocks, &unsynced, &mut group).map_err(|error| error.to_string()),
        };
        if let (Err(reason), None) = (&result, &poisoned) {
            tracing::error!(%reason, "the metadata database failed and takes no more writes");
            poisoned = Some(reason.clone());
        }
        for job in group.drain(..) {
            // Whoever waited may have given up.
            let _ = job.done.send(result.clone().map_err(DbError::Poisoned));
        }
    }
}

fn write_group(rocks: &DB, options: &WriteOptions, group: &mut [Job]) -> Result<(), rocksdb::Error> {
    for job in group.iter_mut() {
        rocks.write_opt(std::mem::take(&mut job.batch), options)?;
    }
    if group.iter().any(|job| job.sync) {
        rocks.flush_wal(true)
    } else {
        Ok(())
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(0);
    options.set_wal_bytes_per_sync(0);
    options.set_manual_wal_flush(false);
    options.set_unordered_write(false);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_keep_log_file_num(4);
    options.set_max_background_jobs(2);
    options
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}
