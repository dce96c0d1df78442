//! A whole broker in this process, over loopback.

mod doors;
mod fetches;
mod pages;
mod topic_ids;

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::admin_client::AdminClient;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_proto::v1::log_client::LogClient;
use tidelog_types::ErrorCode;
use tonic::transport::Channel;

use super::*;
use crate::config::Sources;

const PATIENCE: Duration = Duration::from_secs(20);

fn text(key: &str, value: &str) -> (String, toml::Value) {
    (key.to_owned(), toml::Value::String(value.to_owned()))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn config(dir: &Path, peer_port: u16) -> Config {
    let flags = vec![
        ("broker.id".to_owned(), toml::Value::Integer(1)),
        text("broker.data_dir", &dir.display().to_string()),
        text("listeners.client", "127.0.0.1:0"),
        text("listeners.peer.bind", &format!("127.0.0.1:{peer_port}")),
        text("listeners.http.bind", "127.0.0.1:0"),
    ];
    Config::load(&Sources {
        flags,
        ..Sources::default()
    })
    .unwrap()
    .config
}

async fn connect(server: &Server) -> Channel {
    let address = server.addresses().client["default"].clone();
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn create(channel: &Channel, name: &str) -> v1::CreateTopicResponse {
    let created = async {
        loop {
            let request = v1::CreateTopicRequest {
                name: name.to_owned(),
                partitions: 1,
                ..Default::default()
            };
            let answer = AdminClient::new(channel.clone())
                .create_topic(request)
                .await
                .unwrap()
                .into_inner();
            // Until the broker is registered and unfenced there is nobody to hold a replica.
            let code = answer
                .error
                .as_ref()
                .and_then(|error| ErrorCode::from_number(error.code));
            if code.is_none_or(|code| !code.is_retriable() && code != ErrorCode::InvalidReplicationFactor) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, created)
        .await
        .expect("the broker never took a topic")
}

async fn produce(channel: &Channel, value: &str) -> v1::PartitionProduced {
    let record = v1::Record {
        value: Some(value.to_owned().into()),
        ..Default::default()
    };
    let partition = v1::PartitionProduce {
        topic: "t".to_owned(),
        data: Some(v1::partition_produce::Data::Records(v1::PlainRecords {
            records: vec![record],
            producer: None,
        })),
        ..Default::default()
    };
    let request = v1::ProduceRequest {
        partitions: vec![partition],
        ..Default::default()
    };
    LogClient::new(channel.clone())
        .produce(request)
        .await
        .unwrap()
        .into_inner()
        .partitions
        .remove(0)
}

async fn read(channel: &Channel, enough: usize) -> Vec<String> {
    let reading = async {
        loop {
            let partition = v1::PartitionFetch {
                topic: "t".to_owned(),
                ..Default::default()
            };
            let request = v1::FetchRequest {
                plain_records: true,
                partitions: vec![partition],
                ..Default::default()
            };
            let answer = LogClient::new(channel.clone())
                .fetch(request)
                .await
                .unwrap()
                .into_inner();
            let records = &answer.partitions[0].records;
            if records.len() >= enough {
                let value =
                    |record: &v1::Record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
                return records.iter().map(value).collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the records never came")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_an_orderly_stop_and_after_none() {
    let dir = tempfile::tempdir().unwrap();
    let peer_port = free_port();
    let server = Server::start(config(dir.path(), peer_port)).await.unwrap();
    let channel = connect(&server).await;
    assert_eq!(create(&channel, "t").await.error, None);
    let produced = produce(&channel, "one").await;
    assert_eq!((produced.error, produced.base_offset), (None, 0));
    assert_eq!(read(&channel, 1).await, ["one"]);
    drop(channel);
    server.shutdown().await;

    let server = Server::start(config(dir.path(), peer_port)).await.unwrap();
    let channel = connect(&server).await;
    assert_eq!(read(&channel, 1).await, ["one"]);
    let produced = produce(&channel, "two").await;
    assert_eq!((produced.error, produced.base_offset), (None, 1));
    assert_eq!(read(&channel, 2).await, ["one", "two"]);
    let again = create(&channel, "t").await.error.unwrap();
    assert_eq!(again.code, 36, "{}", again.message);
    server.shutdown().await;
}

/// Asks until the group's coordinator serves; a broker that has just started may still be on its
/// way there.
async fn until_coordinated<T, F: Future<Output = (T, Option<v1::Error>)>>(ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            let (answer, error) = ask().await;
            match error {
                None => return answer,
                Some(error) => {
                    let code = ErrorCode::from_number(error.code).unwrap();
                    assert!(code.is_retriable(), "{error:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("the group never had a coordinator")
}

async fn commit(channel: &Channel, offset: u64) {
    let request = v1::CommitRequest {
        group_id: "g".to_owned(),
        offsets: vec![v1::OffsetToCommit {
            topic: "t".to_owned(),
            offset,
            ..Default::default()
        }],
        ..Default::default()
    };
    let committed = until_coordinated(|| async {
        let mut client = GroupsClient::new(channel.clone());
        let answer = client.commit(request.clone()).await.unwrap().into_inner();
        (answer.failures, answer.error)
    });
    assert_eq!(committed.await, []);
}

async fn committed(channel: &Channel) -> u64 {
    let request = v1::OffsetsRequest {
        group_id: "g".to_owned(),
        ..Default::default()
    };
    let offsets = until_coordinated(|| async {
        let mut client = GroupsClient::new(channel.clone());
        let answer = client.offsets(request.clone()).await.unwrap().into_inner();
        (answer.offsets, answer.error)
    });
    offsets.await[0].offset
}

/// Partitions are led again before the broker may serve them: the group's coordinator must come
/// through that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_answers_after_every_restart() {
    let dir = tempfile::tempdir().unwrap();
    let peer_port = free_port();
    let mut server = Server::start(config(dir.path(), peer_port)).await.unwrap();
    let channel = connect(&server).await;
    assert_eq!(create(&channel, "t").await.error, None);
    commit(&channel, 0).await;
    for restart in 1..=6 {
        server.shutdown().await;
        server = Server::start(config(dir.path(), peer_port)).await.unwrap();
        let channel = connect(&server).await;
        assert_eq!(committed(&channel).await, restart - 1);
        commit(&channel, restart).await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_broker_on_the_directory_or_the_port_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let first = config(dir.path(), free_port());
    let taken = first.peer_bind.clone();
    let server = Server::start(first).await.unwrap();

    let Err(error) = Server::start(config(dir.path(), free_port())).await else {
        panic!("two brokers share a directory")
    };
    assert!(
        matches!(error, StartError::Open(OpenError::Locked { .. })),
        "{error}"
    );

    let other = tempfile::tempdir().unwrap();
    let mut on_taken_port = config(other.path(), free_port());
    on_taken_port.peer_bind = taken.clone();
    let Err(error) = Server::start(on_taken_port).await else {
        panic!("two brokers share a port")
    };
    assert!(error.to_string().contains(&taken), "{error}");
    server.shutdown().await;
}
