//! Partitions by hand: fetching.

use tidelog_types::ErrorCode;

use super::*;
use crate::OffsetReset;
use crate::consumer::testing::{batch, partition};
use crate::wire::fake_consumer::FakeCluster;

async fn one_partition(brokers: u32) -> FakeCluster {
    let cluster = FakeCluster::start(brokers).await;
    cluster.topic("t", 1);
    cluster
}

#[tokio::test]
async fn records_come_in_order_from_the_middle_of_a_batch_on() {
    let cluster = one_partition(1).await;
    cluster.append("t", 0, batch(0, 5));
    cluster.append("t", 0, batch(5, 3));
    let client = cluster.client().await;
    let mut consumer = client.consumer().partition("t", 0, 3).build().await.unwrap();
    assert_eq!(offsets(&mut consumer, 5).await, [3, 4, 5, 6, 7]);
    assert_eq!(consumer.position(&partition("t", 0)), Some(8));
    assert_eq!(consumer.lag(&partition("t", 0)), Some(0));
    cluster.append("t", 0, batch(8, 1));
    assert_eq!(offsets(&mut consumer, 1).await, [8]);
}

#[tokio::test]
async fn a_call_that_is_given_up_loses_nothing() {
    let cluster = one_partition(1).await;
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut appended = 0;
    // A ready branch beside it gives the call up again and again, in whatever state it is.
    while seen.len() < 50 {
        if appended < 50 {
            cluster.append("t", 0, batch(appended, 1));
            appended += 1;
        }
        tokio::select! {
            record = consumer.recv() => seen.push(record.unwrap().offset),
            () = tokio::task::yield_now() => {}
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_leader_that_moves_is_followed_with_the_epoch_that_was_seen() {
    let cluster = one_partition(2).await;
    cluster.append("t", 0, batch(0, 1));
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(offsets(&mut consumer, 1).await, [0]);
    // The question that waits at the old leader is refused with a hint.
    cluster.change("t", 0, |known| (known.leader, known.epoch) = (2, 7));
    cluster.append("t", 0, batch(1, 1));
    assert_eq!(offsets(&mut consumer, 1).await, [1]);
    let last = cluster.state.world.lock().fetches.last().cloned().unwrap();
    assert_eq!((last.0, last.1.leader_epoch), (2, Some(7)));

    // Metadata that lag behind do not lead back to an older epoch.
    cluster
        .state
        .world
        .lock()
        .stale_leaders
        .insert(("t".to_owned(), 0), (2, 6));
    client.inner.metadata.request_refresh();
    cluster.append("t", 0, batch(2, 1));
    assert_eq!(offsets(&mut consumer, 1).await, [2]);
    let asked = cluster.state.world.lock().fetches.clone();
    let epochs: Vec<_> = asked.iter().map(|(_, fetch)| fetch.leader_epoch).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
}

#[tokio::test]
async fn a_position_below_the_log_start_is_reset() {
    let cluster = one_partition(1).await;
    cluster.append("t", 0, batch(10, 2));
    cluster.change("t", 0, |known| known.log_start = 10);
    let client = cluster.client().await;
    let builder = client.consumer().partition("t", 0, 3);
    let mut earliest = builder
        .clone()
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(offsets(&mut earliest, 2).await, [10, 11]);

    let mut none = builder
        .clone()
        .auto_offset_reset(OffsetReset::None)
        .build()
        .await
        .unwrap();
    let error = within(none.recv()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    none.seek(&partition("t", 0), 11).unwrap();
    assert_eq!(offsets(&mut none, 1).await, [11]);

    let mut latest = builder.build().await.unwrap();
    tokio::select! {
        record = latest.recv() => panic!("{record:?} was there before"),
        () = until(|| latest_position(&cluster)) => {}
    }
    cluster.append("t", 0, batch(12, 1));
    assert_eq!(offsets(&mut latest, 1).await, [12]);
}

fn latest_position(cluster: &FakeCluster) -> bool {
    let world = cluster.state.world.lock();
    world.fetches.iter().filter(|(_, f)| f.fetch_offset == 12).count() >= 3
}

#[tokio::test]
async fn a_batch_with_a_wrong_checksum_is_named_after_what_stands_before_it() {
    let cluster = one_partition(1).await;
    cluster.append("t", 0, batch(0, 2));
    let mut damaged = batch(2, 3).into_bytes().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    cluster.append_bytes("t", 0, 2, 5, damaged.into());
    cluster.append("t", 0, batch(5, 1));
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(offsets(&mut consumer, 2).await, [0, 1]);
    for _ in 0..2 {
        let error = within(consumer.recv()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("t-0 is damaged at offset 2"), "{error}");
    }
    consumer.seek(&partition("t", 0), 5).unwrap();
    assert_eq!(offsets(&mut consumer, 1).await, [5]);
}

#[tokio::test]
async fn what_is_not_taken_is_not_fetched_on_and_on() {
    let cluster = one_partition(1).await;
    for at in 0..100 {
        cluster.append("t", 0, batch(at * 10, 10));
    }
    let client = cluster.client().await;
    let size = batch(0, 10).bytes().len();
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .max_partition_fetch_bytes(3 * size as u32)
        .build()
        .await
        .unwrap();
    assert_eq!(offsets(&mut consumer, 1).await, [0]);
    until(|| consumer.shared.look(|slots| slots.buffered_bytes()) >= 3 * size).await;
    let asked = cluster.state.world.lock().fetches.len();
    tokio::task::yield_now().await;
    assert!(consumer.shared.look(|slots| slots.buffered_bytes()) <= 6 * size);
    assert_eq!(cluster.state.world.lock().fetches.len(), asked);
    let rest = offsets(&mut consumer, 999).await;
    assert_eq!(rest, (1..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_paused_partition_waits_and_a_sought_one_goes_on_there() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 2);
    for index in 0..2 {
        cluster.append("t", index, batch(0, 10));
    }
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    consumer.pause(&[partition("t", 0)]).unwrap();
    for _ in 0..10 {
        assert_eq!(within(consumer.recv()).await.unwrap().partition, 1);
    }
    consumer.seek(&partition("t", 0), 8).unwrap();
    consumer.resume(&[partition("t", 0)]).unwrap();
    assert_eq!(offsets(&mut consumer, 2).await, [8, 9]);
    assert!(consumer.pause(&[partition("t", 9)]).is_err());
}

#[tokio::test]
async fn reading_until_the_ends_stops_exactly_there() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 3);
    cluster.append("t", 0, batch(0, 5));
    cluster.append("t", 1, batch(0, 2));
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    let ends = consumer.end_offsets().await.unwrap();
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [5, 2, 0]);
    cluster.append("t", 1, batch(2, 4));
    let mut seen = 0;
    while let Some(record) = within(consumer.recv_until(&ends)).await.unwrap() {
        assert!(record.offset < ends[&record.topic_partition()]);
        seen += 1;
    }
    assert_eq!(seen, 7);
    assert_eq!(offsets(&mut consumer, 4).await, [2, 3, 4, 5]);
}

#[tokio::test]
async fn r6_an_end_is_asked_for_in_the_newest_epoch_that_was_seen() {
    let cluster = one_partition(1).await;
    cluster.append("t", 0, batch(0, 5));
    let key = ("t".to_owned(), 0);
    cluster.state.world.lock().stale_leaders.insert(key, (1, 3));
    let client = cluster.client().await;
    let admin = client.admin();
    let end = admin.list_offsets([(partition("t", 0), OffsetAt::Latest)]);
    // A leader that has not heard yet of its epoch knows nothing of what was acknowledged in
    // between: it must not tell an end.
    let asked_in_vain = async {
        while cluster.state.world.lock().offset_queries.is_empty() {
            tokio::task::yield_now().await;
        }
        cluster.append("t", 0, batch(5, 3));
        cluster.change("t", 0, |known| known.epoch = 3);
    };
    let (end, ()) = within(async { tokio::join!(end, asked_in_vain) }).await;
    assert_eq!(end.unwrap()[&partition("t", 0)].offset, 8);
    let asked = cluster.state.world.lock().offset_queries.clone();
    let epochs: Vec<_> = asked.iter().map(|query| query.leader_epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch == Some(3)), "{epochs:?}");
    assert!(asked.len() > 1, "refused, then answered: {asked:?}");
}

#[tokio::test]
async fn a_stream_of_records_ends_after_the_last_error() {
    use futures::StreamExt;
    let cluster = one_partition(1).await;
    cluster.append("t", 0, batch(0, 3));
    let client = cluster.client().await;
    let mut consumer = client
        .consumer()
        .topic("t", OffsetAt::Earliest)
        .build()
        .await
        .unwrap();
    let shared = Arc::clone(&consumer.shared);
    let mut stream = std::pin::pin!(consumer.stream());
    for offset in 0..3 {
        assert_eq!(within(stream.next()).await.unwrap().unwrap().offset, offset);
    }
    shared.end(errors::closed());
    let last = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Closed);
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test]
async fn what_does_not_exist_is_refused_and_commits_are_the_groups() {
    let cluster = one_partition(1).await;
    let client = cluster.client().await;
    let none = client.consumer().partition("t", 7, 0).build().await.unwrap_err();
    assert_eq!(none.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let consumer = client.consumer().partition("t", 0, 0).build().await.unwrap();
    assert_eq!(
        consumer.commit().await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    consumer.close(PATIENCE).await.unwrap();
}
