//! Binding the broker's listeners, and what each serves.

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::image::Listener as Advertised;
use tidelog_metadata::Metadata;
use tidelog_metadata::peer::{CONNECTION_WINDOW_BYTES, KEEP_ALIVE, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES};
use tidelog_proto::FILE_DESCRIPTOR_SET;
use tidelog_proto::v1::admin_server::AdminServer;
use tidelog_proto::v1::groups_server::GroupsServer;
use tidelog_proto::v1::log_server::LogServer;
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server as GrpcServer;
use tonic::transport::server::TcpIncoming;

use super::disk::DiskHandle;
use super::figures::BrokerFigures;
use super::{Addresses, StartError};
use crate::config::{ClientListener, Config, TopicDefaults, Voter};
use crate::controller::Controller;
use crate::group::{Groups, ReplicaLog};
use crate::grpc::Listener;
use crate::grpc::admin::AdminService;
use crate::grpc::groups::GroupsService;
use crate::grpc::leaders::Leaders;
use crate::grpc::log::{LogService, Shared};
use crate::http::{self, Health};
use crate::metrics::Metrics;
use crate::partition::ReplicaManager;
use crate::replication::ReplicationService;

/// Most requests of one connection at a time.
const MAX_STREAMS_PER_CONNECTION: u32 = 4096;
/// How long a client's connection may be silent before it is probed.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Bound listeners, before they serve.
pub(super) struct Bound {
    clients: Vec<(ClientListener, String, TcpListener)>,
    peer: TcpListener,
    peer_address: String,
    http: TcpListener,
    http_address: String,
}

impl Bound {
    /// Binds every listener of a configuration.
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut clients = Vec::with_capacity(config.client_listeners.len());
        for listener in &config.client_listeners {
            let (socket, bound) =
                bind(&format!("client listener {:?}", listener.name), &listener.bind).await?;
            let advertised = listener.advertise.clone().unwrap_or(bound);
            clients.push((listener.clone(), advertised, socket));
        }
        let (peer, peer_address) = bind("peer listener", &config.peer_bind).await?;
        let (http, http_address) = bind("HTTP listener", &config.http_bind).await?;
        Ok(Self {
            clients,
            peer,
            peer_address,
            http,
            http_address,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        let client = |(listener, address, _): &(ClientListener, String, TcpListener)| {
            (listener.name.clone(), address.clone())
        };
        Addresses {
            client: self.clients.iter().map(client).collect(),
            peer: self.peer_address.clone(),
            http: self.http_address.clone(),
        }
    }

    pub(super) fn advertised(&self) -> Vec<Advertised> {
        self.clients
            .iter()
            .map(|(listener, address, _)| Advertised {
                name: listener.name.clone(),
                address: address.clone(),
            })
            .collect()
    }
}

async fn bind(what: &str, address: &str) -> Result<(TcpListener, String), StartError> {
    let failed = |source| StartError::Bind {
        what: what.to_owned(),
        address: address.to_owned(),
        source,
    };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?.to_string();
    Ok((socket, bound))
}

/// What the listeners serve.
pub(super) struct Services {
    pub(super) metadata: Metadata,
    pub(super) controller: Controller,
    pub(super) replicas: Arc<ReplicaManager>,
    pub(super) groups: Groups<ReplicaLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<dyn Health>,
    pub(super) disk: DiskHandle,
    pub(super) defaults: TopicDefaults,
    pub(super) voters: Arc<Vec<Voter>>,
    /// Ends what serves clients.
    pub(super) stop_clients: CancellationToken,
    /// Ends the rest.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Services {
    /// Serves every listener until its token is cancelled.
    pub(super) fn serve(&self, bound: Bound) {
        let shared = Shared::new(
            Arc::clone(&self.replicas),
            self.metadata.clone(),
            Arc::clone(&self.metrics),
            self.stop_clients.clone(),
        );
        let log = |name: &str| LogService::new(Arc::clone(&shared), Listener { name: name.into() });
        let local = self.metadata.broker();
        let leaders = Leaders::new(local, log("peer"), self.metadata.peers().clone());
        self.serve_peers(bound.peer, log("peer"));
        for (listener, address, socket) in bound.clients {
            let name = listener.name.as_str();
            tracing::info!(listener = name, address, "serving clients");
            self.serve_clients(socket, log(name), name, leaders.clone());
        }
        let (health, stop) = (Arc::clone(&self.health), self.stop.clone());
        let figures = Arc::new(self.figures(leaders));
        self.tasks.spawn(async move {
            if let Err(error) = http::serve(bound.http, health, figures, stop).await {
                tracing::error!(%error, "the HTTP listener failed");
            }
        });
    }

    fn figures(&self, leaders: Leaders) -> BrokerFigures {
        BrokerFigures {
            metadata: self.metadata.clone(),
            replicas: Arc::clone(&self.replicas),
            metrics: Arc::clone(&self.metrics),
            disk: self.disk.clone(),
            groups: self.groups.clone(),
            leaders,
            gathered: tokio::sync::Mutex::default(),
        }
    }

    fn serve_peers(&self, socket: TcpListener, log: LogService) {
        let replication = ReplicationService::server(Arc::clone(&self.replicas), self.stop.clone());
        let server = builder(KEEP_ALIVE)
            .add_service(self.metadata.raft_service())
            .add_service(self.metadata.propose_service())
            .add_service(self.controller.service())
            .add_service(tonic::service::interceptor::InterceptedService::new(
                replication,
                self.metadata.peers().check(),
            ))
            .add_service(tonic::service::interceptor::InterceptedService::new(
                log_server(log),
                self.metadata.peers().check(),
            ));
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = server
                .serve_with_incoming_shutdown(incoming(socket), stop.cancelled())
                .await
            {
                tracing::error!(%error, "the peer listener failed");
            }
        });
    }

    fn serve_clients(&self, socket: TcpListener, log: LogService, name: &str, leaders: Leaders) {
        let listener = Listener { name: name.into() };
        let admin = AdminService::new(
            self.metadata.clone(),
            leaders,
            listener.clone(),
            self.defaults,
            Arc::clone(&self.voters),
        );
        let images = self.metadata.clone();
        let groups = GroupsService::new(
            self.groups.clone(),
            Arc::new(move || images.image()),
            listener,
            self.tasks.clone(),
        );
        let (health_reporter, health) = tonic_health::server::health_reporter();
        let mut server = builder(CLIENT_KEEP_ALIVE)
            .add_service(log_server(log))
            .add_service(AdminServer::new(admin))
            .add_service(GroupsServer::new(groups))
            .add_service(health);
        match tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .build_v1()
        {
            Ok(reflection) => server = server.add_service(reflection),
            Err(error) => tracing::warn!(%error, "no gRPC reflection"),
        }
        let (stop, broker) = (self.stop_clients.clone(), Arc::clone(&self.health));
        self.tasks.spawn(async move {
            let serving =
                server.serve_with_incoming_shutdown(incoming(socket), stop.clone().cancelled_owned());
            let reporting = report_health(health_reporter, broker, stop);
            if let (Err(error), ()) = tokio::join!(serving, reporting) {
                tracing::error!(%error, "a client listener failed");
            }
        });
    }
}

/// Keeps gRPC's own health service in step with readiness.
async fn report_health(
    reporter: tonic_health::server::HealthReporter,
    broker: Arc<dyn Health>,
    stop: CancellationToken,
) {
    const INTERVAL: Duration = Duration::from_secs(1);
    let mut ticks = tokio::time::interval(INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let status = if broker.unready_reasons().is_empty() {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
    }
}

fn log_server(log: LogService) -> LogServer<LogService> {
    LogServer::new(log)
        .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES)
}

fn builder(keep_alive: Duration) -> GrpcServer {
    GrpcServer::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(keep_alive))
}

fn incoming(socket: TcpListener) -> TcpIncoming {
    // A produce of one record must not wait for a second one to fill a segment.
    TcpIncoming::from(socket).with_nodelay(Some(true))
}
