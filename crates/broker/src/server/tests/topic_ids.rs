//! Topic ids travel: what is meant for one topic takes no effect in another that was made under its
//! name.

use bytes::Bytes;

use super::*;

/// A topic that was deleted and made anew, and the ids of both.
struct Remade {
    server: Server,
    channel: Channel,
    _dir: tempfile::TempDir,
    old: Bytes,
    new: Bytes,
}

impl Remade {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(config(dir.path(), free_port())).await.unwrap();
        let channel = connect(&server).await;
        let old = create(&channel, "t").await.topic_id;
        assert_eq!(produce(&channel, "old").await.error, None);
        let request = v1::DeleteTopicRequest { name: "t".to_owned() };
        let deleted = AdminClient::new(channel.clone())
            .delete_topic(request)
            .await
            .unwrap();
        assert_eq!(deleted.into_inner().error, None);
        let new = create(&channel, "t").await.topic_id;
        assert_ne!(old, new);
        Self {
            server,
            channel,
            _dir: dir,
            old,
            new,
        }
    }

    /// What a produce, a fetch, a question for offsets and a commit are answered that name this id.
    async fn codes(&self, id: Option<Bytes>) -> [Option<i32>; 4] {
        [
            self.produced(id.clone()).await,
            self.fetched(id.clone()).await,
            self.offset(id.clone()).await,
            self.committed(id).await,
        ]
    }

    async fn produced(&self, topic_id: Option<Bytes>) -> Option<i32> {
        let records = v1::PlainRecords {
            records: vec![v1::Record::default()],
            producer: None,
        };
        let partition = v1::PartitionProduce {
            topic: "t".to_owned(),
            data: Some(v1::partition_produce::Data::Records(records)),
            topic_id,
            ..Default::default()
        };
        let request = v1::ProduceRequest {
            partitions: vec![partition],
            ..Default::default()
        };
        let mut client = LogClient::new(self.channel.clone());
        let answer = client.produce(request).await.unwrap().into_inner();
        answer.partitions[0].error.as_ref().map(|error| error.code)
    }

    async fn fetched(&self, topic_id: Option<Bytes>) -> Option<i32> {
        let partition = v1::PartitionFetch {
            topic: "t".to_owned(),
            topic_id,
            ..Default::default()
        };
        let request = v1::FetchRequest {
            partitions: vec![partition],
            ..Default::default()
        };
        let mut client = LogClient::new(self.channel.clone());
        let answer = client.fetch(request).await.unwrap().into_inner();
        answer.partitions[0].error.as_ref().map(|error| error.code)
    }

    async fn offset(&self, topic_id: Option<Bytes>) -> Option<i32> {
        let query = v1::PartitionOffsetQuery {
            topic: "t".to_owned(),
            topic_id,
            at: Some(v1::partition_offset_query::At::Latest(true)),
            ..Default::default()
        };
        let request = v1::ListOffsetsRequest {
            partitions: vec![query],
        };
        let mut client = LogClient::new(self.channel.clone());
        let answer = client.list_offsets(request).await.unwrap().into_inner();
        answer.partitions[0].error.as_ref().map(|error| error.code)
    }

    async fn committed(&self, topic_id: Option<Bytes>) -> Option<i32> {
        let offset = v1::OffsetToCommit {
            topic: "t".to_owned(),
            offset: 1,
            topic_id,
            ..Default::default()
        };
        let request = v1::CommitRequest {
            group_id: "g".to_owned(),
            offsets: vec![offset],
            ..Default::default()
        };
        let answer = until_coordinated(|| async {
            let mut client = GroupsClient::new(self.channel.clone());
            let answer = client.commit(request.clone()).await.unwrap().into_inner();
            let passing = |error: &v1::Error| ErrorCode::from_number(error.code).unwrap().is_retriable();
            let (wait, told) = match answer.error {
                Some(error) if passing(&error) => (Some(error), None),
                error => (None, error),
            };
            (
                told.or(answer
                    .failures
                    .into_iter()
                    .next()
                    .and_then(|failure| failure.error)),
                wait,
            )
        });
        answer.await.map(|error| error.code)
    }

    async fn committed_ids(&self, wanted: Vec<v1::TopicPartitions>) -> Vec<Bytes> {
        let request = v1::OffsetsRequest {
            group_id: "g".to_owned(),
            partitions: wanted,
            ..Default::default()
        };
        let answer = until_coordinated(|| async {
            let mut client = GroupsClient::new(self.channel.clone());
            let answer = client.offsets(request.clone()).await.unwrap().into_inner();
            (answer.offsets, answer.error)
        });
        answer.await.into_iter().map(|found| found.topic_id).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_topic_that_is_gone_does_nothing_in_the_one_that_has_its_name() {
    let rig = Remade::new().await;
    let unknown = Some(ErrorCode::UnknownTopicId.number());
    assert_eq!(rig.codes(Some(rig.old.clone())).await, [unknown; 4]);
    assert_eq!(rig.committed_ids(Vec::new()).await, Vec::<Bytes>::new());
    assert_eq!(
        produce(&rig.channel, "first").await.base_offset,
        0,
        "nothing was appended"
    );

    assert_eq!(rig.codes(Some(rig.new.clone())).await, [None; 4]);
    assert_eq!(rig.codes(None).await, [None; 4]);
    let new = std::slice::from_ref(&rig.new);
    assert_eq!(rig.committed_ids(Vec::new()).await, new);
    let of = |topic_id: &Bytes| v1::TopicPartitions {
        topic: "t".to_owned(),
        topic_id: topic_id.clone(),
        partitions: vec![0],
    };
    assert_eq!(rig.committed_ids(vec![of(&rig.old)]).await, Vec::<Bytes>::new());
    assert_eq!(rig.committed_ids(vec![of(&rig.new)]).await, new);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_none_can_be_is_refused_as_such() {
    let rig = Remade::new().await;
    let invalid = Some(ErrorCode::InvalidRequest.number());
    for bad in [
        Bytes::new(),
        Bytes::from_static(&[1; 15]),
        Bytes::from_static(&[1; 17]),
    ] {
        assert_eq!(rig.codes(Some(bad)).await, [invalid; 4]);
    }
    rig.server.shutdown().await;
}
