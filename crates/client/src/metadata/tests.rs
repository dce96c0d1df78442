use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn name() -> TopicName {
    "orders".parse().unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition {
        topic: name(),
        partition: PartitionIndex(0),
    }
}

fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

fn answer(index: u64, leader: u32, epoch: u32) -> MetadataAnswer {
    MetadataAnswer {
        cluster_id: None,
        index,
        brokers: [(broker(1), "one:1".to_owned()), (broker(2), "two:2".to_owned())].into(),
        topics: vec![(
            name(),
            Ok(TopicEntry {
                topic_id: TopicId(uuid::Uuid::nil()),
                partitions: vec![PartitionLeader {
                    leader: BrokerId::new(leader),
                    epoch: LeaderEpoch(epoch),
                }],
            }),
        )],
    }
}

fn leader(snapshot: &Snapshot) -> Option<(u32, u32)> {
    snapshot
        .leader(&partition())
        .map(|(broker, epoch, _)| (broker.get(), epoch.0))
}

#[test]
fn a_lagging_answer_does_not_bring_an_old_leader_back() {
    let mut snapshot = Snapshot::default();
    snapshot.merge(answer(10, 1, 4));
    snapshot.merge(answer(9, 2, 3));
    assert_eq!(leader(&snapshot), Some((1, 4)));
    snapshot.merge(answer(11, 2, 5));
    assert_eq!(leader(&snapshot), Some((2, 5)));
}

#[test]
fn a_hint_is_taken_when_it_is_news() {
    let mut snapshot = Snapshot::default();
    snapshot.merge(answer(10, 1, 4));
    let hint = |id, epoch| LeaderHint {
        broker: broker(id),
        epoch: LeaderEpoch(epoch),
        address: "three:3".into(),
    };
    assert!(!snapshot.apply_hint(&partition(), &hint(2, 3)), "an older epoch");
    assert!(snapshot.apply_hint(&partition(), &hint(3, 5)));
    assert_eq!(
        snapshot.leader(&partition()),
        Some((broker(3), LeaderEpoch(5), "three:3"))
    );
}

#[test]
fn a_topic_unknown_to_a_lagging_broker_stays_known() {
    let mut snapshot = Snapshot::default();
    snapshot.merge(answer(10, 1, 4));
    let gone = Err(Error::new(
        ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition),
        "no such topic",
    ));
    let unknown = |index| MetadataAnswer {
        index,
        topics: vec![(name(), gone.clone())],
        ..MetadataAnswer::default()
    };
    snapshot.merge(unknown(9));
    assert_eq!(leader(&snapshot), Some((1, 4)));
    snapshot.merge(unknown(12));
    assert_eq!(leader(&snapshot), None);
}

struct Script(Mutex<Vec<Result<MetadataAnswer>>>);

impl AskMetadata for Script {
    async fn ask(&self, _: &str, _: Vec<TopicName>, _: u64) -> Result<MetadataAnswer> {
        let next = self.0.lock().pop();
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_waited_for_across_failures() {
    let metadata = Arc::new(Metadata::new(vec!["one:1".into()]));
    let script = vec![
        Ok(answer(1, 2, 1)),
        Err(Error::new(ErrorKind::Unreachable, "refused")),
    ];
    let task = tokio::spawn(Arc::clone(&metadata).run(Script(Mutex::new(script))));
    let entry = metadata
        .topic(&name(), Instant::now() + Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(entry.partitions[0].leader, Some(broker(2)));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_waiting_is_told_the_cause() {
    let metadata = Arc::new(Metadata::new(vec!["one:1".into()]));
    let script = vec![Err(Error::new(ErrorKind::Unreachable, "connection refused"))];
    let task = tokio::spawn(Arc::clone(&metadata).run(Script(Mutex::new(script))));
    let error = metadata
        .ready(Instant::now() + Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error.message().contains("one:1") && error.message().contains("connection refused"),
        "{error}"
    );
    task.abort();
}

/// One broker takes questions and never answers, the others do.
struct OneIsMute(AtomicUsize);

impl AskMetadata for OneIsMute {
    async fn ask(&self, address: &str, _: Vec<TopicName>, _: u64) -> Result<MetadataAnswer> {
        self.0.fetch_add(1, Ordering::Relaxed);
        if address == "mute:1" {
            std::future::pending::<()>().await;
        }
        Ok(answer(1, 2, 1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_holds_nothing_up() {
    for bootstrap in [["mute:1", "two:2"], ["two:2", "mute:1"]] {
        let metadata = Metadata::new(bootstrap.map(String::from).to_vec());
        let ask = OneIsMute(AtomicUsize::default());
        let begun = Instant::now();
        assert!(metadata.refresh_once(&ask).await);
        let asked = ask.0.load(Ordering::Relaxed) as u32;
        assert_eq!(begun.elapsed(), ASK_NEXT * (asked - 1));
        assert_eq!(leader(&metadata.snapshot()), Some((2, 1)));
    }
}

/// Nobody is there.
#[derive(Default)]
struct NobodyThere(AtomicUsize);

impl AskMetadata for Arc<NobodyThere> {
    async fn ask(&self, _: &str, _: Vec<TopicName>, _: u64) -> Result<MetadataAnswer> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Unreachable, "refused"))
    }
}

#[tokio::test(start_paused = true)]
async fn while_nobody_is_there_brokers_are_asked_once_a_second_whoever_waits() {
    let metadata = Arc::new(Metadata::new(vec!["one:1".into()]));
    let nobody = Arc::new(NobodyThere::default());
    let task = tokio::spawn(Arc::clone(&metadata).run(Arc::clone(&nobody)));
    let end = Instant::now() + Duration::from_mins(1);
    // Partitions that fail nudge without a pause.
    while Instant::now() < end {
        metadata.request_refresh();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = nobody.0.load(Ordering::Relaxed);
    assert!((30..=75).contains(&asked), "asked {asked} times");
    task.abort();
}
