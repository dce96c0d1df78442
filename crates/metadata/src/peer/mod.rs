//! Connections between brokers.
//!
//! A [`PeerPool`] holds lazy channels to the other brokers and puts this broker's identity on every
//! call: cluster id, from whom, to whom. The server's side of it, [`IdentityCheck`], refuses what
//! is meant for another broker or another cluster, so that a mistaken address or a recycled host
//! never mixes two clusters.

mod identity;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tidelog_cluster::sessions::Dial;
use tidelog_types::{BrokerId, ClusterId};
use tokio::net::TcpStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub(crate) use identity::is_of_other_cluster;
pub use identity::{Identity, IdentityCheck, PeerRequest, is_from_broker};

/// A channel to another broker, with this one's identity on every call.
pub type PeerChannel = InterceptedService<Channel, Identity>;

/// HTTP/2 window of one stream, bytes: several large batches under way. For servers of the peer
/// listener too.
pub const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// HTTP/2 window of one connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame, bytes.
pub const MAX_FRAME_BYTES: u32 = 1024 * 1024;
/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a connection is probed, and how long the answer may take.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Which connection a call takes: bulk data does not hold up votes and heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Raft, sessions, proposals.
    Control,
    /// Replication of records.
    Bulk,
}

/// Why there is no channel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// Nobody said where it is.
    #[error("no address is known for broker {0}; it is neither in the configured cluster nor registered")]
    UnknownBroker(BrokerId),
    /// What was said is no address.
    #[error("broker {broker} has the address {address:?}, which is not HOST:PORT")]
    BadAddress {
        broker: BrokerId,
        /// As it was given.
        address: String,
    },
}

/// The channels of one broker to the others. Cheap to clone; all clones are one pool.
#[derive(Debug, Clone)]
pub struct PeerPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    me: BrokerId,
    cluster_id: Arc<OnceLock<ClusterId>>,
    peers: Mutex<BTreeMap<BrokerId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    address: String,
    channels: BTreeMap<Lane, Channel>,
}

impl PeerPool {
    /// A pool of the broker `me`, which knows the addresses ("host:port") of `peers`.
    pub fn new(me: BrokerId, peers: impl IntoIterator<Item = (BrokerId, String)>) -> Self {
        let peers = peers
            .into_iter()
            .map(|(id, address)| {
                (
                    id,
                    Peer {
                        address,
                        channels: BTreeMap::new(),
                    },
                )
            })
            .collect();
        Self {
            inner: Arc::new(Inner {
                me,
                cluster_id: Arc::new(OnceLock::new()),
                peers: Mutex::new(peers),
            }),
        }
    }

    /// The broker that calls from here.
    pub fn me(&self) -> BrokerId {
        self.inner.me
    }

    /// The cluster that this broker belongs to, once it knows.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.inner.cluster_id.get().copied()
    }

    /// Notes the cluster's id: from now on it is on every call, and calls from another cluster are
    /// refused. The first one stays.
    pub fn set_cluster_id(&self, id: ClusterId) {
        let known = self.inner.cluster_id.get_or_init(|| id);
        if *known != id {
            tracing::error!(%known, other = %id, "this broker belongs to one cluster and was told of another");
        }
    }

    /// Notes where a broker is. Channels to an old address are given up by their next users.
    pub fn set_address(&self, broker: BrokerId, address: &str) {
        let mut peers = self.inner.peers.lock();
        if peers.get(&broker).is_none_or(|peer| peer.address != address) {
            peers.insert(
                broker,
                Peer {
                    address: address.to_owned(),
                    channels: BTreeMap::new(),
                },
            );
        }
    }

    /// Where a broker is, "host:port".
    pub fn address(&self, broker: BrokerId) -> Option<String> {
        self.inner
            .peers
            .lock()
            .get(&broker)
            .map(|peer| peer.address.clone())
    }

    /// A channel to a broker. It connects when it is first used, and again after it broke. Must be
    /// called on a tokio runtime, which then drives the connection.
    pub fn channel(&self, to: BrokerId, lane: Lane) -> Result<PeerChannel, PeerError> {
        let mut peers = self.inner.peers.lock();
        let peer = peers.get_mut(&to).ok_or(PeerError::UnknownBroker(to))?;
        let channel = if let Some(channel) = peer.channels.get(&lane) {
            channel.clone()
        } else {
            let channel = connect(to, &peer.address)?;
            peer.channels.insert(lane, channel.clone());
            channel
        };
        let identity = Identity {
            cluster_id: Arc::clone(&self.inner.cluster_id),
            from: self.inner.me,
            to,
        };
        Ok(InterceptedService::new(channel, identity))
    }

    /// The check of calls that come in, for the services of the peer listener.
    pub fn check(&self) -> IdentityCheck {
        IdentityCheck {
            cluster_id: Arc::clone(&self.inner.cluster_id),
            me: self.inner.me,
        }
    }

    /// Dials a broker's peer listener and hangs up, to learn whether anything listens there.
    pub async fn dial(&self, broker: BrokerId, timeout: Duration) -> Dial {
        let Some(address) = self.address(broker) else {
            return Dial::Unclear;
        };
        match tokio::time::timeout(timeout, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => Dial::Connected,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Dial::Refused,
            Ok(Err(_)) | Err(_) => Dial::Unclear,
        }
    }
}

fn connect(broker: BrokerId, address: &str) -> Result<Channel, PeerError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| PeerError::BadAddress {
        broker,
        address: address.to_owned(),
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .connect_lazy())
}

/// Whether a call failed because nothing listens at the other end: then it was not carried out.
pub fn is_refused(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}
