//! Sessions and fencing among brokers in one process, over real loopback connections.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog_cluster::command::CreateTopic;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::{ClusterImage, Command};
use tidelog_metadata::peer::PeerPool;
use tidelog_metadata::{Metadata, MetadataConfig, RaftConfig};
use tidelog_types::{BrokerId, DirectoryId, TopicId, TopicName};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use uuid::Uuid;

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const PROPOSE: Duration = Duration::from_secs(10);

fn id(broker: u32) -> BrokerId {
    BrokerId::new(broker).unwrap()
}

async fn soon<T>(what: &str, condition: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, condition).await else {
        panic!("never: {what}")
    };
    value
}

/// The brokers of a cluster, without what they would store.
struct Cluster {
    voters: BTreeMap<BrokerId, String>,
    timings: ControllerConfig,
    brokers: BTreeMap<BrokerId, Broker>,
}

struct Broker {
    metadata: Metadata,
    controller: Controller,
    registration: Registration,
    /// Serves the peer listener. Ended at once, it takes its connections with it, as a dying
    /// process does.
    server: Option<Runtime>,
    _folder: TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl Cluster {
    async fn start(count: u32, session_timeout: Duration) -> Self {
        let mut listeners = Vec::new();
        let mut voters = BTreeMap::new();
        for broker in 1..=count {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            voters.insert(id(broker), listener.local_addr().unwrap().to_string());
            listeners.push(listener);
        }
        let timings = ControllerConfig {
            session_timeout,
            heartbeat_interval: Duration::from_millis(100),
            balance_interval: Duration::from_millis(200),
        };
        let mut cluster = Self {
            voters,
            timings,
            brokers: BTreeMap::new(),
        };
        for (listener, broker) in listeners.into_iter().zip(1..) {
            cluster.start_broker(broker, listener).await;
        }
        for broker in 1..=count {
            cluster.serves(broker).await;
        }
        cluster
    }

    async fn start_broker(&mut self, broker: u32, listener: std::net::TcpListener) {
        let folder = tempfile::tempdir().unwrap();
        let config = MetadataConfig {
            broker: id(broker),
            directory: DirectoryId(Uuid::new_v4()),
            cluster: None,
            path: folder.path().join("metadata"),
            voters: self.voters.clone(),
            peer_address: self.voters[&id(broker)].clone(),
            raft: RaftConfig::default(),
        };
        let peers = PeerPool::new(id(broker), self.voters.clone());
        let metadata = Metadata::start(config, peers).await.unwrap();
        let controller = Controller::start(metadata.clone(), self.timings);
        let services = tonic::transport::Server::builder()
            .add_service(metadata.raft_service())
            .add_service(metadata.propose_service())
            .add_service(controller.service());
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        server.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            services
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        });
        let registration = Registration::start(
            metadata.clone(),
            RegistrationConfig {
                peer_address: self.voters[&id(broker)].clone(),
                listeners: Vec::new(),
                timings: self.timings,
            },
        );
        let started = Broker {
            metadata,
            controller,
            registration,
            server: Some(server),
            _folder: folder,
        };
        self.brokers.insert(id(broker), started);
    }

    fn broker(&self, broker: u32) -> &Broker {
        &self.brokers[&id(broker)]
    }

    async fn serves(&self, broker: u32) -> BrokerStatus {
        let mut status = self.broker(broker).registration.status();
        let serves = status.wait_for(|status| !status.fenced);
        *soon("a broker serves", serves).await.unwrap()
    }

    async fn fenced(&self, broker: u32) {
        let mut status = self.broker(broker).registration.status();
        soon("a broker fences itself", status.wait_for(|status| status.fenced))
            .await
            .unwrap();
    }

    async fn leader(&self) -> u32 {
        let any = self.brokers.values().next().unwrap();
        let mut leaders = any.metadata.leader_watch();
        let alive = |leader: BrokerId| self.brokers.contains_key(&leader);
        let wait = leaders.wait_for(|leader| leader.is_some_and(|leader| alive(leader.broker)));
        soon("a metadata leader", wait)
            .await
            .unwrap()
            .unwrap()
            .broker
            .get()
    }

    fn others(&self, than: u32) -> Vec<u32> {
        self.brokers
            .keys()
            .map(|id| id.get())
            .filter(|id| *id != than)
            .collect()
    }

    async fn image(
        &self,
        via: u32,
        what: &str,
        condition: impl FnMut(&std::sync::Arc<ClusterImage>) -> bool,
    ) {
        let mut images = self.broker(via).metadata.subscribe();
        soon(what, images.wait_for(condition)).await.unwrap();
    }

    /// As `kill -9` does.
    async fn kill(&mut self, broker: u32) {
        let mut dead = self.brokers.remove(&id(broker)).unwrap();
        dead.server.take().unwrap().shutdown_background();
        dead.registration.stop.cancel();
        dead.controller.shutdown().await;
        dead.metadata.shutdown().await;
    }

    async fn shutdown(mut self) {
        for broker in self.others(0) {
            self.kill(broker).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_register_serve_and_get_the_internal_topic() {
    let cluster = Cluster::start(3, Duration::from_secs(6)).await;
    let offsets = TopicName::consumer_offsets();
    cluster
        .image(2, "the internal topic", |image| {
            image.topic_by_name(&offsets).is_some()
        })
        .await;
    let image = cluster.broker(2).metadata.image();
    let topic = image.topic_by_name(&offsets).unwrap();
    assert_eq!(topic.partitions.len(), 16);
    assert!(
        topic
            .partitions
            .iter()
            .all(|p| p.replicas.len() == 3 && p.min_insync_replicas == 2)
    );
    for broker in 1..=3 {
        assert!(cluster.broker(broker).registration.self_fence().serves());
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_fenced_by_its_refused_connections_and_the_metadata_leader_too() {
    let session = Duration::from_secs(20);
    let mut cluster = Cluster::start(3, session).await;
    let leader = cluster.leader().await;
    let victim = cluster.others(leader)[0];
    let begun = Instant::now();
    cluster.kill(victim).await;
    cluster
        .image(leader, "the dead is fenced", |image| {
            !image.is_unfenced(id(victim))
        })
        .await;
    assert!(begun.elapsed() < session, "not by its silence");
    cluster.shutdown().await;

    let mut cluster = Cluster::start(3, session).await;
    let leader = cluster.leader().await;
    let survivor = cluster.others(leader)[0];
    let begun = Instant::now();
    cluster.kill(leader).await;
    cluster
        .image(survivor, "the dead leader is fenced", |image| {
            !image.is_unfenced(id(leader))
        })
        .await;
    assert!(begun.elapsed() < session, "not by its silence");
    assert!(
        cluster.broker(survivor).registration.self_fence().serves(),
        "the living keep their sessions"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_that_still_listens_is_fenced_by_time() {
    let session = Duration::from_millis(1500);
    let cluster = Cluster::start(3, session).await;
    let leader = cluster.leader().await;
    let silent = cluster.others(leader)[0];
    // What the broker knows of itself, the leader's image knows a moment later.
    cluster
        .image(leader, "the broker serves", |image| image.is_unfenced(id(silent)))
        .await;
    let begun = Instant::now();
    cluster.broker(silent).registration.stop.cancel();
    cluster
        .image(leader, "the silent is fenced", |image| {
            !image.is_unfenced(id(silent))
        })
        .await;
    assert!(
        begun.elapsed() + cluster.timings.heartbeat_interval * 2 >= session,
        "it listens: only time fences it"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_leader_without_a_quorum_fences_itself_though_it_answers_itself() {
    let mut cluster = Cluster::start(3, Duration::from_millis(1500)).await;
    let leader = cluster.leader().await;
    cluster.serves(leader).await;
    for other in cluster.others(leader) {
        cluster.kill(other).await;
    }
    cluster.fenced(leader).await;
    assert!(
        cluster.broker(leader).metadata.is_leader(),
        "it has heard of no other leader"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_nobody_answers_fences_itself() {
    let mut cluster = Cluster::start(3, Duration::from_millis(1500)).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    cluster.kill(leader).await;
    cluster.kill(others[0]).await;
    cluster.fenced(others[1]).await;
    assert!(!cluster.broker(others[1]).registration.self_fence().serves());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_broker_that_was_fenced_registers_anew() {
    let cluster = Cluster::start(3, Duration::from_secs(6)).await;
    let epoch = cluster.serves(2).await.epoch.unwrap();
    let fence = Command::FenceBroker(BrokerIncarnation { broker: id(2), epoch });
    let outcome = cluster.broker(1).metadata.propose(fence, PROPOSE).await.unwrap();
    outcome.result.unwrap();
    let mut status = cluster.broker(2).registration.status();
    let anew = status.wait_for(|status| !status.fenced && status.epoch.is_some_and(|new| new > epoch));
    soon("it serves under a new epoch", anew).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_leaderships_move_away_before_a_broker_leaves() {
    let cluster = Cluster::start(3, Duration::from_secs(6)).await;
    let create = CreateTopic {
        name: "t".parse().unwrap(),
        topic_id: TopicId(Uuid::new_v4()),
        partitions: Some(6),
        replication_factor: Some(3),
        configs: BTreeMap::new(),
        placement_start: 0,
        internal: false,
    };
    let topic_id = create.topic_id;
    let outcome = cluster
        .broker(1)
        .metadata
        .propose(Command::CreateTopic(create), PROPOSE)
        .await
        .unwrap();
    outcome.result.unwrap();
    let leaving = &cluster.broker(2).registration;
    assert_eq!(leaving.drain(PROPOSE).await.unwrap(), 0);
    let image = cluster.broker(2).metadata.image();
    let partitions = &image.topic(topic_id).unwrap().partitions;
    assert!(
        partitions
            .iter()
            .all(|p| p.leader != Some(id(2)) && p.leader.is_some() && !p.isr.contains(&id(2)))
    );
    assert!(leaving.self_fence().serves(), "it serves while it moves away");
    leaving.leave(PROPOSE).await.unwrap();
    assert!(!leaving.self_fence().serves());
    cluster
        .image(1, "it is fenced", |image| !image.is_unfenced(id(2)))
        .await;
    cluster.shutdown().await;
}
