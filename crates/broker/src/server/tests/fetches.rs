//! How much a fetch is answered with, and when.

use tidelog_record::{BatchBuilder, Compression, NewRecord};

use super::*;

fn batch(compression: Compression, records: usize, value: &[u8]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(compression);
    for _ in 0..records {
        builder.append(NewRecord::new(1, None, Some(value))).unwrap();
    }
    builder.build(None).unwrap().into_bytes()
}

async fn append(channel: &Channel, topic: &str, partition: u32, batch: bytes::Bytes) {
    let partition = v1::PartitionProduce {
        topic: topic.to_owned(),
        partition,
        data: Some(v1::partition_produce::Data::Batch(batch)),
        ..Default::default()
    };
    let request = v1::ProduceRequest {
        partitions: vec![partition],
        ..Default::default()
    };
    let answer = LogClient::new(channel.clone())
        .produce(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.partitions[0].error, None);
}

/// Reads partitions to their ends with unary fetches that say nothing of bytes; how many records
/// there were, and how many calls it took.
async fn read_by_default(channel: &Channel, topic: &str, ends: &[u64], plain_records: bool) -> (u64, u32) {
    // Takes 4 MiB, as clients of every language do unless they are told otherwise.
    let mut log = LogClient::new(channel.clone());
    let mut next = vec![0; ends.len()];
    let mut calls = 0;
    while next != ends {
        let partitions = next
            .iter()
            .zip(0..)
            .map(|(offset, partition)| v1::PartitionFetch {
                topic: topic.to_owned(),
                partition,
                fetch_offset: *offset,
                ..Default::default()
            });
        let request = v1::FetchRequest {
            plain_records,
            partitions: partitions.collect(),
            ..Default::default()
        };
        let answer = log
            .fetch(request)
            .await
            .expect("it is within the limit")
            .into_inner();
        let before = next.clone();
        for partition in answer.partitions {
            assert_eq!(partition.error, None);
            next[partition.partition as usize] = partition.next_offset;
        }
        assert_ne!(before, next, "it goes on");
        calls += 1;
    }
    (next.iter().sum(), calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_says_nothing_of_bytes_stays_within_what_clients_take_by_default() {
    const PARTITIONS: u32 = 8;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), free_port())).await.unwrap();
    let channel = connect(&server).await;
    create(&channel, "first").await;
    let request = v1::CreateTopicRequest {
        name: "wide".to_owned(),
        partitions: PARTITIONS,
        ..Default::default()
    };
    let created = AdminClient::new(channel.clone())
        .create_topic(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(created.error, None);

    let large = batch(Compression::None, 10, &vec![7; 95_000]);
    for partition in 0..PARTITIONS {
        append(&channel, "wide", partition, large.clone()).await;
    }
    let ends = [10; PARTITIONS as usize];
    assert_eq!(
        read_by_default(&channel, "wide", &ends, false).await,
        (80, 3),
        "8 batches of 950 kB"
    );
    let (records, calls) = read_by_default(&channel, "wide", &ends, true).await;
    assert_eq!(records, 80);
    assert!(calls >= 3, "{calls} calls");

    // 20 MB out of a few kilobytes: one batch is more than an answer, and is handed out in parts.
    append(
        &channel,
        "first",
        0,
        batch(Compression::Zstd, 200, &vec![0; 100_000]),
    )
    .await;
    let (records, calls) = read_by_default(&channel, "first", &[200], true).await;
    assert_eq!(records, 200);
    assert!((5..10).contains(&calls), "{calls} calls");
    server.shutdown().await;
}

async fn fetch(channel: &Channel, request: v1::FetchRequest) -> (usize, Duration) {
    let began = Instant::now();
    let mut log = LogClient::new(channel.clone());
    let answer = tokio::time::timeout(PATIENCE, log.fetch(request))
        .await
        .expect("it waits for what cannot come");
    let partitions = answer.unwrap().into_inner().partitions;
    let batches = partitions.iter().flat_map(|partition| &partition.batches);
    (batches.count(), began.elapsed())
}

fn of_partitions(partitions: u32, max_bytes: u32) -> Vec<v1::PartitionFetch> {
    let of = |partition| v1::PartitionFetch {
        topic: "wide".to_owned(),
        partition,
        max_bytes,
        ..Default::default()
    };
    (0..partitions).map(of).collect()
}

/// Each waits for longer than the test is patient, unless the broker sees that waiting is of no
/// use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_be_answered_is_not_waited_for() {
    const WAIT_MS: u32 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), free_port())).await.unwrap();
    let channel = connect(&server).await;
    create(&channel, "first").await;
    let request = v1::CreateTopicRequest {
        name: "wide".to_owned(),
        partitions: 2,
        ..Default::default()
    };
    AdminClient::new(channel.clone())
        .create_topic(request)
        .await
        .unwrap();
    for partition in [0, 0, 0, 1, 1, 1] {
        append(
            &channel,
            "wide",
            partition,
            batch(Compression::None, 1, &vec![7; 100_000]),
        )
        .await;
    }
    let ask = |min_bytes, max_bytes, partitions| v1::FetchRequest {
        max_wait_ms: WAIT_MS,
        min_bytes,
        max_bytes,
        partitions,
        ..Default::default()
    };
    // The third batch does not fit into the answer; nor into what is allowed of the partition; nor
    // of both partitions together.
    assert_eq!(
        fetch(&channel, ask(1_000_000, 250_000, of_partitions(1, 0)))
            .await
            .0,
        2
    );
    assert_eq!(
        fetch(&channel, ask(1_000_000, 0, of_partitions(1, 250_000)))
            .await
            .0,
        2
    );
    assert_eq!(
        fetch(&channel, ask(1_000_000, 0, of_partitions(2, 250_000)))
            .await
            .0,
        4
    );
    assert_eq!(
        fetch(&channel, ask(1_000_000, 50_000, of_partitions(2, 0)))
            .await
            .0,
        1
    );

    // Where more would fit it is waited for.
    let short = v1::FetchRequest {
        max_wait_ms: 300,
        ..ask(1_000_000, 0, of_partitions(1, 0))
    };
    let (batches, waited) = fetch(&channel, short).await;
    assert_eq!(batches, 3);
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    server.shutdown().await;
}
