//! Whole groups in one process, over real loopback connections.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_cluster::command::{CreateTopic, RegisterBroker};
use tidelog_cluster::{Accepted, Command};
use tidelog_types::{BrokerId, DirectoryId, ErrorCode, TopicId};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use uuid::Uuid;

use crate::peer::PeerPool;
use crate::propose::{LocalProposal, MAX_COMMAND_BYTES};
use crate::{DbError, FormError, Metadata, MetadataConfig, RaftConfig, StartError};

mod replacement;

const DEADLINE: Duration = Duration::from_secs(20);
const PROPOSE: Duration = Duration::from_secs(10);

fn id(broker: u32) -> BrokerId {
    BrokerId::new(broker).unwrap()
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

/// Binds an address that the node's predecessor may be about to release.
async fn bind(address: String) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(&address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, bound)
        .await
        .expect("the address is free again")
}

/// Addresses, disks and running nodes of a group.
struct Group {
    addresses: BTreeMap<BrokerId, String>,
    voters: Vec<BrokerId>,
    disks: BTreeMap<BrokerId, Disk>,
    nodes: BTreeMap<BrokerId, Node>,
    raft: RaftConfig,
}

struct Disk {
    folder: TempDir,
    directory: DirectoryId,
}

struct Node {
    metadata: Metadata,
    /// Serves the peer listener. Ended at once, it takes its connections with it, as a dying
    /// process does.
    server: Option<tokio::runtime::Runtime>,
}

impl Disk {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            directory: DirectoryId(Uuid::new_v4()),
        }
    }
}

impl Group {
    async fn new(brokers: u32, voters: u32) -> Self {
        let mut addresses = BTreeMap::new();
        let mut held = Vec::new();
        for broker in 1..=brokers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(id(broker), listener.local_addr().unwrap().to_string());
            held.push(listener);
        }
        drop(held);
        Self {
            addresses,
            voters: (1..=voters).map(id).collect(),
            disks: (1..=brokers).map(|broker| (id(broker), Disk::new())).collect(),
            nodes: BTreeMap::new(),
            raft: RaftConfig {
                snapshot_after: 20,
                keep_after_snapshot: 2,
                ..RaftConfig::default()
            },
        }
    }

    fn config(&self, broker: u32) -> MetadataConfig {
        let broker = id(broker);
        let disk = &self.disks[&broker];
        MetadataConfig {
            broker,
            directory: disk.directory,
            cluster: None,
            path: Path::join(disk.folder.path(), "metadata"),
            voters: self
                .voters
                .iter()
                .map(|id| (*id, self.addresses[id].clone()))
                .collect(),
            peer_address: self.addresses[&broker].clone(),
            raft: self.raft.clone(),
        }
    }

    async fn start(&mut self, broker: u32) {
        let config = self.config(broker);
        self.start_with(config).await;
    }

    async fn start_with(&mut self, config: MetadataConfig) {
        let broker = config.broker;
        let peers = PeerPool::new(broker, config.voters.clone());
        let metadata = Metadata::start(config, peers).await.unwrap();
        let services = tonic::transport::Server::builder()
            .add_service(metadata.raft_service())
            .add_service(metadata.propose_service());
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = self.addresses[&broker].clone();
        let bound = server.spawn(bind(address)).await.unwrap();
        server.spawn(async move { services.serve_with_incoming(TcpListenerStream::new(bound)).await });
        self.nodes.insert(
            broker,
            Node {
                metadata,
                server: Some(server),
            },
        );
    }

    async fn stop(&mut self, broker: u32) {
        let mut node = self.nodes.remove(&id(broker)).unwrap();
        node.server.take().unwrap().shutdown_background();
        node.metadata.shutdown().await;
    }

    fn node(&self, broker: u32) -> &Metadata {
        &self.nodes[&id(broker)].metadata
    }

    async fn leader(&self) -> u32 {
        let any = self.nodes.values().next().unwrap();
        let mut watch = any.metadata.leader_watch();
        let alive = |leader: BrokerId| self.nodes.contains_key(&leader);
        let wait = watch.wait_for(|leader| leader.is_some_and(|leader| alive(leader.broker)));
        let leader = tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("a leader is elected")
            .unwrap();
        leader.unwrap().broker.get()
    }

    fn follower_of(&self, leader: u32) -> u32 {
        self.nodes
            .keys()
            .map(|id| id.get())
            .find(|id| *id != leader)
            .unwrap()
    }

    async fn register(&self, via: u32, broker: u32) -> Accepted {
        let register = RegisterBroker {
            broker: id(broker),
            directory: self.disks[&id(1)].directory,
            peer_address: format!("127.0.0.1:{}", 40_000 + broker),
            listeners: Vec::new(),
            feature_level: 1,
        };
        let outcome = self
            .node(via)
            .propose(Command::RegisterBroker(register), PROPOSE)
            .await
            .unwrap();
        assert!(
            tokio::time::timeout(DEADLINE, self.node(via).wait_for_index(outcome.index))
                .await
                .unwrap()
        );
        outcome.result.unwrap()
    }

    /// Waits until a node's image is that of another.
    async fn agrees(&self, node: u32, with: u32) {
        let index = self.node(with).applied_index();
        let reached = tokio::time::timeout(DEADLINE, self.node(node).wait_for_index(index)).await;
        assert!(reached.expect("a node catches up"));
        assert_eq!(self.node(node).image(), self.node(with).image(), "M26");
    }

    async fn shutdown(mut self) {
        let all: Vec<_> = self.nodes.keys().map(|id| id.get()).collect();
        for broker in all {
            self.stop(broker).await;
        }
    }
}

async fn formed(group: &Group, broker: u32) -> Result<(), FormError> {
    tokio::time::timeout(DEADLINE, group.node(broker).formed())
        .await
        .expect("the cluster forms")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_form_survive_their_leader_and_take_it_back_with_a_snapshot() {
    let mut group = Group::new(3, 3).await;
    group.start(1).await;
    group.start(2).await;
    assert!(
        matches!(group.node(1).formation(), crate::Formation::Waiting(_)),
        "one voter is missing"
    );
    group.start(3).await;
    for broker in 1..=3 {
        formed(&group, broker).await.unwrap();
    }
    let leader = group.leader().await;
    let follower = group.follower_of(leader);
    assert!(matches!(
        group.register(follower, 10).await,
        Accepted::BrokerRegistered { .. }
    ));
    let cluster_id = group
        .node(follower)
        .image()
        .cluster_id
        .expect("a formed cluster has an id");
    group.agrees(leader, follower).await;

    let left_at = group.node(leader).applied_index();
    group.stop(leader).await;
    let next = group.leader().await;
    assert_ne!(next, leader);
    let survivor = group.follower_of(next);
    // More commands than the log keeps: the third can only come back with a snapshot.
    for broker in 11..=70 {
        group.register(survivor, broker).await;
    }
    let mut metrics = group.node(next).raft().metrics();
    let purged = metrics.wait_for(|metrics| metrics.purged.is_some_and(|id| id.index > left_at.0));
    tokio::time::timeout(DEADLINE, purged)
        .await
        .expect("the log is purged behind a snapshot")
        .unwrap();

    group.start(leader).await;
    formed(&group, leader).await.unwrap();
    group.agrees(leader, survivor).await;
    assert_eq!(group.node(leader).image().brokers.len(), 61, "M27");
    assert_eq!(group.node(leader).image().cluster_id, Some(cluster_id));
    let snapshot = group.node(leader).raft().metrics().borrow().snapshot;
    assert!(
        snapshot.is_some_and(|id| id.index > left_at.0),
        "it was sent a snapshot"
    );
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_all_nodes_restart() {
    let mut group = Group::new(3, 3).await;
    for broker in 1..=3 {
        group.start(broker).await;
    }
    group.register(1, 10).await;
    let before = group.node(1).image();
    for broker in 1..=3 {
        group.stop(broker).await;
    }
    for broker in 1..=3 {
        group.start(broker).await;
    }
    group.register(2, 11).await;
    group.agrees(1, 2).await;
    let after = group.node(1).image();
    assert_eq!(
        (after.cluster_id, after.broker(id(10))),
        (before.cluster_id, before.broker(id(10))),
        "M27"
    );
    group.shutdown().await;
}

async fn refusal(config: MetadataConfig) -> DbError {
    let peers = PeerPool::new(config.broker, config.voters.clone());
    match Metadata::start(config, peers).await {
        Err(StartError::Database(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_a_directory_that_lost_its_metadata_alone_never_votes_as_the_node_it_was() {
    let mut group = Group::new(3, 3).await;
    for broker in 1..=3 {
        group.start(broker).await;
    }
    group.register(1, 10).await;
    let leader = group.leader().await;
    let victim = group.follower_of(leader);
    let cluster = group.node(leader).image().cluster_id;
    group.stop(victim).await;
    let part_of_it = MetadataConfig {
        cluster,
        ..group.config(victim)
    };

    // The other half is gone: the record database is a new one, with another directory id.
    let other_half = MetadataConfig {
        directory: DirectoryId(Uuid::new_v4()),
        cluster: None,
        ..part_of_it.clone()
    };
    let error = refusal(other_half).await;
    assert!(matches!(error, DbError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("on an empty one"), "{error}");

    // The database alone, and then the whole folder.
    std::fs::remove_dir_all(part_of_it.path.join("db")).unwrap();
    for _ in 0..2 {
        let error = refusal(part_of_it.clone()).await;
        assert!(matches!(error, DbError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("on an empty one"), "{error}");
    }
    std::fs::remove_dir_all(&part_of_it.path).unwrap();
    for _ in 0..2 {
        let error = refusal(part_of_it.clone()).await;
        assert!(matches!(error, DbError::Lost { .. }), "{error}");
    }
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_no_voter_joins_as_a_learner() {
    let mut group = Group::new(2, 1).await;
    group.start(2).await;
    group.start(1).await;
    formed(&group, 1).await.unwrap();
    formed(&group, 2).await.unwrap();
    group.register(2, 10).await;
    assert_eq!(group.node(2).voters(), [id(1)]);
    group.agrees(1, 2).await;
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_on_a_new_directory_joins_again_and_its_old_node_is_forgotten() {
    let mut group = Group::new(2, 1).await;
    group.start(1).await;
    group.start(2).await;
    formed(&group, 2).await.unwrap();
    group.stop(2).await;
    group.disks.insert(id(2), Disk::new());
    group.start(2).await;
    formed(&group, 2).await.unwrap();
    let expected = [group.node(1).node_id().0, group.node(2).node_id().0];
    let wait = async {
        let mut metrics = group.node(2).raft().metrics();
        metrics
            .wait_for(|metrics| {
                let nodes = metrics.membership_config.nodes();
                nodes.map(|(node, _)| *node).collect::<Vec<_>>() == expected
            })
            .await
            .unwrap();
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .expect("the old node leaves the group");
    group.register(2, 10).await;
    assert_eq!(group.node(2).voters(), [id(1)]);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_too_large_is_refused_before_it_is_in_the_log() {
    let mut group = Group::new(2, 1).await;
    group.start(1).await;
    group.start(2).await;
    formed(&group, 2).await.unwrap();
    group.register(2, 10).await;
    let topic = |bytes: usize| {
        Command::CreateTopic(CreateTopic {
            name: "t".parse().unwrap(),
            topic_id: TopicId(Uuid::new_v4()),
            partitions: Some(1),
            replication_factor: Some(1),
            configs: [("retention.ms".to_owned(), "9".repeat(bytes))].into(),
            placement_start: 0,
            internal: false,
        })
    };
    let last = |broker| group.node(broker).raft().metrics().borrow().last_log_index;
    let before = last(1);
    // By the leader, by a broker that would forward it, and by the leader if it was forwarded.
    for broker in 1..=2 {
        let outcome = group
            .node(broker)
            .propose(topic(MAX_COMMAND_BYTES), PROPOSE)
            .await
            .unwrap();
        let refused = outcome.result.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
        assert!(refused.message.contains("262144"), "{refused:?}");
    }
    let forwarded = group
        .node(1)
        .propose_here(&topic(MAX_COMMAND_BYTES), PROPOSE)
        .await;
    assert!(matches!(forwarded, LocalProposal::Applied(outcome) if outcome.result.is_err()));
    assert_eq!(last(1), before);
    let smaller = group.node(2).propose(topic(1000), PROPOSE).await.unwrap();
    assert!(smaller.result.is_err() && last(1) > before);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_outcome_and_no_leader_is_a_retriable_error() {
    let mut group = Group::new(3, 3).await;
    group.start(1).await;
    let topic = Command::CreateTopic(CreateTopic {
        name: "t".parse().unwrap(),
        topic_id: TopicId(Uuid::new_v4()),
        partitions: Some(1),
        replication_factor: Some(3),
        configs: BTreeMap::new(),
        placement_start: 0,
        internal: false,
    });
    let alone = group
        .node(1)
        .propose(topic.clone(), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(alone.is_retriable(), "{alone}");
    group.start(2).await;
    group.start(3).await;
    for broker in 1..=3 {
        let outcome = group.node(broker).propose(topic.clone(), PROPOSE).await.unwrap();
        assert_eq!(
            outcome.result.unwrap_err().code,
            ErrorCode::InvalidReplicationFactor
        );
    }
    group.shutdown().await;
}
