//! What the metadata group keeps on disk: one RocksDB for log and state, one file for the snapshot,
//! one for the sync mark.

pub(crate) mod db;
mod identity;
mod keys;
pub(crate) mod log;
pub(crate) mod snapshot;
pub(crate) mod state;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use db::DbError;
pub(crate) use identity::Owner;

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

/// Opens, or makes, the metadata folder at `path`. One that is another's, or that lost what its
/// owner must have written, is refused.
pub(crate) async fn open(path: &Path, owner: &Owner) -> Result<Stores, DbError> {
    let closed = CancellationToken::new();
    let snapshot_folder = path.join("snapshots");
    let has_snapshot = SnapshotFile::is_in(&snapshot_folder);
    if !Db::is_in(path) {
        // Before anything is made.
        owner.refuse_lost(path, has_snapshot)?;
    }
    let db = Arc::new(Db::open(path, closed.clone())?);
    identity::claim(&db, path, owner, has_snapshot).await?;
    let snapshots = Arc::new(SnapshotFile::open(&snapshot_folder)?);
    let mut state = StateMachine::open(Arc::clone(&db), Arc::clone(&snapshots))?;
    state.recover().await?;
    Ok(Stores {
        log: LogStore::new(db, &snapshots),
        state,
        closed,
    })
}
