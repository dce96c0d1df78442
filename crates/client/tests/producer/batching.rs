//! What goes out together, and when.

use std::collections::HashSet;
use std::time::Duration;

use tidelog_client::{Acks, Compression, Error, ErrorKind, Record};
use tidelog_types::{ErrorCode, partition_for_key};

use crate::fake::{Cluster, Reply, TOPIC};
use crate::record;

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_flood_makes_large_batches_and_a_lone_record_waits_for_nothing() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([Reply::Hold], Reply::Store);
    let producer = cluster.client().await.producer().build().await.unwrap();
    let mut deliveries = vec![producer.enqueue(record(0)).await.unwrap()];
    cluster.requests(1).await;
    for value in 1..1000 {
        deliveries.push(producer.enqueue(record(value)).await.unwrap());
    }
    cluster.release();
    producer.flush().await.unwrap();
    let counts: Vec<_> = cluster.seen().iter().map(|seen| seen.record_count).collect();
    assert_eq!(counts, [1, 999]);
    assert_eq!(deliveries.pop().unwrap().await.unwrap().offset, 999);
}

#[tokio::test]
async fn five_batches_are_in_flight() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([], Reply::Hold);
    let builder = cluster.client().await.producer();
    let producer = builder.batch_size(0).build().await.unwrap();
    for value in 0..12 {
        let _delivery = producer.enqueue(record(value)).await.unwrap();
    }
    let batches = |cluster: &Cluster| cluster.seen().len();
    while batches(&cluster) < 5 {
        cluster.requests(cluster.request_count() + 1).await;
    }
    assert!(stays_pending(producer.flush()).await);
    assert_eq!(batches(&cluster), 5);
    cluster.release();
    producer.flush().await.unwrap();
    assert_eq!(cluster.log(0).len(), 12);
}

/// Whether nothing comes of a future in a time that is long on a loopback.
async fn stays_pending(future: impl Future) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future)
        .await
        .is_err()
}

#[tokio::test]
async fn a_linger_gathers_records_and_ends() {
    let cluster = Cluster::start(1, 1).await;
    let builder = cluster.client().await.producer();
    let producer = builder.linger(Duration::from_secs(1)).build().await.unwrap();
    let mut first = producer.enqueue(record("a")).await.unwrap();
    assert!(stays_pending(&mut first).await, "it waits for others");
    let second = producer.enqueue(record("b")).await.unwrap();
    assert_eq!(
        (first.await.unwrap().offset, second.await.unwrap().offset),
        (0, 1)
    );
    assert_eq!(cluster.seen()[0].record_count, 2);
}

#[tokio::test]
async fn flush_sends_what_lingers_and_waits_for_what_was_enqueued_before() {
    let cluster = Cluster::start(1, 2).await;
    cluster.script([], Reply::Hold);
    let builder = cluster.client().await.producer();
    let producer = builder.linger(LONG).build().await.unwrap();
    for partition in [0, 1] {
        let _delivery = producer.enqueue(record("a").partition(partition)).await.unwrap();
    }
    let flushing = tokio::spawn({
        let producer = producer.clone();
        async move { producer.flush().await }
    });
    cluster.requests(1).await;
    assert!(!flushing.is_finished());
    // What comes after the flush lingers on.
    let later = producer.enqueue(record("b")).await.unwrap();
    cluster.release();
    flushing.await.unwrap().unwrap();
    let seen = cluster.seen();
    assert_eq!(seen.len(), 2);
    // One broker's partitions went in one request.
    assert_eq!(seen[0].correlation_id, seen[1].correlation_id);
    assert_eq!(
        seen.iter().map(|seen| seen.partition).collect::<HashSet<_>>(),
        [0, 1].into()
    );
    drop(later);
}

#[tokio::test]
async fn a_full_buffer_holds_back_and_gives_the_record_back() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([], Reply::Hold);
    let builder = cluster.client().await.producer();
    let producer = builder.buffer_memory(2_500).build().await.unwrap();
    let value = "x".repeat(1_000);
    let first = producer.enqueue(record(&value)).await.unwrap();
    let _second = producer.enqueue(record(&value)).await.unwrap();
    let refused = producer
        .try_enqueue(record(&value).key("k"))
        .expect_err("there is no room");
    assert_eq!(refused.error().kind(), ErrorKind::BufferFull);
    assert!(refused.is_buffer_full() && refused.error().is_retriable());
    assert_eq!(refused.into_record(), record(&value).key("k"));
    let waiting = tokio::spawn({
        let (producer, value) = (producer.clone(), value.clone());
        async move { producer.send(record(value)).await }
    });
    cluster.requests(1).await;
    assert!(!waiting.is_finished());
    cluster.release();
    assert_eq!(first.await.unwrap().offset, 0);
    assert_eq!(waiting.await.unwrap().unwrap().offset, 2);
}

#[tokio::test]
async fn who_waits_for_room_too_long_is_told() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([], Reply::Silence);
    let builder = cluster.client().await.producer();
    let options = builder
        .buffer_memory(1_500)
        .delivery_timeout(Duration::from_millis(200));
    let producer = options.build().await.unwrap();
    let value = "x".repeat(1_000);
    let _first = producer.enqueue(record(&value)).await.unwrap();
    // The first one's time is over no later than this one's wait: either it makes room, or the wait
    // ends.
    match producer.enqueue(record(&value)).await {
        Ok(delivery) => assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::TimedOut),
        Err(error) => assert_eq!(error.kind(), ErrorKind::BufferFull),
    }
}

#[tokio::test]
async fn keys_choose_partitions_as_kafka_does_and_keyless_records_move_on() {
    let cluster = Cluster::start(1, 3).await;
    let producer = cluster.client().await.producer().build().await.unwrap();
    for key in ["customer-1", "customer-2", "customer-3", "customer-4"] {
        let stored = producer
            .send(Record::to(TOPIC).key(key).value("v"))
            .await
            .unwrap();
        assert_eq!(stored.partition, partition_for_key(key.as_bytes(), 3).0);
    }
    let mut before = None;
    for _ in 0..10 {
        let stored = producer.send(Record::to(TOPIC).value("v")).await.unwrap();
        assert_ne!(Some(stored.partition), before);
        before = Some(stored.partition);
    }
}

#[tokio::test]
async fn what_can_never_be_sent_is_refused_at_once() {
    let cluster = Cluster::start(1, 1).await;
    let builder = cluster.client().await.producer();
    let options = builder
        .max_request_size(5_000)
        .delivery_timeout(Duration::from_millis(400));
    let producer = options.build().await.unwrap();
    let error = producer.send(record("x".repeat(5_000))).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert!(error.message().contains("max_request_size = 5000"), "{error}");
    let error = producer.send(record("x").partition(9)).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("topic orders has 1 partitions, so there is no partition 9")
    );
    let error = producer
        .send(Record::to("not a name").value("x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = producer.send(record("x").timestamp_ms(-5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = producer.send(Record::to("nowhere").value("x")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(error.message().starts_with("topic nowhere: "), "{error}");
    // Nothing of this hurt.
    producer.send(record("x")).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_is_not_known_yet_is_asked_for() {
    let cluster = Cluster::start(1, 1).await;
    let producer = cluster.client().await.producer().build().await.unwrap();
    let refused: Error = producer.try_enqueue(record("a")).unwrap_err().into();
    assert!(refused.is_retriable(), "{refused}");
    producer.send(record("a")).await.unwrap();
    producer.try_enqueue(record("b")).unwrap().await.unwrap();
}

#[tokio::test]
async fn acks_and_compression_are_as_chosen() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client().await;
    let builder = client.producer().acks(Acks::Leader).enable_idempotence(false);
    let producer = builder.compression(Compression::Lz4).build().await.unwrap();
    producer.send(record("x".repeat(500))).await.unwrap();
    let seen = &cluster.seen()[0];
    assert_eq!((seen.acks, seen.stamp), (1, None));
    assert_eq!(cluster.log(0)[0].len(), 500);
}
