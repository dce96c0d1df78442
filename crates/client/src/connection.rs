//! One HTTP/2 connection a broker address, made when first used and made anew by itself when it
//! broke.
//!
//! Every call goes through a [`Channel`]:
//!
//! 1. It notes whether a broker of the cluster answered ([`Reachability`]).
//! 2. Its error names call and address where nobody answered.
//! 3. It tells the broker which cluster the call is meant for, once the client knows. A broker of
//!    another cluster refuses the call.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tidelog_proto::keys;
use tidelog_types::{BrokerId, ClusterId, HostPort};
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::{Service, http};
use tonic::transport::Endpoint;

use crate::error::{Error, ErrorKind, Result};
use crate::reachability::{Notice, Reachability};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is pinged this often, and given up when a ping is not answered for as long:
/// a paused broker is noticed within the six seconds after which the cluster fences it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// HTTP/2 windows, bytes: several fetches of the default size in flight without a stall.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Connections {
    user_agent: String,
    cluster: Arc<OnceLock<ClusterId>>,
    channels: Mutex<HashMap<String, Channel>>,
    reachability: Arc<Mutex<Reachability>>,
}

/// A way to one broker address. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    address: Arc<str>,
    inner: tonic::transport::Channel,
    cluster: Arc<OnceLock<ClusterId>>,
    reachability: Arc<Mutex<Reachability>>,
}

/// A call that no broker answered.
#[derive(Debug)]
pub(crate) struct Unanswered {
    address: Arc<str>,
    /// E.g. `Admin.Metadata`.
    call: String,
    waited: Duration,
    cause: tonic::transport::Error,
}

impl Connections {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            user_agent: user_agent(client_id),
            cluster: Arc::default(),
            channels: Mutex::default(),
            reachability: Arc::default(),
        }
    }

    /// The cluster that calls are meant for: set once, by the first answer that names one.
    pub(crate) fn cluster(&self) -> &Arc<OnceLock<ClusterId>> {
        &self.cluster
    }

    /// The channel to `host:port`. Never waits: connecting happens with the first call over it.
    pub(crate) fn to(&self, address: &str) -> Result<Channel> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = Channel {
            address: address.into(),
            inner: self.endpoint(address)?.connect_lazy(),
            cluster: Arc::clone(&self.cluster),
            reachability: Arc::clone(&self.reachability),
        };
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Takes note of whose addresses these are, for what is told of them.
    pub(crate) fn advertised(&self, brokers: &BTreeMap<BrokerId, String>) {
        let brokers = brokers
            .iter()
            .map(|(broker, address)| (*broker, address.as_str()));
        self.reachability.lock().advertised(brokers);
    }

    /// An address that is none comes from a broker: what the application gave was checked before.
    /// Another broker may know better.
    fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let bad = |error: &dyn fmt::Display| {
            let cause = format!("{error}; correct the broker's configuration");
            let now = Instant::now();
            let notices = self.reachability.lock().failed(&address.into(), &cause, now, now);
            tell(&notices);
            let message = format!("a broker advertises an address that is none: {cause}");
            Error::new(ErrorKind::Unreachable, message)
        };
        let checked: HostPort = address.parse().map_err(|error| bad(&error))?;
        let bad = |error: tonic::transport::Error| bad(&error);
        Ok(Endpoint::from_shared(format!("http://{checked}"))
            .map_err(bad)?
            .user_agent(&self.user_agent)
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
    }
}

impl<B> Service<http::Request<B>> for Channel
where
    tonic::transport::Channel: Service<
            http::Request<B>,
            Response = http::Response<tonic::body::Body>,
            Error = tonic::transport::Error,
        >,
    <tonic::transport::Channel as Service<http::Request<B>>>::Future: Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Unanswered;
    type Future = BoxFuture<'static, Result<Self::Response, Unanswered>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unanswered>> {
        let unanswered = |cause| Unanswered {
            address: Arc::clone(&self.address),
            call: "connecting".to_owned(),
            waited: Duration::ZERO,
            cause,
        };
        self.inner.poll_ready(context).map_err(unanswered)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if let Some(cluster) = self.cluster.get()
            && let Ok(id) = cluster.to_string().parse()
        {
            request.headers_mut().insert(keys::CLUSTER_ID, id);
        }
        let call = call_name(request.uri().path());
        let began = Instant::now();
        let calling = self.inner.call(request);
        let address = Arc::clone(&self.address);
        let reachability = Arc::clone(&self.reachability);
        Box::pin(async move {
            let outcome = calling.await;
            let now = Instant::now();
            match outcome {
                Ok(response) => {
                    let notices = match stranger(&response) {
                        Some(cause) => reachability.lock().failed(&address, &cause, began, now),
                        None => reachability.lock().answered(&address, now),
                    };
                    tell(&notices);
                    Ok(response)
                }
                Err(cause) => {
                    let unanswered = Unanswered {
                        address,
                        call,
                        waited: now - began,
                        cause,
                    };
                    let why = unanswered.why();
                    let notices = reachability.lock().failed(&unanswered.address, &why, began, now);
                    tell(&notices);
                    Err(unanswered)
                }
            }
        })
    }
}

/// What has answered, if it is no broker of the cluster at a listener for clients. Whatever such a
/// broker says, a refusal too, is `None` here.
fn stranger<B>(response: &http::Response<B>) -> Option<String> {
    let headers = response.headers();
    let is_grpc = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        let status = response.status();
        return Some(format!("what answers there is no broker (HTTP status {status})"));
    }
    let is_refusal = headers.contains_key(keys::OTHER_CLUSTER) || headers.contains_key(keys::NOT_FOR_CLIENTS);
    let refusal = Status::from_header_map(headers).filter(|_| is_refusal)?;
    Some(refusal.message().to_owned())
}

impl Unanswered {
    /// "transport error" says less than "Connection refused".
    fn why(&self) -> String {
        let mut cause: &dyn StdError = &self.cause;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if cause.is::<tonic::TimeoutExpired>() {
            return format!("no answer within {:.1} s", self.waited.as_secs_f64());
        }
        cause.to_string()
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.call, self.address, self.why())
    }
}

impl StdError for Unanswered {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}

fn tell(notices: &[Notice]) {
    for notice in notices {
        tracing::warn!("{notice}");
    }
}

/// `/tidelog.v1.Admin/Metadata` is `Admin.Metadata` for people.
fn call_name(path: &str) -> String {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let service = service.rsplit('.').next().unwrap_or(service);
    format!("{service}.{method}")
}

/// A client id may be any text, a header value may not.
fn user_agent(client_id: &str) -> String {
    let id: String = client_id
        .chars()
        .filter(char::is_ascii_graphic)
        .take(128)
        .collect();
    format!("{id} tidelog-client/{}", env!("CARGO_PKG_VERSION"))
        .trim_start()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_shared_and_a_bad_address_is_named() {
        let connections = Connections::new("bill ing\n");
        assert_eq!(connections.user_agent.split(' ').next(), Some("billing"));
        connections.to("localhost:7171").unwrap();
        connections.to("localhost:7171").unwrap();
        assert_eq!(connections.channels.lock().len(), 1);
        let error = connections.to("no such host:1").unwrap_err();
        assert!(
            error.is_retriable() && error.message().contains("\"no such host:1\""),
            "{error}"
        );
        connections.to("[::1]:7171").unwrap();
    }

    #[test]
    fn a_call_is_named_as_the_protocol_names_it() {
        assert_eq!(call_name("/tidelog.v1.Admin/Metadata"), "Admin.Metadata");
        assert_eq!(call_name("nonsense"), "nonsense.");
    }
}
