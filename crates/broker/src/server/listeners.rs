//! Binding the broker's listeners, and what each serves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tidelog_cluster::ids::Listener as Advertised;
use tidelog_metadata::Metadata;
use tidelog_metadata::peer::{
    CONNECTION_WINDOW_BYTES, IdentityCheck, KEEP_ALIVE, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES, is_from_broker,
};
use tidelog_proto::FILE_DESCRIPTOR_SET;
use tidelog_proto::v1::admin_server::AdminServer;
use tidelog_proto::v1::groups_server::GroupsServer;
use tidelog_proto::v1::log_server::LogServer;
use tidelog_types::BrokerId;
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, InterceptorLayer, Routes};
use tonic::transport::Server as GrpcServer;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use super::disk::DiskHandle;
use super::figures::BrokerFigures;
use super::sniff::{Door, Serves, Sniffed, SniffedListener};
use super::{Addresses, StartError};
use crate::config::{ClientListener, Config};
use crate::controller::Controller;
use crate::coordinator::ReplicaLog;
use crate::group::Groups;
use crate::grpc::Listener;
use crate::grpc::about::AboutBroker;
use crate::grpc::admin::{AdminService, AdminSettings};
use crate::grpc::groups::GroupsService;
use crate::grpc::leaders::Leaders;
use crate::grpc::log::{LogService, Shared};
use crate::grpc::meant_for::{MeantForThisCluster, not_for_clients};
use crate::health::Health;
use crate::http;
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

/// What differs between client listeners.
struct ClientServices {
    log: LogService,
    leaders: Leaders,
    listener: Listener,
    check: MeantForThisCluster,
    door: Arc<Door>,
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
    pub(super) about: AboutBroker,
    pub(super) settings: AdminSettings,
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
        let doors = Doors::of(local, &bound);
        self.serve_peers(bound.peer, log("peer"), doors.peer);
        for (listener, address, socket) in bound.clients {
            let name = listener.name.as_str();
            tracing::info!(listener = name, address, "serving clients");
            let services = ClientServices {
                log: log(name),
                leaders: leaders.clone(),
                listener: Listener { name: name.into() },
                check: MeantForThisCluster::new(self.metadata.peers().clone(), local, &address),
                door: Arc::clone(&doors.client),
            };
            self.serve_clients(socket, services);
        }
        let (health, stop) = (Arc::clone(&self.health), self.stop.clone());
        let figures = Arc::new(self.figures(leaders));
        let sentence = doors.http.sentence().to_owned();
        let listener = SniffedListener {
            socket: bound.http,
            door: doors.http,
        };
        self.tasks.spawn(async move {
            if let Err(error) = http::serve(listener, health, figures, sentence, stop).await {
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

    fn serve_peers(&self, socket: TcpListener, log: LogService, door: Arc<Door>) {
        let replication = ReplicationService::server(Arc::clone(&self.replicas), self.stop.clone());
        let check = self.metadata.peers().check();
        let log = PeersOnly {
            check: check.clone(),
            door: Arc::clone(&door),
        }
        .guarding(log_server(log));
        let services = Routes::new(self.metadata.raft_service())
            .add_service(self.metadata.propose_service())
            .add_service(self.controller.service())
            .add_service(InterceptedService::new(replication, check))
            .add_service(log);
        let server = builder(KEEP_ALIVE).add_routes(or_sentence(services, &door, not_for_clients));
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = server
                .serve_with_incoming_shutdown(incoming(socket, door), stop.cancelled())
                .await
            {
                tracing::error!(%error, "the peer listener failed");
            }
        });
    }

    fn serve_clients(&self, socket: TcpListener, services: ClientServices) {
        let ClientServices {
            log,
            leaders,
            listener,
            check,
            door,
        } = services;
        let admin = AdminService::new(
            self.metadata.clone(),
            leaders,
            listener.clone(),
            self.settings.clone(),
            self.about.clone(),
        );
        let images = self.metadata.clone();
        let groups = GroupsService::new(
            self.groups.clone(),
            Arc::new(move || images.image()),
            listener,
            self.tasks.clone(),
        );
        let (health_reporter, health) = tonic_health::server::health_reporter();
        let services = Routes::new(log_server(log))
            .add_service(AdminServer::new(admin))
            .add_service(GroupsServer::new(groups))
            .add_service(health);
        let services = or_sentence(with_reflection(services), &door, Status::unimplemented);
        let server = builder(CLIENT_KEEP_ALIVE)
            .layer(InterceptorLayer::new(check))
            .add_routes(services);
        let (stop, broker) = (self.stop_clients.clone(), Arc::clone(&self.health));
        self.tasks.spawn(async move {
            let serving =
                server.serve_with_incoming_shutdown(incoming(socket, door), stop.clone().cancelled_owned());
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

fn incoming(socket: TcpListener, door: Arc<Door>) -> impl Stream<Item = io::Result<Sniffed>> {
    // A produce of one record must not wait for a second one to fill a segment.
    let connections = TcpIncoming::from(socket).with_nodelay(Some(true));
    connections.map(move |io| io.map(|io| Sniffed::new(io, Arc::clone(&door))))
}

/// What each listener says to who is at the wrong one.
struct Doors {
    client: Arc<Door>,
    peer: Arc<Door>,
    http: Arc<Door>,
}

impl Doors {
    fn of(broker: BrokerId, bound: &Bound) -> Self {
        let client = bound
            .clients
            .first()
            .map_or("none", |(_, address, _)| address.as_str());
        let http = &bound.http_address;
        let others = format!("clients use {client}, and browsers http://{http} (/readyz, /metrics)");
        let sentence = |what: &str| format!("this is {what} of broker {broker}");
        let client = sentence("a client listener");
        let peer = sentence("the peer listener");
        let plain = sentence("the HTTP listener");
        Self {
            client: Door::new(
                Serves::Grpc,
                format!(
                    "{client}, which speaks gRPC (tidelog.v1) in plain text, neither TLS nor Kafka's protocol; {others}"
                ),
            ),
            peer: Door::new(
                Serves::Grpc,
                format!("{peer}, which is for other brokers alone; {others}"),
            ),
            http: Door::new(
                Serves::Http,
                format!(
                    "{plain}, which serves /livez, /readyz, /metrics and /metrics/detail in plain text; {others}"
                ),
            ),
        }
    }
}

/// Reflection in both versions: tools from before 2023 ask for the older one alone.
fn with_reflection(services: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => services.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "no gRPC reflection");
            services
        }
    }
}

/// The services, and for every call of another one the listener's sentence.
fn or_sentence(services: Routes, door: &Arc<Door>, refusal: fn(String) -> Status) -> Routes {
    let door = Arc::clone(door);
    let other = async move |request: axum::extract::Request| {
        let text = format!("there is no {}: {}", request.uri().path(), door.sentence());
        refusal(text).into_http::<axum::body::Body>()
    };
    services.into_axum_router().fallback(other).into()
}

/// Lets brokers call, and tells clients where to go.
#[derive(Clone)]
struct PeersOnly {
    check: IdentityCheck,
    door: Arc<Door>,
}

impl PeersOnly {
    fn guarding<S>(self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self)
    }
}

impl Interceptor for PeersOnly {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if !is_from_broker(&request) {
            return Err(not_for_clients(self.door.sentence()));
        }
        self.check.call(request)
    }
}
