//! A broker as a value: [`Server::start`] puts the parts together, [`Server::shutdown`] takes them
//! apart in order.
//!
//! Start-up:
//!
//! 1. The data directory is opened and locked, every listener bound: what cannot be is an error
//!    before anything runs.
//! 2. Raft, the metadata leader's duties and the replicas are started, and the peer listener serves
//!    them.
//! 3. Client and HTTP listeners open. Until the broker is registered they say so.
//! 4. In the background: the cluster forms or is found, the directory becomes part of it, the
//!    broker registers, and its replicas follow the metadata.
//!
//! There are no globals and no `process::exit`: several brokers may live in one process.
//!
//! - `listeners`: binding and serving; `sniff`: who is at the wrong one
//! - `hooks`: what the replicas ask the rest of the broker for
//! - `follow`: what runs in the background
//! - `health`, `figures`: what the HTTP listener tells

mod addresses;
mod disk;
mod figures;
mod follow;
mod health;
mod hooks;
mod listeners;
mod sniff;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tidelog_group::{GroupConfig, Topics};
use tidelog_log::StoreError;
use tidelog_metadata::peer::{Lane, PeerPool};
use tidelog_metadata::{Metadata, MetadataConfig, RaftConfig};
use tidelog_replica::Settings;
use tidelog_storage::{OpenError, RocksOptions, RocksStore, create_dir_durably};
use tidelog_types::{DirectoryId, TopicName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use uuid::Uuid;

pub use addresses::Addresses;

use crate::config::Config;
use crate::controller::{Controller, ControllerConfig, Registration, RegistrationConfig};
use crate::coordinator::ReplicaLog;
use crate::group::{Groups, topics_of};
use crate::grpc::about::{AboutBroker, DiskSpace};
use crate::grpc::admin::AdminSettings;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::partition::{Limits, ReplicaManager, StoreEvents};
use crate::replication::Links;
use disk::{DiskHandle, DiskWatch};
use health::BrokerHealth;
use hooks::{Fatal, GroupsSlot};
use listeners::{Bound, Services};

/// How long moving leaderships away may take when a broker stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long each further step of an orderly stop may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often readiness is looked at by who waits for it.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// How long streams may take to end by themselves.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("cannot make the data directory {path}: {source}; check --data-dir and its permissions")]
    DataDir { path: PathBuf, source: std::io::Error },
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its replicas cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be bound.
    #[error(
        "cannot listen on {address} ({what}): {source}; is another broker running, or the address of another host?"
    )]
    Bind {
        what: String,
        address: String,
        source: std::io::Error,
    },
    /// Raft did not start.
    #[error(transparent)]
    Metadata(#[from] tidelog_metadata::StartError),
    /// A thread of this process broke.
    #[error("starting: {0}")]
    Internal(String),
}

/// A running broker. Dropped without [`Server::shutdown`] it stops as if killed: nothing
/// acknowledged is lost.
pub struct Server {
    addresses: Addresses,
    store: Arc<RocksStore>,
    metadata: Metadata,
    controller: Controller,
    replicas: Arc<ReplicaManager>,
    links: Arc<Links>,
    registration: Arc<OnceLock<Registration>>,
    groups: GroupsSlot,
    health: Arc<dyn Health>,
    failure: watch::Receiver<Option<String>>,
    tasks: TaskTracker,
    /// Ends what serves clients.
    stop_clients: CancellationToken,
    /// Ends everything else; the parent of every other token.
    stop: CancellationToken,
}

impl Server {
    /// Starts a broker on the current tokio runtime.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Opened { bound, store, events } = Opened::open(&config).await?;
        let addresses = bound.addresses();
        let stop = CancellationToken::new();
        let stop_clients = stop.child_token();
        let tasks = TaskTracker::new();
        let metadata = match start_metadata(&config, &store).await {
            Ok(metadata) => metadata,
            Err(error) => {
                close_store(store).await;
                return Err(error);
            }
        };
        let controller = Controller::start(metadata.clone(), controller_config(&config));
        let (fatal, failure) = Fatal::new();
        let disk = watch_disk(&config, &store).await;
        let registration = Arc::new(OnceLock::<Registration>::new());
        let groups = GroupsSlot::default();
        let hooks = hooks::hooks(
            &metadata,
            &fatal,
            disk.handle(),
            Arc::clone(&registration),
            Arc::clone(&groups),
        );
        let replicas = match load_replicas(&config, &store, events, hooks).await {
            Ok(replicas) => replicas,
            Err(error) => {
                controller.shutdown().await;
                metadata.shutdown().await;
                close_store(store).await;
                return Err(error);
            }
        };

        let (topics, group_service) =
            start_groups(&config, &metadata, &replicas, &tasks, stop_clients.clone());
        *groups.write() = Some(group_service.clone());
        let links = start_links(&metadata, &replicas, stop.child_token());

        let metrics = Arc::new(Metrics::new());
        let health: Arc<dyn Health> = Arc::new(BrokerHealth::new(
            metadata.clone(),
            Arc::clone(&replicas),
            Arc::clone(&registration),
        ));
        let services = Services {
            metadata: metadata.clone(),
            controller: controller.clone(),
            replicas: Arc::clone(&replicas),
            groups: group_service,
            metrics,
            health: Arc::clone(&health),
            disk: disk.handle(),
            about: about(&config, Arc::clone(&health), disk.handle()),
            settings: AdminSettings {
                defaults: config.topic_defaults,
                voters: Arc::new(config.voters.clone()),
            },
            stop_clients: stop_clients.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let bring_up = follow::BringUp {
            metadata: metadata.clone(),
            store: Arc::clone(&store),
            replicas: Arc::clone(&replicas),
            registration: Arc::clone(&registration),
            registration_config: registration_config(&config, &bound),
            topics,
            fatal,
            stopping: stop_clients.clone(),
        };
        services.serve(bound);
        follow::start(&tasks, bring_up, disk, stop.clone());
        tracing::info!(broker = %config.broker_id, data = %config.data_dir.display(), "broker started");
        Ok(Self {
            addresses,
            store,
            metadata,
            controller,
            replicas,
            links,
            registration,
            groups,
            health,
            failure,
            tasks,
            stop_clients,
            stop,
        })
    }

    /// What was bound.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the broker is part of its cluster and serves, as `/readyz` says.
    pub async fn ready(&self) {
        let mut looks = tokio::time::interval(READY_INTERVAL);
        while !self.health.unready_reasons().is_empty() {
            looks.tick().await;
        }
    }

    /// Waits until the broker must stop, and says why. Never answers while it is healthy.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        let reason = failure.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_else(|| "the broker's tasks ended".to_owned())
    }

    /// Stops in order (R11): hands leaderships over, ends clients' streams, leaves the cluster,
    /// marks the directory clean.
    pub async fn shutdown(self) {
        let registration = self.registration.get();
        if let Some(registration) = registration
            && let Err(error) = registration.drain(DRAIN_TIMEOUT).await
        {
            tracing::warn!(%error, "leaderships were not handed over");
        }
        self.stop_clients.cancel();
        if let Some(registration) = registration
            && let Err(error) = registration.leave(STEP_TIMEOUT).await
        {
            tracing::warn!(%error, "the cluster was not told; it will notice");
        }
        self.stop_together().await;
    }

    /// Stops in order, and tells nobody: for brokers of one process that all stop together, so that
    /// none is left to take over.
    pub async fn stop_together(self) {
        self.stop_clients.cancel();
        self.replicas.fence();
        self.replicas.checkpoint();
        self.close().await;
    }

    /// Stops at once, after [`failed`](Self::failed): serves nothing more, hands nothing over, and
    /// closes the databases. A process that ended while one of them still closes on a thread of its
    /// own would be ended by RocksDB's statics going first.
    pub async fn abandon(self) {
        self.stop_clients.cancel();
        self.replicas.fence();
        self.close().await;
    }

    /// Ends everything that runs, and closes the databases.
    async fn close(&self) {
        self.controller.shutdown().await;
        self.metadata.shutdown().await;
        self.stop.cancel();
        self.tasks.close();
        let settled = async {
            self.tasks.wait().await;
            self.links.drained().await;
            self.replicas.drained().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, settled).await.is_err() {
            tracing::debug!("some streams did not end by themselves");
        }
        close_store(Arc::clone(&self.store)).await;
        tracing::info!("broker stopped");
    }
}

/// Closes the record database, and waits for that.
async fn close_store(store: Arc<RocksStore>) {
    match tokio::task::spawn_blocking(move || store.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the store did not close in order"),
        Err(error) => tracing::error!(%error, "the store did not close in order"),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        *self.groups.write() = None;
        self.replicas.release();
    }
}

/// What a broker holds before anything of it runs: what cannot be held is an error.
struct Opened {
    bound: Bound,
    store: Arc<RocksStore>,
    events: Arc<StoreEvents>,
}

impl Opened {
    async fn open(config: &Config) -> Result<Self, StartError> {
        make_dir(&config.data_dir)?;
        // The votes, and what the metadata log was purged for, must not be lost with the names of
        // their folders.
        for folder in ["metadata", "metadata/db", "metadata/snapshots"] {
            make_dir(&config.data_dir.join(folder))?;
        }
        let bound = Bound::bind(config).await?;
        let events = StoreEvents::new();
        let store = open_store(config, Arc::clone(&events)).await?;
        let written = bound.addresses().write(&config.data_dir);
        written.map_err(|source| StartError::DataDir {
            path: config.data_dir.clone(),
            source,
        })?;
        Ok(Self { bound, store, events })
    }
}

fn make_dir(path: &Path) -> Result<(), StartError> {
    create_dir_durably(path).map_err(|source| StartError::DataDir {
        path: path.to_owned(),
        source,
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StartError::Internal(error.to_string()))
}

async fn open_store(config: &Config, events: Arc<StoreEvents>) -> Result<Arc<RocksStore>, StartError> {
    let mut options = RocksOptions::new(config.broker_id, None, DirectoryId(Uuid::new_v4()));
    options.memory_budget = config.memory_budget_bytes as usize;
    let dir = config.data_dir.clone();
    Ok(blocking(move || RocksStore::open(&dir, options, events)).await??)
}

async fn start_metadata(config: &Config, store: &RocksStore) -> Result<Metadata, StartError> {
    let voters = || {
        config
            .voters
            .iter()
            .map(|voter| (voter.id, voter.address.clone()))
    };
    let directory = store.directory();
    let metadata = MetadataConfig {
        broker: config.broker_id,
        directory: directory.directory,
        cluster: directory.cluster,
        path: config.data_dir.join("metadata"),
        voters: voters().collect(),
        peer_address: config.peer_advertise.clone(),
        raft: RaftConfig {
            heartbeat: config.raft.heartbeat,
            election_min: config.raft.election_min,
            election_max: config.raft.election_max,
            ..RaftConfig::default()
        },
    };
    let peers = PeerPool::new(config.broker_id, voters());
    Ok(Metadata::start(metadata, peers).await?)
}

fn registration_config(config: &Config, bound: &Bound) -> RegistrationConfig {
    RegistrationConfig {
        peer_address: config.peer_advertise.clone(),
        listeners: bound.advertised(),
        timings: controller_config(config),
    }
}

/// The coordinators, and where they are told of topics.
fn start_groups(
    config: &Config,
    metadata: &Metadata,
    replicas: &Arc<ReplicaManager>,
    tasks: &TaskTracker,
    stop_clients: CancellationToken,
) -> (watch::Sender<Arc<Topics>>, Groups<ReplicaLog>) {
    let (topics, topics_view) = watch::channel(Arc::new(topics_of(&metadata.image())));
    let images = metadata.clone();
    let log = ReplicaLog::new(
        Arc::clone(replicas),
        Arc::new(move || images.image()),
        TopicName::consumer_offsets(),
    );
    let config = group_config(config);
    let groups = Groups::new(Arc::new(log), config, topics_view, tasks.clone(), stop_clients);
    (topics, groups)
}

fn start_links(metadata: &Metadata, replicas: &Arc<ReplicaManager>, stop: CancellationToken) -> Arc<Links> {
    let peers = metadata.peers().clone();
    let connect = move |broker| {
        let channel = peers.channel(broker, Lane::Bulk);
        channel.map_err(|error| Status::unavailable(error.to_string()))
    };
    Links::start(replicas, Arc::new(connect), stop)
}

async fn watch_disk(config: &Config, store: &Arc<RocksStore>) -> DiskWatch {
    let probed = Arc::clone(store);
    DiskWatch::new(move || probed.space(), config.reserve_bytes).await
}

fn about(config: &Config, health: Arc<dyn Health>, disk: DiskHandle) -> AboutBroker {
    AboutBroker {
        broker: config.broker_id,
        version: config.version.as_str().into(),
        started: Instant::now(),
        heartbeat_interval: config.replication.heartbeat,
        health,
        disk: Arc::new(move || DiskSpace {
            total_bytes: disk.total_bytes(),
            free_bytes: disk.free_bytes(),
        }),
    }
}

fn controller_config(config: &Config) -> ControllerConfig {
    ControllerConfig {
        session_timeout: config.replication.session,
        heartbeat_interval: config.replication.heartbeat,
        ..ControllerConfig::default()
    }
}

fn group_config(config: &Config) -> GroupConfig {
    GroupConfig {
        heartbeat_interval: config.groups.heartbeat,
        session_timeout: config.groups.session,
        offsets_retention: config.groups.offsets_retention,
        ..GroupConfig::default()
    }
}

async fn load_replicas(
    config: &Config,
    store: &Arc<RocksStore>,
    events: Arc<StoreEvents>,
    hooks: crate::partition::Hooks,
) -> Result<Arc<ReplicaManager>, StartError> {
    let settings = Settings {
        lag_time_max: config.replication.lag_time_max,
        ..Settings::default()
    };
    let (local, store) = (config.broker_id, Arc::clone(store));
    let loaded =
        blocking(move || ReplicaManager::new(local, store, events, hooks, Limits::default(), settings))
            .await?;
    Ok(loaded?)
}

#[cfg(test)]
mod tests;
