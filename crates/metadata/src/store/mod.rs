//! What the metadata group keeps on disk: one RocksDB for log and state, one file for the snapshot.

pub(crate) mod db;
mod keys;
pub(crate) mod log;
pub(crate) mod snapshot;
pub(crate) mod state;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use db::DbError;

use db::Db;
use log::LogStore;
use snapshot::SnapshotFile;
use state::StateMachine;
use tokio_util::sync::CancellationToken;

/// An opened metadata folder.
pub(crate) struct Stores {
    /// Cancelled when the database has closed.
    pub(crate) closed: CancellationToken,
    pub(crate) log: LogStore,
    pub(crate) state: StateMachine,
}

/// Opens, or makes, the metadata folder at `path`.
pub(crate) async fn open(path: &Path) -> Result<Stores, DbError> {
    let closed = CancellationToken::new();
    let db = Arc::new(Db::open(&path.join("db"), closed.clone())?);
    let snapshots = Arc::new(SnapshotFile::open(&path.join("snapshots"))?);
    let mut state = StateMachine::open(Arc::clone(&db), snapshots)?;
    state.recover().await?;
    Ok(Stores {
        log: LogStore::new(db),
        state,
        closed,
    })
}
