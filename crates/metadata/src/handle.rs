//! The handle that the rest of the broker holds.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use thiserror::Error;
use tidelog_cluster::command::InitCluster;
use tidelog_cluster::{ClusterImage, Command, MetadataIndex};
use tidelog_types::{BrokerId, ClusterId, DirectoryId};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{MetadataConfig, RaftConfig};
use crate::contact::LastContact;
use crate::elect::EarlyElection;
use crate::forming::{FormError, Formation, Forming};
use crate::network::Network;
use crate::node_id::RaftNodeId;
use crate::peer::PeerPool;
use crate::raft_types::Raft;
use crate::store::{self, DbError};

/// Threads of Raft's own runtime.
const RAFT_THREADS: usize = 2;
/// How long the naming of a new cluster may take before it is tried again.
const NAMING_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest segment of a snapshot on the wire, bytes.
const SNAPSHOT_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Most log entries in one call: with the largest commands they still fit a message.
const MAX_ENTRIES_PER_CALL: u64 = 256;
/// How long a shutdown waits for the last users of the database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the metadata of this broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its database cannot be opened.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The timings contradict each other.
    #[error(
        "raft timings: {0}; the heartbeat must be below the shortest election timeout, and that below the longest"
    )]
    Timings(String),
    /// The runtime or Raft did not come up.
    #[error("raft did not start: {0}")]
    Raft(String),
}

/// Who leads the metadata, as this broker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataLeader {
    pub broker: BrokerId,
    /// In which term of Raft: every leadership has another one.
    pub term: u64,
}

/// This broker's part of the metadata group. Cheap to clone; [`Metadata::shutdown`] ends it for all
/// clones.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    config: MetadataConfig,
    raft: Raft,
    peers: PeerPool,
    images: watch::Receiver<Arc<ClusterImage>>,
    applied: watch::Receiver<MetadataIndex>,
    leader: watch::Receiver<Option<MetadataLeader>>,
    formation: watch::Receiver<Formation>,
    contact: Arc<LastContact>,
    /// Cancelled when the database has closed.
    closed: CancellationToken,
    /// Ends every task of this node.
    stop: CancellationToken,
    runtime: Mutex<Option<Runtime>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        // Blocking until its threads have ended is not allowed on a thread of another runtime.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Metadata {
    /// Opens the metadata folder and starts Raft on a runtime of its own. The node then looks for
    /// its cluster by itself; for that the peer listener must serve [`Metadata::raft_service`]
    /// soon. [`Metadata::formed`] tells how it went.
    pub async fn start(config: MetadataConfig, peers: PeerPool) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RAFT_THREADS)
            .thread_name("tidelog-raft")
            .enable_all()
            .build()
            .map_err(|error| StartError::Raft(error.to_string()))?;
        match runtime.spawn(open(config, peers)).await {
            Ok(Ok(inner)) => {
                *inner.runtime.lock() = Some(runtime);
                Ok(Self {
                    inner: Arc::new(inner),
                })
            }
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(StartError::Raft(error.to_string()))
            }
        }
    }

    /// The image as of the last command that changed it.
    pub fn image(&self) -> Arc<ClusterImage> {
        Arc::clone(&self.inner.images.borrow())
    }

    /// The images as they follow each other. A slow reader misses some, never the last: what
    /// changed is [`ClusterImage::delta_since`] the one it saw before.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.inner.images.clone()
    }

    /// The last log index that this broker has applied.
    pub fn applied_index(&self) -> MetadataIndex {
        *self.inner.applied.borrow()
    }

    /// Waits until this broker has applied a log index; its image then shows what that brought.
    /// `false` if it stopped before.
    pub async fn wait_for_index(&self, index: MetadataIndex) -> bool {
        self.inner
            .applied
            .clone()
            .wait_for(|applied| *applied >= index)
            .await
            .is_ok()
    }

    /// Who leads the metadata, if this broker knows.
    pub fn leader(&self) -> Option<MetadataLeader> {
        *self.inner.leader.borrow()
    }

    /// The leaders as they follow each other.
    pub fn leader_watch(&self) -> watch::Receiver<Option<MetadataLeader>> {
        self.inner.leader.clone()
    }

    /// Whether this broker leads the metadata.
    pub fn is_leader(&self) -> bool {
        self.leader().is_some_and(|leader| leader.broker == self.broker())
    }

    /// How long ago a quorum of the voters answered this broker, while it leads the metadata.
    pub fn since_quorum_ack(&self) -> Option<Duration> {
        let metrics = self.inner.raft.metrics();
        let since = metrics.borrow().millis_since_quorum_ack;
        since.map(Duration::from_millis)
    }

    /// The longest election timeout of this node.
    pub fn election_max(&self) -> Duration {
        Duration::from_millis(self.inner.raft.config().election_timeout_max)
    }

    /// Waits until this node is part of a cluster.
    pub async fn formed(&self) -> Result<(), FormError> {
        let mut formation = self.inner.formation.clone();
        let stopped = || FormError::Stopped("it was shut down".to_owned());
        let last = formation
            .wait_for(|state| !matches!(state, Formation::Waiting(_)))
            .await;
        match last.map_err(|_| stopped())?.clone() {
            Formation::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// How far this node is in finding its cluster.
    pub fn formation(&self) -> Formation {
        self.inner.formation.borrow().clone()
    }

    /// The brokers that vote on the metadata.
    pub fn voters(&self) -> Vec<BrokerId> {
        let metrics = self.inner.raft.metrics();
        metrics
            .borrow()
            .membership_config
            .voter_ids()
            .filter_map(|node| RaftNodeId(node).broker())
            .collect()
    }

    /// The broker that this node belongs to.
    pub fn broker(&self) -> BrokerId {
        self.inner.config.broker
    }

    /// This broker's data directory.
    pub fn directory(&self) -> DirectoryId {
        self.inner.config.directory
    }

    /// This broker's node in the group.
    pub fn node_id(&self) -> RaftNodeId {
        self.inner.config.node_id()
    }

    /// The channels to the other brokers.
    pub fn peers(&self) -> &PeerPool {
        &self.inner.peers
    }

    /// What stopped Raft, if anything did: the broker must stop too.
    pub fn failure(&self) -> Option<String> {
        self.inner
            .raft
            .metrics()
            .borrow()
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string)
    }

    /// Waits until Raft fails or is shut down; the broker must stop then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        match metrics.wait_for(|metrics| metrics.running_state.is_err()).await {
            Ok(metrics) => metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default(),
            Err(_) => "raft is gone".to_owned(),
        }
    }

    /// Stops Raft and closes the database. Nothing that was answered is lost.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in order");
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.inner.closed.cancelled())
            .await
            .is_err()
        {
            tracing::warn!("the metadata database is still in use");
        }
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(crate) fn contact(&self) -> Arc<LastContact> {
        Arc::clone(&self.inner.contact)
    }
}

async fn open(config: MetadataConfig, peers: PeerPool) -> Result<Inner, StartError> {
    let stores = store::open(&config.path, &config.owner()).await?;
    let published = stores.state.published().clone();
    // Before the first call to another broker, so that each carries it.
    if let Some(id) = published.images.borrow().cluster_id {
        peers.set_cluster_id(id);
    }
    let raft_config = raft_config(&config.raft)?;
    let network = Network { peers: peers.clone() };
    let raft = Raft::new(
        config.node_id().0,
        Arc::new(raft_config),
        network,
        stores.log,
        stores.state,
    )
    .await
    .map_err(|error| StartError::Raft(error.to_string()))?;

    let stop = CancellationToken::new();
    let contact = Arc::new(LastContact::new());
    let formation = watch::Sender::new(Formation::Waiting("raft to start".to_owned()));
    let leader = watch::Sender::new(None);
    let inner = Inner {
        images: published.images.subscribe(),
        applied: published.applied.subscribe(),
        leader: leader.subscribe(),
        formation: formation.subscribe(),
        contact: Arc::clone(&contact),
        closed: stores.closed,
        stop: stop.clone(),
        runtime: Mutex::new(None),
        raft: raft.clone(),
        peers: peers.clone(),
        config: config.clone(),
    };
    tokio::spawn(follow_leader(raft.clone(), leader, stop.clone()));
    tokio::spawn(follow_image(
        published.images.subscribe(),
        peers.clone(),
        config.clone(),
        stop.clone(),
    ));
    tokio::spawn(name_cluster(
        raft.clone(),
        published.images.subscribe(),
        stop.clone(),
    ));
    let early = EarlyElection {
        raft: raft.clone(),
        peers: peers.clone(),
        contact,
        timings: config.raft.clone(),
    };
    tokio::spawn(early.run(stop.clone()));
    tokio::spawn(
        Forming {
            config,
            raft,
            peers,
            progress: formation,
        }
        .run(stop),
    );
    Ok(inner)
}

#[allow(deprecated)] // `send_snapshot_timeout` has no default but the deprecated one.
fn raft_config(raft: &RaftConfig) -> Result<Config, StartError> {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let config = Config {
        cluster_name: "tidelog".to_owned(),
        heartbeat_interval: ms(raft.heartbeat),
        election_timeout_min: ms(raft.election_min),
        election_timeout_max: ms(raft.election_max),
        install_snapshot_timeout: ms(raft.snapshot_timeout),
        send_snapshot_timeout: ms(raft.snapshot_timeout),
        snapshot_max_chunk_size: SNAPSHOT_SEGMENT_BYTES,
        max_payload_entries: MAX_ENTRIES_PER_CALL,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(raft.snapshot_after),
        // A follower further behind than this is sent a snapshot, which only helps if there is a
        // newer one.
        replication_lag_threshold: raft.snapshot_after + raft.keep_after_snapshot,
        max_in_snapshot_log_to_keep: raft.keep_after_snapshot,
        ..Config::default()
    };
    config
        .validate()
        .map_err(|error| StartError::Timings(error.to_string()))
}

/// Publishes who leads, from Raft's metrics.
async fn follow_leader(raft: Raft, leader: watch::Sender<Option<MetadataLeader>>, stop: CancellationToken) {
    let mut metrics = raft.metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            let broker = metrics.current_leader.and_then(|node| RaftNodeId(node).broker());
            // A node that was elected but is not known to lead yet has a vote that is not
            // committed.
            broker
                .filter(|_| metrics.vote.is_committed())
                .map(|broker| MetadataLeader {
                    broker,
                    term: metrics.current_term,
                })
        };
        leader.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        tokio::select! {
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells the peer pool what the image says: the cluster's id, and where brokers are that no
/// configuration names.
async fn follow_image(
    mut images: watch::Receiver<Arc<ClusterImage>>,
    peers: PeerPool,
    config: MetadataConfig,
    stop: CancellationToken,
) {
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        if let Some(id) = image.cluster_id {
            peers.set_cluster_id(id);
        }
        for broker in image
            .brokers
            .values()
            .filter(|broker| !config.voters.contains_key(&broker.id))
        {
            peers.set_address(broker.id, &broker.peer_address);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}

/// Gives the cluster its id, if this node leads it while it has none.
async fn name_cluster(raft: Raft, mut images: watch::Receiver<Arc<ClusterImage>>, stop: CancellationToken) {
    let mut metrics = raft.metrics();
    loop {
        if images.borrow_and_update().cluster_id.is_some() {
            return;
        }
        let leads = metrics.borrow_and_update().state == ServerState::Leader;
        if leads {
            let command = Command::InitCluster(InitCluster {
                cluster_id: ClusterId(Uuid::new_v4()),
            });
            let bytes = crate::raft_types::EncodedCommand(crate::codec::command::to_bytes(&command));
            let written = tokio::time::timeout(NAMING_TIMEOUT, raft.client_write(bytes)).await;
            tracing::debug!(named = written.is_ok(), "named the cluster");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}
