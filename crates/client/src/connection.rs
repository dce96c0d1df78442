//! One HTTP/2 connection a broker address, made when first used and made anew by itself when it broke.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_types::HostPort;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, ErrorKind, Result};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is pinged this often, and given up when a ping is not answered for as long: a paused broker is noticed
/// within the six seconds after which the cluster fences it.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// HTTP/2 windows, bytes: several fetches of the default size in flight without a stall.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Connections {
    user_agent: String,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Connections {
    pub(crate) fn new(client_id: &str) -> Self {
        Self {
            user_agent: user_agent(client_id),
            channels: Mutex::default(),
        }
    }

    /// The channel to `host:port`. Never waits: connecting happens with the first call over it.
    pub(crate) fn to(&self, address: &str) -> Result<Channel> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.endpoint(address)?.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// An address that is none comes from a broker: what the application gave was checked before. Another broker may know better.
    fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let bad = |error: &dyn std::fmt::Display| {
            let message =
                format!("a broker advertises an address that is none: {error}; correct its configuration");
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
}
