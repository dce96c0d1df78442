//! Shards over a log in memory whose replication, refusals and leadership the test decides.

use std::sync::Arc;
use std::time::Duration;

use tidelog_group::{
    AssignorName, CommitFailure, Effect, GroupConfig, Join, MemberEpoch, MemberId, OffsetToCommit,
    Subscription, Topic, Topics,
};
use tidelog_record::{BatchBuilder, Compression, NewRecord};
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicId, coordinator_partition,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handle::{Groups, MemberStream};
use crate::coordinator::StateLog as _;
use crate::coordinator::memory_log::MemoryLog;

/// Longest wait for a condition before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn topics(names: &[(&str, u32)]) -> Arc<Topics> {
    let topic = |(n, (name, count)): (usize, &(&str, u32))| {
        let id = TopicId::from_slice(&[n as u8 + 1; 16]).unwrap();
        (
            name.parse().unwrap(),
            Topic {
                id,
                partition_count: *count,
            },
        )
    };
    Arc::new(Topics::new(names.iter().enumerate().map(topic)))
}

struct Rig {
    log: Arc<MemoryLog>,
    groups: Groups<MemoryLog>,
    topics: watch::Sender<Arc<Topics>>,
    group: GroupId,
    partition: PartitionIndex,
}

impl Rig {
    fn new() -> Self {
        let log = MemoryLog::new();
        let (topics, view) = watch::channel(topics(&[("orders", 3)]));
        let groups = Groups::new(
            Arc::clone(&log),
            GroupConfig::default(),
            view,
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let group: GroupId = "inventory".parse().unwrap();
        let partition = coordinator_partition(&group);
        Self {
            log,
            groups,
            topics,
            group,
            partition,
        }
    }

    async fn serving() -> Self {
        let rig = Self::new();
        rig.elect(1);
        rig.served().await;
        rig
    }

    fn elect(&self, epoch: u32) {
        let start = self.log.elect(self.partition, epoch);
        self.groups
            .runtime()
            .lead(self.partition, LeaderEpoch(epoch), start);
    }

    async fn served(&self) {
        let served = async {
            while self.groups.runtime().shard(self.partition).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, served)
            .await
            .expect("the shard never served");
    }

    async fn join(&self, member: &str) -> (MemberStream, mpsc::Receiver<Effect>) {
        let join = Join {
            group: self.group.clone(),
            member: member.parse().unwrap(),
            epoch: MemberEpoch::NONE,
            instance_id: None,
            subscription: Subscription::new(["orders".parse().unwrap()].into(), None, AssignorName::Uniform)
                .unwrap(),
            owned: std::collections::BTreeSet::new(),
            client_id: "test".to_owned(),
            client_host: String::new(),
            max_poll_interval: Duration::ZERO,
        };
        let mut session = self.groups.join(join).await.unwrap();
        let events = session.take_events().unwrap();
        (session, events)
    }

    fn commit(&self, group: &str, offset: u64) -> JoinHandle<Result<Vec<CommitFailure>, PartitionError>> {
        self.commit_as(group, None, offset)
    }

    fn commit_as(
        &self,
        group: &str,
        member: Option<(MemberId, MemberEpoch)>,
        offset: u64,
    ) -> JoinHandle<Result<Vec<CommitFailure>, PartitionError>> {
        let (groups, group) = (self.groups.clone(), group.parse().unwrap());
        let offsets = vec![offset_to_commit(offset)];
        tokio::spawn(async move { groups.commit(group, member, offsets, PATIENCE).await })
    }

    async fn committed(&self) -> Result<Option<u64>, ErrorCode> {
        let offsets = self.groups.offsets(self.group.clone(), None, None).await;
        let offsets = offsets.map_err(|error| error.code)?;
        Ok(offsets.first().map(|found| found.committed.offset.0))
    }

    async fn appended_past(&self, end: Offset) {
        while self.log.end(self.partition) <= end {
            tokio::task::yield_now().await;
        }
    }
}

fn offset_to_commit(offset: u64) -> OffsetToCommit {
    OffsetToCommit {
        topic_id: None,
        topic: "orders".parse().unwrap(),
        partition: PartitionIndex(0),
        offset: Offset(offset),
        leader_epoch: None,
        metadata: String::new(),
    }
}

async fn next(events: &mut mpsc::Receiver<Effect>) -> Effect {
    tokio::time::timeout(PATIENCE, events.recv())
        .await
        .expect("no event came")
        .expect("the stream ended")
}

#[tokio::test]
async fn who_leads_nothing_coordinates_nothing() {
    let rig = Rig::new();
    assert_eq!(rig.committed().await, Err(ErrorCode::NotCoordinator));
    rig.elect(1);
    rig.served().await;
    assert_eq!(rig.committed().await, Ok(None));
    rig.groups.runtime().resign(rig.partition);
    assert_eq!(rig.committed().await, Err(ErrorCode::NotCoordinator));
}

/// A coordinator serves after it replayed to its LESO and the high watermark is there.
#[tokio::test]
async fn a_new_leader_serves_only_once_everything_before_it_is_replicated() {
    let rig = Rig::serving().await;
    for offset in 1..=20 {
        assert_eq!(rig.commit("inventory", offset).await.unwrap(), Ok(vec![]));
    }
    rig.log.hold(rig.partition);
    let end = rig.log.end(rig.partition);
    let unanswered = rig.commit("inventory", 21);
    rig.appended_past(end).await;
    rig.elect(2);
    assert_eq!(
        unanswered.await.unwrap().unwrap_err().code,
        ErrorCode::NotCoordinator
    );
    assert_eq!(rig.committed().await, Err(ErrorCode::CoordinatorLoadInProgress));
    rig.log.release(rig.partition);
    rig.served().await;
    assert_eq!(rig.committed().await, Ok(Some(21)));
}

#[tokio::test]
async fn what_is_not_replicated_in_the_callers_time_is_answered_so() {
    let rig = Rig::serving().await;
    rig.log.hold(rig.partition);
    let within = Duration::from_millis(50);
    let offsets = vec![offset_to_commit(1)];
    let committed = rig.groups.commit(rig.group.clone(), None, offsets, within).await;
    let refused = committed.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestTimedOut);
    assert!(refused.message.contains("50 ms"), "{}", refused.message);
}

/// G12: what is read is what stays.
#[tokio::test]
async fn what_is_not_replicated_is_neither_answered_nor_read() {
    let rig = Rig::serving().await;
    assert_eq!(rig.commit("inventory", 1).await.unwrap(), Ok(vec![]));
    rig.log.hold(rig.partition);
    let end = rig.log.end(rig.partition);
    let lost = rig.commit("inventory", 2);
    rig.appended_past(end).await;
    assert_eq!(rig.committed().await, Ok(Some(1)));
    assert!(!lost.is_finished());
    rig.log.truncate(rig.partition);
    rig.elect(2);
    rig.served().await;
    assert_eq!(rig.committed().await, Ok(Some(1)));
    assert_eq!(lost.await.unwrap().unwrap_err().code, ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn appends_are_pipelined() {
    let rig = Rig::serving().await;
    rig.log.hold(rig.partition);
    let end = rig.log.end(rig.partition);
    let first = rig.commit("inventory", 1);
    rig.appended_past(end).await;
    let end = rig.log.end(rig.partition);
    // The second is appended while the first still waits for replication.
    let second = rig.commit("inventory", 2);
    rig.appended_past(end).await;
    assert!(!first.is_finished());
    rig.log.release(rig.partition);
    assert_eq!(
        (first.await.unwrap(), second.await.unwrap()),
        (Ok(vec![]), Ok(vec![]))
    );
    assert_eq!(rig.committed().await, Ok(Some(2)));
}

#[tokio::test]
async fn a_refused_append_leaves_no_trace_and_is_retriable() {
    let rig = Rig::serving().await;
    rig.log.refuse(rig.partition, Some(ErrorCode::NotEnoughReplicas));
    let refused = rig.commit("inventory", 1).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::CoordinatorNotAvailable);
    assert!(refused.code.is_retriable());
    let (_session, mut events) = rig.join("a").await;
    assert!(matches!(next(&mut events).await, Effect::End { error: Some(e), .. } if e.code.is_retriable()));
    rig.log.refuse(rig.partition, None);
    assert_eq!(rig.committed().await, Ok(None));
    assert_eq!(rig.commit("inventory", 2).await.unwrap(), Ok(vec![]));
    assert_eq!(rig.committed().await, Ok(Some(2)));
}

#[tokio::test]
async fn losing_the_leadership_ends_every_stream() {
    let rig = Rig::serving().await;
    let (_session, mut events) = rig.join("a").await;
    assert!(matches!(next(&mut events).await, Effect::Joined { .. }));
    assert!(matches!(next(&mut events).await, Effect::Assign { .. }));
    rig.groups.runtime().resign(rig.partition);
    let end = next(&mut events).await;
    assert!(matches!(end, Effect::End { error: Some(e), .. } if e.code == ErrorCode::NotCoordinator));
    assert_eq!(events.recv().await, None);
}

/// The broker was deposed or cut off and its shard has not been told: it answers nothing from its
/// past.
#[tokio::test]
async fn a_deposed_coordinator_notices_by_itself() {
    let rig = Rig::serving().await;
    rig.commit("inventory", 1).await.unwrap().unwrap();
    rig.log.elect(rig.partition, 2);
    assert_eq!(rig.committed().await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn members_are_told_when_topics_grow() {
    let rig = Rig::serving().await;
    let (_session, mut events) = rig.join("a").await;
    next(&mut events).await;
    next(&mut events).await;
    rig.topics.send_replace(topics(&[("orders", 5)]));
    let pushed = next(&mut events).await;
    assert!(matches!(pushed, Effect::Assign { partitions, .. } if partitions.len() == 5));
}

#[tokio::test]
async fn a_broken_stream_that_is_cut_off_leaves_its_member() {
    let rig = Rig::serving().await;
    let (session, mut events) = rig.join("a").await;
    next(&mut events).await;
    session.disconnected().await;
    let described = rig.groups.describe(rig.group.clone()).await.unwrap();
    assert_eq!(described.members.len(), 1);
}

#[tokio::test]
async fn the_next_coordinator_knows_members_and_fences_by_their_epochs() {
    let rig = Rig::serving().await;
    let (_session, mut events) = rig.join("a").await;
    next(&mut events).await;
    rig.elect(2);
    rig.served().await;
    let member = |epoch| Some(("a".parse().unwrap(), MemberEpoch(epoch)));
    assert_eq!(
        rig.commit_as("inventory", member(1), 5).await.unwrap(),
        Ok(vec![])
    );
    let fenced = rig
        .commit_as("inventory", member(2), 6)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(fenced.code, ErrorCode::FencedMemberEpoch);
    assert_eq!(rig.committed().await, Ok(Some(5)));
}

/// An elected broker is told of its leadership before it may serve: the shard must outlast that.
#[tokio::test]
async fn a_load_that_fails_for_a_while_is_tried_again() {
    let rig = Rig::serving().await;
    assert_eq!(rig.commit("inventory", 7).await.unwrap(), Ok(vec![]));
    rig.log.fail_reads(
        rig.partition,
        vec![
            ErrorCode::StorageError,
            ErrorCode::OffsetNotAvailable,
            ErrorCode::NotLeaderOrFollower,
        ],
    );
    rig.elect(2);
    assert_eq!(rig.committed().await, Err(ErrorCode::CoordinatorLoadInProgress));
    rig.served().await;
    assert_eq!(rig.committed().await, Ok(Some(7)));
}

#[tokio::test]
async fn a_fence_that_passes_within_the_epoch_interrupts_the_coordinator_only() {
    let rig = Rig::serving().await;
    assert_eq!(rig.commit("inventory", 1).await.unwrap(), Ok(vec![]));
    rig.log.hold(rig.partition);
    let end = rig.log.end(rig.partition);
    let unanswered = rig.commit("inventory", 2);
    rig.appended_past(end).await;
    rig.log.fence(rig.partition, true);
    let told = unanswered.await.unwrap().unwrap_err();
    assert!(told.code.is_retriable(), "{told}");
    assert_eq!(rig.committed().await, Err(ErrorCode::CoordinatorLoadInProgress));
    rig.log.fence(rig.partition, false);
    rig.log.release(rig.partition);
    rig.served().await;
    // What was appended before the fence is part of the state, though the leadership began below
    // it.
    assert_eq!(rig.committed().await, Ok(Some(2)));
    assert_eq!(rig.commit("inventory", 3).await.unwrap(), Ok(vec![]));
    assert_eq!(rig.committed().await, Ok(Some(3)));
}

/// G12: of requests that are taken together, each asks anew whether the broker still serves.
#[tokio::test]
async fn g12_a_read_behind_a_commit_that_found_the_leadership_gone_is_not_answered() {
    let rig = Rig::serving().await;
    assert_eq!(rig.commit("inventory", 1).await.unwrap(), Ok(vec![]));
    rig.log.fence_by_append(rig.partition);
    let commit = rig
        .groups
        .commit(rig.group.clone(), None, vec![offset_to_commit(2)], PATIENCE);
    let (committed, read) = tokio::join!(commit, rig.committed());
    assert!(committed.unwrap_err().code.is_retriable());
    let told = read.expect_err("what is read may be another leader's past");
    assert!(told.is_retriable(), "{told}");
}

#[tokio::test]
async fn a_damaged_record_stops_the_load() {
    let rig = Rig::new();
    let mut batch = BatchBuilder::new(Compression::None);
    batch
        .append(NewRecord::new(0, Some(&[0xff]), Some(&[1])))
        .unwrap();
    rig.log.elect(rig.partition, 1);
    rig.log
        .append(rig.partition, LeaderEpoch(1), batch.build(None).unwrap())
        .await
        .unwrap();
    rig.elect(2);
    let refused = async {
        while rig.committed().await != Err(ErrorCode::NotCoordinator) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("a damaged log was served");
}
