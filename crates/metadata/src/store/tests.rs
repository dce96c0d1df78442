//! openraft's own storage suite, and what it does not ask: durability across a reopening.

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use tempfile::TempDir;
use tidelog_cluster::command::InitCluster;
use tidelog_cluster::{Command, MetadataIndex};
use tidelog_types::ClusterId;

use super::*;
use crate::codec::command;
use crate::raft_types::{EncodedCommand, Entry, LogId, StorageError, TypeConfig, Vote};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let stores = open(folder.path()).await.unwrap();
        Ok((folder, stores.log, stores.state))
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
        drop(open(behind.path()).await.unwrap());
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
    drop(open(folder.path()).await.unwrap());
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
