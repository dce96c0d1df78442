//! Answers that come in pages: each entry once, in order, and tokens of another call refused.

use super::*;

fn page(size: u32, token: &str) -> v1::PageRequest {
    v1::PageRequest {
        size,
        token: token.to_owned(),
    }
}

async fn broker() -> (Server, Channel, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), free_port())).await.unwrap();
    let channel = connect(&server).await;
    for name in ["c", "a", "b", "d"] {
        assert_eq!(create(&channel, name).await.error, None);
    }
    (server, channel, dir)
}

#[tokio::test]
async fn a_topic_of_many_partitions_is_described_in_pages() {
    let (server, channel, _dir) = broker().await;
    let mut admin = AdminClient::new(channel.clone());
    let wide = v1::CreateTopicRequest {
        name: "wide".to_owned(),
        partitions: 5,
        ..Default::default()
    };
    let created = admin.create_topic(wide).await.unwrap().into_inner();
    assert_eq!(created.error, None);
    let mut describe = async |token: &str| {
        let request = v1::DescribeTopicRequest {
            name: "wide".to_owned(),
            page: Some(page(2, token)),
        };
        admin.describe_topic(request).await.unwrap().into_inner()
    };
    let (mut token, mut told) = (String::new(), Vec::new());
    for size in [2, 2, 1] {
        let answer = describe(&token).await;
        assert_eq!((answer.error, answer.partitions.len()), (None, size));
        assert_eq!(answer.topic_id, created.topic_id, "each page says of which topic");
        let partitions = answer.partitions.iter();
        told.extend(partitions.map(|one| (one.partition, one.leader, one.high_watermark)));
        token = answer.next_token;
    }
    assert_eq!(token, "", "there is no fourth");
    let expected: Vec<_> = (0..5).map(|partition| (partition, 1, Some(0))).collect();
    assert_eq!(told, expected);
    // Beyond the end there is nothing, and what is no number was never given.
    assert_eq!(describe("5").await.partitions, []);
    let refused = describe("nonsense").await.error.unwrap();
    assert_eq!(refused.code, ErrorCode::InvalidRequest.number());
    server.shutdown().await;
}

/// The answer would repeat it in three places.
#[tokio::test]
async fn a_name_of_mebibytes_is_not_told_back() {
    let (server, channel, _dir) = broker().await;
    let long = "y".repeat(3 << 20);
    let mut admin = AdminClient::new(channel.clone());
    let request = v1::MetadataRequest {
        topics: vec!["a".to_owned(), long.clone()],
        ..Default::default()
    };
    let answer = admin.metadata(request).await.unwrap().into_inner();
    let described = v1::DescribeTopicRequest {
        name: long,
        page: None,
    };
    let described = admin.describe_topic(described).await.unwrap().into_inner();
    for (error, code) in [
        (answer.error, ErrorCode::InvalidTopicException),
        (described.error, ErrorCode::UnknownTopicOrPartition),
    ] {
        let error = error.unwrap();
        assert_eq!(error.code, code.number());
        assert!(
            error.message.contains("1 to 249") && error.message.len() < 500,
            "{}",
            error.message
        );
    }
    assert_eq!((answer.topics, described.name), (vec![], String::new()));
    server.shutdown().await;
}

#[tokio::test]
async fn metadata_are_told_in_pages_of_all_topics_and_of_named_ones() {
    let (server, channel, _dir) = broker().await;
    let admin = AdminClient::new(channel.clone());
    let told = async |all_topics: bool, topics: &[&str]| {
        let (mut token, mut told) = (String::new(), Vec::new());
        for _ in 0..10 {
            let request = v1::MetadataRequest {
                topics: topics.iter().map(ToString::to_string).collect(),
                all_topics,
                page: Some(page(3, &token)),
                ..Default::default()
            };
            let answer = admin.clone().metadata(request).await.unwrap().into_inner();
            assert_eq!(answer.error, None);
            assert_eq!(answer.brokers.len(), 1, "each page says who serves");
            told.extend(
                answer
                    .topics
                    .into_iter()
                    .map(|topic| (topic.name, topic.error.is_some())),
            );
            token = answer.next_token;
            if token.is_empty() {
                return told;
            }
        }
        panic!("the pages have no end: {told:?}");
    };
    let known = |names: &[&str]| -> Vec<_> { names.iter().map(|name| ((*name).to_owned(), false)).collect() };
    assert_eq!(
        told(true, &[]).await,
        known(&["__consumer_offsets", "a", "b", "c", "d"])
    );
    let mut expected = known(&["d", "b", "x", "a", "c"]);
    expected[2].1 = true;
    assert_eq!(told(false, &["d", "b", "d", "x", "a", "c"]).await, expected);
    let request = v1::MetadataRequest {
        topics: vec!["a".to_owned()],
        page: Some(page(3, "b")),
        ..Default::default()
    };
    let refused = admin
        .clone()
        .metadata(request)
        .await
        .unwrap()
        .into_inner()
        .error
        .unwrap();
    assert_eq!(refused.code, ErrorCode::InvalidRequest.number());
    server.shutdown().await;
}
