//! openraft's own storage suite, and what it does not ask: durability across a reopening.

#[cfg(feature = "failpoints")]
mod crash;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use tempfile::TempDir;
use tidelog_cluster::command::InitCluster;
use tidelog_cluster::{Command, MetadataIndex};
use tidelog_storage::rocks::SyncMark;
use tidelog_types::{BrokerId, ClusterId, DirectoryId};

use super::*;
use crate::codec::command;
use crate::raft_types::{EncodedCommand, Entry, LogId, StorageError, TypeConfig, Vote};

fn owner() -> Owner {
    Owner {
        broker: BrokerId::new(1).unwrap(),
        directory: DirectoryId::from_slice(&[7; 16]).unwrap(),
        cluster: None,
    }
}

async fn open(path: &Path) -> Result<Stores, DbError> {
    super::open(path, &owner()).await
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let stores = open(folder.path()).await.unwrap();
        Ok((folder, stores.log.unguarded(), stores.state))
    }
}

#[test]
fn openrafts_storage_suite_passes() {
    Suite::test_all(Builder).unwrap();
}

fn log_id(index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(1, 7), index)
}

fn name_cluster(index: u64) -> Entry {
    let init = InitCluster {
        cluster_id: ClusterId::from_slice(&[index as u8; 16]).unwrap(),
    };
    let command = EncodedCommand(command::to_bytes(&Command::InitCluster(init)));
    Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(command),
    }
}

#[tokio::test]
async fn vote_log_and_state_are_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut stores = open(folder.path()).await.unwrap();
        stores.log.save_vote(&Vote::new(3, 7)).await.unwrap();
        stores
            .log
            .blocking_append((1..=5).map(name_cluster))
            .await
            .unwrap();
        stores.log.save_committed(Some(log_id(4))).await.unwrap();
        stores.state.apply((1..=2).map(name_cluster)).await.unwrap();
    }
    let mut stores = open(folder.path()).await.unwrap();
    assert_eq!(
        stores.log.read_vote().await.unwrap(),
        Some(Vote::new(3, 7)),
        "M30"
    );
    assert_eq!(stores.log.read_committed().await.unwrap(), Some(log_id(4)));
    assert_eq!(
        stores.log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(5))
    );
    assert_eq!(stores.log.try_get_log_entries(2..4).await.unwrap().len(), 2);
    assert_eq!(stores.state.applied_state().await.unwrap().0, Some(log_id(2)));
    let image = stores.state.published().images.borrow().clone();
    assert_eq!(image.cluster_id, ClusterId::from_slice(&[1; 16]));
    assert_eq!(
        image.index,
        MetadataIndex(1),
        "the second command changed nothing"
    );
}

#[tokio::test]
async fn a_snapshot_ahead_of_the_state_is_taken_up_when_the_folder_is_opened() {
    let ahead = tempfile::tempdir().unwrap();
    let behind = tempfile::tempdir().unwrap();
    {
        let mut stores = open(ahead.path()).await.unwrap();
        stores.state.apply((1..=3).map(name_cluster)).await.unwrap();
        stores
            .state
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .unwrap();
        let mut stores = open(behind.path()).await.unwrap();
        // A snapshot is taken from a leader, whose vote is saved before.
        stores.log.save_vote(&Vote::new(1, 7)).await.unwrap();
    }
    // As after a crash between the renaming and the write of the state.
    std::fs::copy(
        ahead.path().join("snapshots/current.snapshot"),
        behind.path().join("snapshots/current.snapshot"),
    )
    .unwrap();
    let mut stores = open(behind.path()).await.unwrap();
    assert_eq!(stores.state.applied_state().await.unwrap().0, Some(log_id(3)));
    assert!(stores.state.published().images.borrow().cluster_id.is_some());
}

#[tokio::test]
async fn a_damaged_snapshot_refuses_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = open(folder.path()).await.unwrap();
    stores.log.save_vote(&Vote::new(1, 7)).await.unwrap();
    drop(stores);
    std::fs::write(
        folder.path().join("snapshots/current.snapshot"),
        b"TDLGMET1 and nonsense",
    )
    .unwrap();
    let Err(DbError::Snapshot(why)) = open(folder.path()).await else {
        panic!("damage was taken for a snapshot")
    };
    assert!(why.contains("checksum"), "{why}");
}

#[tokio::test]
async fn m30_a_folder_whose_database_lost_its_vote_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    drop(
        open(folder.path())
            .await
            .expect("a node that never voted may come back"),
    );
    let adopted = Owner {
        cluster: ClusterId::from_slice(&[1; 16]),
        ..owner()
    };
    for _ in 0..2 {
        let refused = super::open(folder.path(), &adopted)
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, DbError::Lost { .. }), "{refused}");
    }
    // A snapshot alone says as much.
    std::fs::write(folder.path().join("snapshots/current.snapshot"), b"any").unwrap();
    let refused = open(folder.path()).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, DbError::Lost { .. }), "{refused}");
    std::fs::remove_file(folder.path().join("snapshots/current.snapshot")).unwrap();
    // So does a mark.
    std::fs::remove_dir_all(folder.path().join("db")).unwrap();
    let refused = open(folder.path()).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, DbError::Lost { .. }), "{refused}");
}

#[tokio::test]
async fn a_database_of_another_broker_or_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    let others = [
        Owner {
            broker: BrokerId::new(2).unwrap(),
            ..owner()
        },
        Owner {
            directory: DirectoryId::from_slice(&[8; 16]).unwrap(),
            ..owner()
        },
    ];
    for other in others {
        let refused = super::open(folder.path(), &other).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, DbError::Foreign { .. }), "{refused}");
    }
    drop(open(folder.path()).await.unwrap());
}

/// What was synced is marked, and a database that falls short of the mark is not opened.
#[tokio::test]
async fn lost_synced_writes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = open(folder.path()).await.unwrap();
    stores.log.save_vote(&Vote::new(3, 7)).await.unwrap();
    drop(stores);
    let wal = std::fs::read_dir(folder.path().join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max()
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&wal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 3).unwrap();
    for _ in 0..2 {
        let refused = open(folder.path()).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, DbError::LostWrites { .. }), "{refused}");
    }
    std::fs::remove_file(folder.path().join("mark")).unwrap();
    let refused = open(folder.path()).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, DbError::NoMark(_)), "{refused}");
}

#[tokio::test]
async fn the_mark_is_exact_after_an_orderly_close() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = open(folder.path()).await.unwrap();
    for term in 1..=20 {
        stores.log.save_vote(&Vote::new(term, 7)).await.unwrap();
    }
    drop(stores);
    let mark = SyncMark::open(&folder.path().join("mark")).unwrap();
    assert_eq!(mark.sequence(), 21, "whose it is, and twenty votes");
}

/// A snapshot that is installed is written by the state machine's task while Raft already has the
/// log purged.
#[tokio::test]
async fn m27_a_purge_waits_until_the_snapshot_that_covers_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut stores = open(folder.path()).await.unwrap();
    stores
        .log
        .blocking_append((1..=5).map(name_cluster))
        .await
        .unwrap();
    stores.state.apply((1..=3).map(name_cluster)).await.unwrap();
    let mut log = stores.log.clone();
    let mut purge = Box::pin(log.purge(log_id(3)));
    assert!(futures_pending(&mut purge).await, "there is no snapshot yet");
    assert_eq!(stores.log.try_get_log_entries(1..6).await.unwrap().len(), 5);
    let snapshot = stores
        .state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    purge.await.unwrap();
    assert_eq!(stores.log.try_get_log_entries(1..6).await.unwrap().len(), 2);

    // One that cannot be installed ends the wait of whoever counts on it.
    let mut log = stores.log.clone();
    let mut purge = Box::pin(log.purge(log_id(5)));
    assert!(futures_pending(&mut purge).await);
    let damaged = Box::new(std::io::Cursor::new(vec![1, 2, 3]));
    stores
        .state
        .install_snapshot(&snapshot.meta, damaged)
        .await
        .unwrap_err();
    purge.await.unwrap_err();
    assert_eq!(stores.log.try_get_log_entries(4..6).await.unwrap().len(), 2);
}

/// Whether a future waits for something, after everything that is ready has run.
async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    tokio::time::timeout(std::time::Duration::from_millis(100), future)
        .await
        .is_err()
}
