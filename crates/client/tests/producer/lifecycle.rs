//! Closing, dropping, cancelling.

use std::time::Duration;

use tidelog_client::ErrorKind;
use tidelog_types::ErrorCode;

use crate::fake::{Cluster, Reply};
use crate::record;

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn close_waits_for_what_was_enqueued_and_takes_nothing_more() {
    let cluster = Cluster::start(1, 1).await;
    let builder = cluster.client().await.producer();
    let producer = builder.linger(LONG).build().await.unwrap();
    let delivery = producer.enqueue(record("a")).await.unwrap();
    producer.close(LONG).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, 0);
    let error = producer.send(record("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let refused = producer.try_enqueue(record("b")).unwrap_err();
    assert_eq!(refused.error().kind(), ErrorKind::Closed);
    producer.close(LONG).await.unwrap();
    assert_eq!(cluster.log(0), ["a"]);
}

#[tokio::test]
async fn what_is_left_at_a_closes_deadline_fails_and_says_whether_it_was_sent() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([], Reply::Silence);
    let builder = cluster.client().await.producer();
    let producer = builder
        .batch_size(0)
        .max_in_flight_requests_per_partition(1)
        .build()
        .await
        .unwrap();
    let sent = producer.enqueue(record("a")).await.unwrap();
    let unsent = producer.enqueue(record("b")).await.unwrap();
    cluster.requests(1).await;
    let error = producer.close(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    for (delivery, maybe_written) in [(sent, true), (unsent, false)] {
        let error = delivery.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.maybe_written()),
            (ErrorKind::TimedOut, maybe_written)
        );
    }
}

#[tokio::test]
async fn dropping_the_last_handle_abandons_what_is_not_acknowledged() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([], Reply::Silence);
    let producer = cluster.client().await.producer().build().await.unwrap();
    let clone = producer.clone();
    let delivery = producer.enqueue(record("a")).await.unwrap();
    cluster.requests(1).await;
    drop(producer);
    let delivery = tokio::spawn(delivery);
    tokio::task::yield_now().await;
    assert!(!delivery.is_finished());
    drop(clone);
    let error = delivery.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.maybe_written()), (ErrorKind::Closed, true));
}

#[tokio::test]
async fn a_dropped_future_takes_nothing_back() {
    let cluster = Cluster::start(1, 1).await;
    let producer = cluster.client().await.producer().build().await.unwrap();
    drop(producer.enqueue(record("a")).await.unwrap());
    producer.flush().await.unwrap();
    assert_eq!(cluster.log(0), ["a"]);
}

#[tokio::test]
async fn flush_tells_of_a_failure_that_nobody_looked_at() {
    let cluster = Cluster::start(1, 1).await;
    cluster.script([Reply::Refuse(ErrorCode::InvalidRecord)], Reply::Store);
    let producer = cluster.client().await.producer().build().await.unwrap();
    drop(producer.enqueue(record("a")).await.unwrap());
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRecord));
    producer.flush().await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_its_producers_alive() {
    let cluster = Cluster::start(1, 1).await;
    let client = cluster.client().await;
    let producer = client.producer().build().await.unwrap();
    drop(client);
    producer.send(record("a")).await.unwrap();
}
