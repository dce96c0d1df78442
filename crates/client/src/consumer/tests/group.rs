//! Members of a group: assignments, broken streams, leaving.

mod commits;

use parking_lot::Mutex;
use tidelog_types::{ErrorCode, PartitionIndex};

use super::*;
use crate::consumer::testing::batch;
use crate::wire::fake_consumer::{FakeCluster, FakeSession, State};
use crate::{OffsetAndMetadata, OffsetReset};

/// Notes what it is told among the cluster's events.
struct Notes {
    state: Arc<State>,
    commits: bool,
}

impl Notes {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        self.state.note(format!("{what} {}", names.join(" ")));
    }
}

impl RebalanceListener for Notes {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        Box::pin(async move { self.note("assigned", partitions) })
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], committer: &'a Committer) -> HookFuture<'a> {
        Box::pin(async move {
            self.note("revoked", partitions);
            if self.commits {
                committer.commit().await.unwrap();
                self.note("committed", partitions);
            }
        })
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        Box::pin(async move { self.note("lost", partitions) })
    }
}

async fn cluster(partitions: u32) -> FakeCluster {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", partitions);
    for index in 0..partitions {
        cluster.append("t", index, batch(0, 10));
    }
    cluster
}

async fn builder(cluster: &FakeCluster, commits: bool) -> GroupConsumerBuilder {
    let notes = Notes {
        state: Arc::clone(&cluster.state),
        commits,
    };
    let client = cluster.client().await;
    client
        .group("g")
        .topics(["t"])
        .auto_offset_reset(OffsetReset::Earliest)
        .rebalance_listener(notes)
}

/// A member that joined and owns these partitions.
async fn member(cluster: &mut FakeCluster, partitions: &[(&str, u32)]) -> (Consumer, FakeSession) {
    let builder = builder(cluster, false).await;
    let (consumer, session) = tokio::join!(within(builder.build()), within(cluster.admit(partitions)));
    (consumer.unwrap(), session)
}

async fn mark_next(consumer: &mut Consumer, count: usize) {
    for _ in 0..count {
        let record = within(consumer.recv()).await.unwrap();
        consumer.mark(&record);
    }
}

fn record(offset: u64) -> ConsumedRecord {
    ConsumedRecord {
        topic: "t".parse().unwrap(),
        topic_id: crate::wire::fake_consumer::topic_id("t"),
        partition: 0,
        offset,
        leader_epoch: 1,
        timestamp_ms: 0,
        key: None,
        value: None,
        headers: crate::Headers::default(),
    }
}

#[tokio::test]
async fn reading_begins_at_what_the_group_committed() {
    let mut cluster = cluster(2).await;
    cluster
        .state
        .world
        .lock()
        .committed
        .insert(("t".to_owned(), 1), 7);
    let (mut consumer, session) = member(&mut cluster, &[("t", 0), ("t", 1)]).await;
    session.keep_alive();
    let mut first = BTreeMap::new();
    for _ in 0..13 {
        let record = within(consumer.recv()).await.unwrap();
        first.entry(record.partition).or_insert(record.offset);
    }
    assert_eq!(first.into_iter().collect::<Vec<_>>(), [(0, 0), (1, 7)]);
    assert_eq!(cluster.events(), ["assigned t-0 t-1"]);
}

#[tokio::test]
async fn partitions_are_given_up_after_hook_and_commit_and_never_handed_out_again() {
    let mut cluster = cluster(2).await;
    let builder = builder(&cluster, true).await;
    let (consumer, mut session) = tokio::join!(
        within(builder.build()),
        within(cluster.admit(&[("t", 0), ("t", 1)]))
    );
    let mut consumer = consumer.unwrap();
    mark_next(&mut consumer, 15).await;
    session.assign(2, 1, &[("t", 1)]);
    let (version, owned) = within(session.revoked()).await;
    cluster.note("told");
    assert_eq!((version, owned), (2, vec![("t".to_owned(), 1)]));
    let events = cluster.events();
    let place = |event: &str| events.iter().position(|known| known.starts_with(event));
    assert!(place("revoked t-0") < place("commit t-0@"));
    assert!(place("commit t-0@") < place("committed t-0"));
    assert!(place("committed t-0") < place("told"), "{events:?}");
    session.keep_alive();
    cluster.append("t", 1, batch(10, 1));
    while within(consumer.recv()).await.unwrap().offset < 10 {}
    assert_eq!(consumer.assignment().len(), 1);
    let rest = tokio::time::timeout(Duration::from_millis(20), consumer.recv()).await;
    assert!(rest.is_err(), "{rest:?}");
}

#[tokio::test]
async fn a_record_that_is_being_processed_holds_revoking_up_until_it_is_marked() {
    let mut cluster = cluster(1).await;
    let (mut consumer, mut session) = member(&mut cluster, &[("t", 0)]).await;
    mark_next(&mut consumer, 2).await;
    let busy = within(consumer.recv()).await.unwrap();
    session.assign(2, 1, &[]);
    until(|| {
        consumer
            .shared
            .look(|slots| slots.get(&busy.topic_partition()).unwrap().standing == slot::Standing::Leaving)
    })
    .await;
    assert_eq!(cluster.events(), ["assigned t-0"]);
    consumer.mark(&busy);
    within(session.revoked()).await;
    assert_eq!(cluster.events(), ["assigned t-0", "revoked t-0", "commit t-0@3"]);
}

#[tokio::test]
async fn a_broken_stream_is_resumed_with_everything_owned() {
    let mut cluster = cluster(2).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0), ("t", 1)]).await;
    offsets(&mut consumer, 20).await;
    session.assign(2, 6, &[("t", 0), ("t", 1)]);
    until(|| consumer.shared.identity().epoch == 6).await;
    let member_id = session.join.member_id.clone();
    cluster.state.world.lock().coordinator = 2;
    session.end(ErrorCode::NotCoordinator.number());
    let resumed = within(cluster.session()).await;
    assert_eq!(resumed.broker, 2);
    assert_eq!(
        (&resumed.join.member_id, resumed.join.member_epoch),
        (&member_id, 6)
    );
    assert_eq!(
        resumed
            .join
            .owned
            .iter()
            .map(|t| t.partitions.len())
            .sum::<usize>(),
        2
    );
    resumed.joined(6);
    resumed.assign(1, 6, &[("t", 0), ("t", 1)]);
    resumed.keep_alive();
    cluster.append("t", 1, batch(10, 1));
    assert_eq!(offsets(&mut consumer, 1).await, [10]);
    assert_eq!(cluster.events(), ["assigned t-0 t-1"]);
}

#[tokio::test]
async fn what_a_resumed_stream_does_not_assign_is_given_up_on_it() {
    let mut cluster = cluster(2).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0), ("t", 1)]).await;
    mark_next(&mut consumer, 20).await;
    session.end(ErrorCode::CoordinatorNotAvailable.number());
    let mut resumed = within(cluster.session()).await;
    resumed.joined(1);
    resumed.assign(1, 1, &[("t", 1)]);
    assert_eq!(within(resumed.revoked()).await, (1, vec![("t".to_owned(), 1)]));
    assert_eq!(cluster.committed("t", 0), Some(10));
}

#[tokio::test]
async fn a_fenced_member_loses_everything_and_joins_anew() {
    let mut cluster = cluster(2).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    mark_next(&mut consumer, 4).await;
    session.end(ErrorCode::FencedMemberEpoch.number());
    let again = within(cluster.session()).await;
    assert_eq!(again.join.member_epoch, 0);
    assert!(again.join.owned.is_empty());
    until(|| cluster.events().contains(&"lost t-0".to_owned())).await;
    again.joined(8);
    again.assign(1, 8, &[("t", 0)]);
    again.keep_alive();
    // Marked before, never committed: it comes again.
    assert_eq!(offsets(&mut consumer, 1).await, [0]);
    assert_eq!(cluster.events(), ["assigned t-0", "lost t-0", "assigned t-0"]);
    assert_eq!(cluster.committed("t", 0), None);
}

#[tokio::test]
async fn a_member_that_does_not_hear_of_its_coordinator_takes_itself_for_removed() {
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false).await;
    let admit = async {
        let session = cluster.session().await;
        session.joined_with(1, 20, 300);
        session.assign(1, 1, &[("t", 0)]);
        session
    };
    let (consumer, session) = tokio::join!(within(builder.build()), within(admit));
    let mut consumer = consumer.unwrap();
    offsets(&mut consumer, 10).await;
    // It goes on talking to whoever coordinates, and hears nothing.
    let silent = Arc::new(Mutex::new(vec![session]));
    let kept = Arc::clone(&silent);
    let mut sessions = std::mem::replace(&mut cluster.sessions, mpsc::unbounded_channel().1);
    let rejoined = tokio::spawn(async move {
        loop {
            let session = sessions.recv().await.unwrap();
            if session.join.member_epoch == 0 {
                return session;
            }
            kept.lock().push(session);
        }
    });
    until(|| cluster.events().contains(&"lost t-0".to_owned())).await;
    assert!(consumer.assignment().is_empty());
    let session = within(rejoined).await.unwrap();
    session.joined(9);
    session.assign(1, 9, &[("t", 0)]);
    session.keep_alive();
    assert_eq!(offsets(&mut consumer, 1).await, [0]);
}

#[tokio::test]
async fn a_member_that_is_refused_for_good_says_so_for_ever() {
    let mut cluster = cluster(1).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    offsets(&mut consumer, 10).await;
    session.end(ErrorCode::FencedInstanceId.number());
    for _ in 0..2 {
        let error = within(consumer.recv()).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId));
    }
    until(|| cluster.events().contains(&"lost t-0".to_owned())).await;
}

#[tokio::test]
async fn a_static_name_is_waited_for_until_its_last_holder_s_connection_is_noticed_broken() {
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false).await.instance_id("one");
    let release = async {
        for _ in 0..2 {
            let session = cluster.session().await;
            assert_eq!(session.join.instance_id.as_deref(), Some("one"));
            session.end(ErrorCode::UnreleasedInstanceId.number());
        }
        cluster.admit(&[("t", 0)]).await
    };
    let (consumer, _session) = tokio::join!(within(builder.build()), within(release));
    assert_eq!(offsets(&mut consumer.unwrap(), 1).await.len(), 1);
}

#[tokio::test]
async fn a_static_member_keeps_its_name_when_it_closes_and_gives_it_up_when_it_leaves() {
    for for_good in [false, true] {
        let mut cluster = cluster(1).await;
        let builder = builder(&cluster, false).await.instance_id("one");
        let (consumer, mut session) =
            tokio::join!(within(builder.build()), within(cluster.admit(&[("t", 0)])));
        let consumer = consumer.unwrap();
        let ended = async {
            if for_good {
                consumer.leave(PATIENCE).await
            } else {
                consumer.close(PATIENCE).await
            }
        };
        let coordinator = async {
            let left = session.next().await;
            drop(session);
            left
        };
        let (ended, left) = tokio::join!(within(ended), within(coordinator));
        ended.unwrap();
        let kept = format!("keep_instance: {}", !for_good);
        assert!(format!("{left:?}").contains(&kept), "{left:?}");
    }
}

#[tokio::test]
async fn joining_in_vain_is_said_by_the_builder() {
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false).await.assignor("alphabetical");
    let refuse = async {
        let session = cluster.session().await;
        assert_eq!(
            session.join.subscription.clone().unwrap().assignor,
            "alphabetical"
        );
        session.end(ErrorCode::UnsupportedAssignor.number());
    };
    let (consumer, ()) = tokio::join!(within(builder.build()), within(refuse));
    assert_eq!(consumer.unwrap_err().code(), Some(ErrorCode::UnsupportedAssignor));
}

#[tokio::test]
async fn closing_commits_what_is_marked_and_leaves() {
    let mut cluster = cluster(2).await;
    let (mut consumer, mut session) = member(&mut cluster, &[("t", 0), ("t", 1)]).await;
    mark_next(&mut consumer, 20).await;
    let coordinator = async {
        let left = session.next().await;
        cluster.note("left");
        drop(session);
        left
    };
    let (closed, left) = tokio::join!(within(consumer.close(PATIENCE)), within(coordinator));
    closed.unwrap();
    assert!(format!("{left:?}").contains("Leave"), "{left:?}");
    let events = cluster.events();
    assert_eq!(events[1], "revoked t-0 t-1");
    assert_eq!(events.last().unwrap(), "left");
    assert_eq!(
        (cluster.committed("t", 0), cluster.committed("t", 1)),
        (Some(10), Some(10))
    );
}

#[tokio::test]
async fn closing_takes_no_longer_than_it_may() {
    let mut cluster = cluster(1).await;
    let (consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    let closed = consumer.close(Duration::from_millis(50)).await;
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(session);
}

#[tokio::test]
async fn an_application_that_stops_calling_leaves_and_comes_back_with_its_next_call() {
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false)
        .await
        .max_poll_interval(Duration::from_millis(100));
    let (consumer, mut session) = tokio::join!(within(builder.build()), within(cluster.admit(&[("t", 0)])));
    let mut consumer = consumer.unwrap();
    offsets(&mut consumer, 1).await;
    let left = within(session.next()).await;
    assert!(format!("{left:?}").contains("Leave"), "{left:?}");
    drop(session);
    until(|| cluster.events().contains(&"lost t-0".to_owned())).await;
    let again = async {
        let session = cluster.admit(&[("t", 0)]).await;
        session.keep_alive();
    };
    let (record, ()) = tokio::join!(within(consumer.recv()), within(again));
    assert_eq!(record.unwrap().offset, 0);
}

#[tokio::test]
async fn a_hook_that_panics_ends_the_consumer_with_an_error() {
    struct Panics;
    impl RebalanceListener for Panics {
        fn assigned<'a>(&'a self, _: &'a [TopicPartition]) -> HookFuture<'a> {
            panic!("as the test wants")
        }
    }
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false).await.rebalance_listener(Panics);
    let (consumer, session) = tokio::join!(within(builder.build()), within(cluster.admit(&[("t", 0)])));
    session.keep_alive();
    // The hook may run before the builder is done.
    let error = match consumer {
        Ok(mut consumer) => within(consumer.recv()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.message().contains("panicked"), "{error}");
}
