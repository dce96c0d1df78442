//! Order, retries and what is said of records that fail.

use std::time::Duration;

use tidelog_client::{ErrorKind, Producer};
use tidelog_types::ErrorCode;

use crate::fake::{Cluster, Reply};
use crate::record;

async fn producer(cluster: &Cluster) -> Producer {
    cluster.client().await.producer().build().await.unwrap()
}

async fn impatient(cluster: &Cluster) -> Producer {
    let builder = cluster.client().await.producer();
    builder
        .delivery_timeout(Duration::from_millis(300))
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn records_stand_in_the_order_sent_each_told_its_offset() {
    let cluster = Cluster::start(1, 1).await;
    let producer = producer(&cluster).await;
    let mut deliveries = Vec::new();
    for value in 0..500 {
        deliveries.push(producer.enqueue(record(value)).await.unwrap());
    }
    for (expected, delivery) in deliveries.into_iter().enumerate() {
        let stored = delivery.await.unwrap();
        assert_eq!((stored.partition, stored.offset), (0, expected as u64));
        assert_eq!(stored.topic.as_str(), "orders");
        assert!(stored.timestamp_ms > 1_600_000_000_000);
    }
    let expected: Vec<_> = (0..500).map(|value| value.to_string()).collect();
    assert_eq!(cluster.log(0), expected);
}

#[tokio::test]
async fn a_lost_stream_is_made_anew_and_what_was_stored_is_not_stored_again() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([Reply::StoreThenBreak, Reply::Break], Reply::Store);
    let producer = producer(&cluster).await;
    assert_eq!(producer.send(record("a")).await.unwrap().offset, 0);
    assert_eq!(producer.send(record("b")).await.unwrap().offset, 1);
    assert_eq!(cluster.log(0), ["a", "b"]);
    let stamps: Vec<_> = cluster.seen().iter().map(|seen| seen.stamp).collect();
    assert!(stamps[0].is_some() && stamps[0] == stamps[1] && stamps[1] == stamps[2]);
}

/// A paused process: its kernel takes connections, and nobody answers on them.
#[tokio::test]
async fn a_leader_that_lets_the_stream_wait_is_left_for_the_next_one() {
    let cluster = Cluster::start(2, 1).await;
    let producer = producer(&cluster).await;
    producer.send(record("a")).await.unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    cluster.readdress(1, mute.local_addr().unwrap().to_string());
    cluster.script([], Reply::Break);
    let delivery = producer.enqueue(record("b")).await.unwrap();
    let (_held, _) = mute.accept().await.unwrap();
    cluster.script([], Reply::Store);
    cluster.lead(2, true);
    // Far sooner than the mute one is given up for its silence.
    let delivered = tokio::time::timeout(Duration::from_secs(5), delivery).await;
    assert_eq!(delivered.expect("the next leader is found").unwrap().offset, 1);
    assert_eq!(cluster.seen().last().unwrap().broker, 2);
}

#[tokio::test]
async fn order_survives_a_refusal_of_the_first_of_several_in_flight() {
    let cluster = Cluster::start(1, 1).await;
    let refuse = Reply::Refuse(ErrorCode::NotEnoughReplicas);
    cluster.script([refuse, Reply::Store, refuse], Reply::Store);
    let builder = cluster.client().await.producer();
    // Every record fills a batch.
    let producer = builder.batch_size(0).build().await.unwrap();
    for value in 0..20 {
        let _delivery = producer.enqueue(record(value)).await.unwrap();
    }
    producer.flush().await.unwrap();
    let expected: Vec<_> = (0..20).map(|value| value.to_string()).collect();
    assert_eq!(cluster.log(0), expected);
}

#[tokio::test]
async fn a_hint_in_a_refusal_leads_to_the_new_leader() {
    let cluster = Cluster::start(2, 1).await;
    let producer = producer(&cluster).await;
    producer.send(record("before")).await.unwrap();
    // Metadata stays behind: only the refusal tells.
    cluster.lead(2, false);
    let stored = producer.send(record("after")).await.unwrap();
    assert_eq!(stored.offset, 1);
    let brokers: Vec<_> = cluster.seen().iter().map(|seen| seen.broker).collect();
    assert_eq!(brokers, [1, 1, 2]);
}

#[tokio::test]
async fn after_a_gap_the_next_record_is_stored_in_a_new_epoch() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script(
        [Reply::Store, Reply::Refuse(ErrorCode::MessageTooLarge)],
        Reply::Store,
    );
    let producer = producer(&cluster).await;
    producer.send(record("a")).await.unwrap();
    let error = producer.send(record("b")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert!(!error.maybe_written() && error.message().contains("too large for the topic"));
    producer.send(record("c")).await.unwrap();
    assert_eq!(cluster.log(0), ["a", "c"]);
    let last = cluster.seen().last().unwrap().stamp.unwrap();
    assert_eq!((last.epoch.0, last.base_sequence.to_wire()), (1, 0));
}

#[tokio::test]
async fn a_timeout_says_whether_the_record_may_have_been_written() {
    let cases = [
        (Reply::Silence, true),
        (Reply::Break, true),
        (Reply::Refuse(ErrorCode::NotEnoughReplicas), false),
        (Reply::Refuse(ErrorCode::NotEnoughReplicasAfterAppend), true),
    ];
    for (reply, maybe_written) in cases {
        let cluster = Cluster::start(1, 1).await;
        cluster.script([], reply);
        let error = impatient(&cluster).await.send(record("a")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.maybe_written()),
            (ErrorKind::TimedOut, maybe_written)
        );
        assert!(
            error
                .message()
                .starts_with("orders-0: not delivered within 300ms"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_asked_again_over_another_stream() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([Reply::Silence], Reply::Store);
    let builder = cluster.client().await.producer();
    let producer = builder
        .request_timeout(Duration::from_millis(200))
        .build()
        .await
        .unwrap();
    assert_eq!(producer.send(record("a")).await.unwrap().offset, 0);
    assert_eq!(cluster.request_count(), 2);
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_leaves_nobody_in_doubt() {
    let cluster = Cluster::start(2, 1).await;
    let producer = impatient(&cluster).await;
    producer.send(record("a")).await.unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    cluster.readdress(2, address);
    cluster.lead(2, true);
    let error = producer.send(record("b")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.maybe_written()),
        (ErrorKind::TimedOut, false),
        "{error}"
    );
    assert!(error.message().contains("refused"), "{error}");
}
