//! A topic that is deleted and made anew under its name, under load: nothing that was meant for the
//! old one takes effect in the new one, and groups, readers and producers go on with the new one,
//! or say clearly that theirs is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tidelog_client::{
    Client, Consumer, DeliveryFuture, Error, ErrorCode, ErrorKind, NewTopic, OffsetAt, OffsetReset, Record,
    TopicId,
};
use tidelog_tests::cluster::Cluster;
use tidelog_tests::wait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "made-anew";
const GROUP: &str = "readers";
/// How often the topic is made anew.
const ROUNDS: usize = 8;
const OLD: usize = 200;
const NEW: usize = 20;
/// How long any one step may take: far less than a producer's delivery timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three brokers, of which some hear of a topic later than others.
async fn start() -> Result<(Cluster, Client)> {
    let cluster = Cluster::start(3).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    Ok((cluster, client))
}

/// The operator, who is another client: this one must learn of it from the brokers.
async fn operator(cluster: &Cluster) -> Result<Client> {
    Ok(Client::builder(cluster.bootstrap()).connect().await?)
}

async fn create(client: &Client, partitions: u32) -> Result<TopicId> {
    let topic = NewTopic::new(TOPIC).partitions(partitions).replication_factor(3);
    let created = client.admin().create_topic(topic).await?;
    created.topic_id.context("a topic's id")
}

async fn make_anew(client: &Client, partitions: u32) -> Result<TopicId> {
    client.admin().delete_topic(TOPIC).await?;
    create(client, partitions).await
}

/// Stores records with an operator's own producer.
async fn fill(client: &Client, what: &str, count: usize) -> Result<()> {
    let producer = client.producer().build().await?;
    for number in 0..count {
        let record = Record::to(TOPIC).value(format!("{what}-{number}"));
        drop(producer.enqueue(record).await?);
    }
    Ok(producer.close(PATIENCE).await?)
}

fn expected(what: &str, count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("{what}-{number}")).collect()
}

fn text(value: Option<bytes::Bytes>) -> String {
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

fn is_gone(error: &Error) -> bool {
    error.kind() == ErrorKind::Refused(ErrorCode::UnknownTopicId) && !error.is_retriable()
}

/// A member that marks whatever it is handed and commits without a pause, so that a commit is on
/// its way at every moment.
struct Member {
    read: Arc<Mutex<BTreeSet<String>>>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Member {
    async fn join(client: &Client) -> Result<Self> {
        let group = client
            .group(GROUP)
            .topics([TOPIC])
            .auto_offset_reset(OffsetReset::Earliest);
        let consumer = group.build().await?;
        let read = Arc::<Mutex<BTreeSet<String>>>::default();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Self::run(consumer, Arc::clone(&read), stop.clone()));
        Ok(Self { read, stop, task })
    }

    async fn run(
        mut consumer: Consumer,
        read: Arc<Mutex<BTreeSet<String>>>,
        stop: CancellationToken,
    ) -> Result<()> {
        let committer = consumer.committer()?;
        let committing: JoinHandle<Error> = tokio::spawn(async move {
            loop {
                if let Err(error) = committer.commit().await {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        while let Some(record) = stop.run_until_cancelled(consumer.recv()).await {
            let record = record.context("a member is handed an error")?;
            consumer.mark(&record);
            read.lock().insert(text(record.value));
        }
        if committing.is_finished() {
            return Err(committing.await?).context("committing");
        }
        committing.abort();
        Ok(consumer.close(PATIENCE).await?)
    }

    async fn has_read(&self, wanted: &BTreeSet<String>) -> Result<()> {
        wait::until("everything to be read", PATIENCE, async || {
            let read = self.read.lock();
            let missing: Vec<_> = wanted.difference(&read).take(5).collect();
            ensure!(missing.is_empty(), "not read yet: {missing:?}");
            ensure!(!self.task.is_finished(), "the member ended");
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_commits_all_the_while_is_handed_every_record_of_the_new_topic() -> Result<()> {
    let (cluster, client) = start().await?;
    let operator = operator(&cluster).await?;
    create(&operator, 2).await?;
    let member = Member::join(&client).await?;
    for round in 0..ROUNDS {
        let old = format!("old-{round}");
        fill(&operator, &old, OLD).await?;
        member.has_read(&expected(&old, OLD)).await?;
        let id = make_anew(&operator, 2).await?;
        let new = format!("new-{round}");
        fill(&operator, &new, NEW).await?;
        member.has_read(&expected(&new, NEW)).await?;
        wait::until("the new topic's commits", PATIENCE, async || {
            let committed = operator.admin().group_offsets(GROUP).await?;
            ensure!(
                committed.iter().all(|one| one.topic_id == Some(id)),
                "{committed:?}"
            );
            let total: u64 = committed.iter().map(|one| one.offset).sum();
            ensure!(total == NEW as u64, "{committed:?}");
            Ok(())
        })
        .await?;
    }
    member.stop.cancel();
    member.task.await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_a_topic_that_stays_away_goes_on_with_the_others_and_gives_up_nothing_twice() -> Result<()>
{
    const OTHER: &str = "another";
    let (cluster, client) = start().await?;
    let operator = operator(&cluster).await?;
    create(&operator, 2).await?;
    operator
        .admin()
        .create_topic(NewTopic::new(OTHER).partitions(1))
        .await?;
    fill(&operator, "old", OLD).await?;
    let group = client
        .group(GROUP)
        .topics([TOPIC, OTHER])
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = group.build().await?;
    for _ in 0..OLD {
        let record = tokio::time::timeout(PATIENCE, consumer.recv()).await??;
        consumer.mark(&record);
    }
    // Marked and not committed: the revocation's commit is for a topic that is gone.
    let began = Instant::now();
    operator.admin().delete_topic(TOPIC).await?;
    operator
        .producer()
        .build()
        .await?
        .send(Record::to(OTHER).value("x"))
        .await?;
    let record = tokio::time::timeout(PATIENCE, consumer.recv()).await??;
    assert_eq!(record.topic.as_str(), OTHER);
    consumer.mark(&record);
    consumer.commit().await?;
    wait::until("the assignment to shrink", PATIENCE, async || {
        let assigned = consumer.assignment();
        ensure!(assigned.len() == 1, "{assigned:?}");
        Ok(())
    })
    .await?;
    ensure!(
        began.elapsed() < PATIENCE,
        "giving it up took {:?}",
        began.elapsed()
    );
    // Whoever names a partition that is gone hears so.
    consumer.close(PATIENCE).await?;
    let committed = operator.admin().group_offsets(GROUP).await?;
    assert_eq!(committed.len(), 1, "{committed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_group_is_told_that_its_topic_is_gone_and_may_begin_anew() -> Result<()> {
    let (cluster, client) = start().await?;
    let operator = operator(&cluster).await?;
    create(&operator, 1).await?;
    fill(&operator, "old", 3).await?;
    let mut reader = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    for _ in 0..3 {
        tokio::time::timeout(PATIENCE, reader.recv()).await??;
    }
    make_anew(&operator, 1).await?;
    // Beyond where the reader stands: by the name alone it would be handed the fourth.
    fill(&operator, "new", 5).await?;
    let error = tokio::time::timeout(PATIENCE, reader.recv())
        .await?
        .expect_err("nothing of the new topic");
    ensure!(is_gone(&error), "{error:?}");
    ensure!(error.message().contains(TOPIC), "{error}");
    let ends = reader
        .end_offsets()
        .await
        .expect_err("the end of a topic that is gone");
    ensure!(is_gone(&ends), "{ends:?}");

    let mut anew = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    for offset in 0..5 {
        let record = tokio::time::timeout(PATIENCE, anew.recv()).await??;
        assert_eq!(
            (record.offset, text(record.value)),
            (offset, format!("new-{offset}"))
        );
    }
    operator.admin().delete_topic(TOPIC).await?;
    let error = tokio::time::timeout(PATIENCE, anew.recv())
        .await?
        .expect_err("nothing is left");
    ensure!(is_gone(&error), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_counts_the_partitions_of_the_new_topic_and_moves_no_record_there() -> Result<()> {
    let (cluster, client) = start().await?;
    let operator = operator(&cluster).await?;
    create(&operator, 12).await?;
    let producer = client.producer().linger(Duration::from_secs(20)).build().await?;
    let waiting = enqueue(&producer, "waits").await?;
    let begun = Instant::now();
    make_anew(&operator, 1).await?;
    for delivery in waiting {
        let error = delivery.await.expect_err("the topic is gone");
        ensure!(is_gone(&error) && !error.maybe_written(), "{error:?}");
    }
    // Keyless and keyed records alike: there is one partition left to choose from.
    let stored = enqueue(&producer, "after").await?;
    producer.flush().await?;
    for delivery in stored {
        assert_eq!(delivery.await?.partition, 0);
    }
    ensure!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
    // More partitions than there were: one that the old topic did not have is known at the first
    // record for it.
    make_anew(&operator, 3).await?;
    let stored = producer
        .enqueue(Record::to(TOPIC).partition(2).value("third"))
        .await?;
    producer.flush().await?;
    assert_eq!(stored.await?.partition, 2);
    make_anew(&operator, 1).await?;
    fill(&operator, "last", 1).await?;
    // The producer's client may still know the topic before: it asks anew what the name means now.
    let mut reader = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    let only = tokio::time::timeout(PATIENCE, reader.recv()).await??;
    assert_eq!((only.offset, text(only.value)), (0, "last-0".to_owned()));
    Ok(())
}

async fn enqueue(producer: &tidelog_client::Producer, what: &str) -> Result<Vec<DeliveryFuture>> {
    let mut deliveries = Vec::new();
    for number in 0..50 {
        let record = Record::to(TOPIC).value(format!("{what}-{number}"));
        let record = if number % 2 == 0 {
            record
        } else {
            record.key(format!("key-{number}"))
        };
        deliveries.push(producer.enqueue(record).await?);
    }
    Ok(deliveries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_for_a_topic_that_was_deleted_fails_for_good_and_soon() -> Result<()> {
    let (cluster, client) = start().await?;
    let operator = operator(&cluster).await?;
    create(&operator, 3).await?;
    let producer = client.producer().build().await?;
    producer.send(Record::to(TOPIC).value("x")).await?;
    operator.admin().delete_topic(TOPIC).await?;
    let mut codes = BTreeSet::new();
    for _ in 0..2 {
        let sent = tokio::time::timeout(PATIENCE, producer.send(Record::to(TOPIC).value("y"))).await?;
        let error = sent.expect_err("there is no topic");
        ensure!(!error.is_retriable(), "{error:?}");
        codes.extend(error.code());
    }
    // The first may find out what the second is told at once.
    ensure!(codes.contains(&ErrorCode::UnknownTopicOrPartition), "{codes:?}");
    let described = client
        .admin()
        .describe_topic(TOPIC)
        .await
        .expect_err("there is no topic");
    ensure!(!described.is_retriable(), "{described:?}");
    wait::until(
        "a record that nothing is waited for with to be refused for good",
        PATIENCE,
        async || {
            let refused = producer.try_enqueue(Record::to(TOPIC).value("z"));
            let refused = refused.err().context("it was taken")?;
            let error = refused.error();
            ensure!(
                error.code() == Some(ErrorCode::UnknownTopicOrPartition),
                "{error:?}"
            );
            ensure!(!error.is_retriable(), "{error:?}");
            Ok(())
        },
    )
    .await?;
    let read = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await;
    ensure!(!read.expect_err("there is no topic").is_retriable());
    Ok(())
}
