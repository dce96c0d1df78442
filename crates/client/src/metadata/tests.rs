use std::sync::atomic::{AtomicUsize, Ordering};

use tidelog_types::{ClusterId, ErrorCode, LeaderEpoch, PartitionIndex};

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
        topics: vec![topic_told(index, Ok(entry(0, leader, epoch)))],
    }
}

fn entry(id: u8, leader: u32, epoch: u32) -> TopicEntry {
    TopicEntry {
        topic_id: topic_id(id),
        partitions: vec![PartitionLeader {
            leader: BrokerId::new(leader),
            epoch: LeaderEpoch(epoch),
        }],
    }
}

fn topic_told(index: u64, entry: Result<TopicEntry>) -> TopicTold {
    TopicTold {
        name: name(),
        index,
        entry,
    }
}

fn topic_id(id: u8) -> TopicId {
    TopicId(uuid::Uuid::from_bytes([id; 16]))
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition),
        "no such topic",
    )
}

fn told(index: u64, topic: Result<TopicEntry>) -> MetadataAnswer {
    MetadataAnswer {
        index,
        topics: vec![topic_told(index, topic)],
        ..MetadataAnswer::default()
    }
}

fn cluster(id: u8) -> Option<ClusterId> {
    ClusterId::from_slice(&[id; 16])
}

fn metadata(bootstrap: &[&str]) -> Metadata {
    let bootstrap = bootstrap.iter().map(ToString::to_string).collect();
    Metadata::new(bootstrap, Home::default())
}

fn leader(snapshot: &Snapshot) -> Option<(u32, u32)> {
    snapshot
        .leader(&name(), topic_id(0), PartitionIndex(0))
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
    assert!(
        !snapshot.apply_hint(&partition(), Some(topic_id(0)), &hint(2, 3)),
        "an older epoch"
    );
    assert!(snapshot.apply_hint(&partition(), Some(topic_id(0)), &hint(3, 5)));
    assert_eq!(
        snapshot.leader(&name(), topic_id(0), PartitionIndex(0)),
        Some((broker(3), LeaderEpoch(5), "three:3"))
    );
}

#[test]
fn a_topic_unknown_to_a_lagging_broker_stays_known() {
    let mut snapshot = Snapshot::default();
    snapshot.merge(answer(10, 1, 4));
    snapshot.merge(told(9, Err(unknown())));
    assert_eq!(leader(&snapshot), Some((1, 4)));
    assert!(!snapshot.is_gone(topic_id(0)));
    snapshot.merge(told(12, Err(unknown())));
    assert_eq!(leader(&snapshot), None);
    assert!(snapshot.is_gone(topic_id(0)));
}

#[test]
fn a_topic_made_anew_is_another_one_and_a_lagging_broker_does_not_bring_the_old_one_back() {
    let mut snapshot = Snapshot::default();
    snapshot.merge(told(10, Ok(entry(1, 1, 4))));
    snapshot.merge(told(12, Ok(entry(2, 2, 0))));
    // Its leader epoch is lower than the old one's: they have nothing to do with each other.
    assert_eq!(snapshot.id(&name()), Some(topic_id(2)));
    assert!(snapshot.is_gone(topic_id(1)) && !snapshot.is_gone(topic_id(2)));
    for stale in [Ok(entry(1, 1, 9)), Err(unknown())] {
        snapshot.merge(told(11, stale));
        assert_eq!(snapshot.id(&name()), Some(topic_id(2)));
    }
    assert_eq!(snapshot.leader(&name(), topic_id(1), PartitionIndex(0)), None);
    let hint = LeaderHint {
        broker: broker(1),
        epoch: LeaderEpoch(9),
        address: "one:1".into(),
    };
    assert!(
        !snapshot.apply_hint(&partition(), Some(topic_id(1)), &hint),
        "the old topic's"
    );
    // One that was never heard of may be newer than what is known.
    assert!(!snapshot.is_gone(topic_id(3)));
}

#[test]
fn a_client_reads_its_own_deletions_and_creations() {
    let metadata = metadata(&["one:1"]);
    metadata.merge(told(10, Ok(entry(1, 1, 4))));
    let before = metadata.version();
    metadata.deleted("orders", 12);
    metadata.created("orders", 13, topic_id(2));
    assert_ne!(metadata.version(), before);
    assert!(metadata.snapshot().is_gone(topic_id(1)));
    // A broker that lags behind knows only the old one.
    metadata.merge(told(11, Ok(entry(1, 1, 4))));
    assert_eq!(metadata.snapshot().id(&name()), None);
    metadata.merge(told(14, Ok(entry(2, 1, 0))));
    assert_eq!(metadata.snapshot().id(&name()), Some(topic_id(2)));
    // A broker told of it before the call that made it returned.
    metadata.created("orders", 13, topic_id(2));
    assert_eq!(metadata.snapshot().id(&name()), Some(topic_id(2)));
}

#[tokio::test(start_paused = true)]
async fn since_when_a_topic_is_unknown_is_remembered_until_it_is_known() {
    let mut snapshot = Snapshot::default();
    let begun = Instant::now();
    for index in 1..4 {
        snapshot.merge(told(index, Err(unknown())));
        assert_eq!(snapshot.unknown_since(&name()), Some(begun));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    snapshot.merge(told(5, Ok(entry(1, 1, 0))));
    assert_eq!(snapshot.unknown_since(&name()), None);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_stays_unknown_does_not_exist_for_good() {
    let metadata = Arc::new(metadata(&["one:1"]));
    let script = vec![Ok(told(1, Err(unknown())))];
    let task = tokio::spawn(Arc::clone(&metadata).run(Script(Mutex::new(script))));
    let error = metadata
        .topic(&name(), Instant::now() + Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(!error.is_retriable(), "{error:?}");
    task.abort();
}

/// Brokers of two clusters: addresses that begin with "foreign" belong to the second.
struct Mixed {
    ours_are_down: bool,
}

impl AskMetadata for Mixed {
    async fn ask(&self, address: &str, _: Vec<TopicName>, _: u64) -> Result<MetadataAnswer> {
        let is_foreign = address.starts_with("foreign");
        if !is_foreign && self.ours_are_down {
            return Err(Error::new(ErrorKind::Unreachable, "refused"));
        }
        Ok(MetadataAnswer {
            cluster_id: cluster(if is_foreign { 2 } else { 1 }),
            ..answer(1, 2, 1)
        })
    }
}

fn is_foreign(error: &Error) -> bool {
    let names = [cluster(1), cluster(2)].map(|id| id.unwrap().to_string());
    error.kind() == ErrorKind::ForeignCluster
        && !error.is_retriable()
        && names.iter().all(|name| error.message().contains(name))
        && error.message().contains("foreign:7171")
}

#[tokio::test(start_paused = true)]
async fn bootstrap_addresses_of_two_clusters_are_an_error_and_an_address_that_is_down_is_none() {
    let up = Mixed { ours_are_down: false };
    for bootstrap in [["foreign:7171", "ours:7171"], ["ours:7171", "foreign:7171"]] {
        let metadata = metadata(&bootstrap);
        assert!(metadata.refresh_once(&up).await);
        let greeted = metadata.greet(&up).await.unwrap_err();
        assert_eq!(greeted.kind(), ErrorKind::ForeignCluster, "{greeted}");
    }
    let metadata = metadata(&["ours:7171", "mute:7171"]);
    metadata.merge(answer(1, 2, 1));
    let begun = Instant::now();
    metadata.greet(&OneIsMute(AtomicUsize::default())).await.unwrap();
    assert!(begun.elapsed() <= GREETING);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_became_another_clusters_is_passed_over_while_ours_answers() {
    let metadata = metadata(&["ours:7171", "foreign:7171"]);
    let home = metadata.home.welcome(MetadataAnswer {
        cluster_id: cluster(1),
        ..MetadataAnswer::default()
    });
    home.unwrap();
    for _ in 0..50 {
        metadata.refresh_once(&Mixed { ours_are_down: false }).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        metadata.check_home().unwrap();
    }
    assert_eq!(metadata.snapshot().cluster_id, cluster(1));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_cluster_is_gone_says_so_until_it_is_back() {
    let metadata = metadata(&["ours:7171", "foreign:7171"]);
    let ours = MetadataAnswer {
        cluster_id: cluster(1),
        ..MetadataAnswer::default()
    };
    metadata.merge(metadata.home.welcome(ours.clone()).unwrap());
    let gone = Mixed { ours_are_down: true };
    for _ in 0..4 {
        metadata.refresh_once(&gone).await;
    }
    metadata.check_home().expect("a moment's outage");
    tokio::time::advance(Duration::from_secs(3)).await;
    metadata.refresh_once(&gone).await;
    assert!(is_foreign(&metadata.check_home().unwrap_err()));
    let deadline = Instant::now() + Duration::from_mins(1);
    assert!(is_foreign(&metadata.topic(&name(), deadline).await.unwrap_err()));
    metadata.snapshot.send_modify(|snapshot| {
        let told = told(1, Ok(entry(1, 1, 0)));
        let astray = snapshot.astray.clone();
        let snapshot = Arc::make_mut(snapshot);
        snapshot.merge(told);
        snapshot.astray = astray;
    });
    assert!(
        is_foreign(&metadata.topic(&name(), deadline).await.unwrap_err()),
        "a topic that is known"
    );
    metadata.merge(metadata.home.welcome(ours).unwrap());
    metadata.check_home().unwrap();
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
    let metadata = Arc::new(metadata(&["one:1"]));
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
    let metadata = Arc::new(metadata(&["one:1"]));
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
        let metadata = metadata(&bootstrap);
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
    let metadata = Arc::new(metadata(&["one:1"]));
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

/// Answers when it is told to, each question with the topic as it was when it was asked.
struct Held {
    topic: Arc<AtomicUsize>,
    release: Arc<tokio::sync::Semaphore>,
}

impl AskMetadata for Held {
    async fn ask(&self, _: &str, _: Vec<TopicName>, _: u64) -> Result<MetadataAnswer> {
        let topic = self.topic.load(Ordering::Relaxed);
        self.release.acquire().await.unwrap().forget();
        Ok(told(topic as u64, Ok(entry(topic as u8, 1, 0))))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_earlier_question_is_not_taken_for_what_holds_now() {
    let metadata = Arc::new(metadata(&["one:1"]));
    let topic = Arc::new(AtomicUsize::new(1));
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Held {
        topic: Arc::clone(&topic),
        release: Arc::clone(&release),
    };
    let task = tokio::spawn(Arc::clone(&metadata).run(held));
    tokio::task::yield_now().await;
    // The question is on its way while the topic is made anew.
    topic.store(2, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(5);
    let asking = metadata.ask_anew([name()], deadline);
    tokio::pin!(asking);
    release.add_permits(1);
    let early = tokio::time::timeout(MIN_INTERVAL / 2, &mut asking).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(metadata.snapshot().id(&name()), Some(topic_id(1)));
    release.add_permits(10);
    asking.await.unwrap();
    assert_eq!(metadata.snapshot().id(&name()), Some(topic_id(2)));
    task.abort();
}
