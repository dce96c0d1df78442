//! Addresses as flags and files write them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tidelog_types::BrokerId;

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not host:port.
    #[error("{0:?} is not an address: write host:port, e.g. 127.0.0.1:7171 or [::1]:7171")]
    NotHostPort(String),
    /// Not id=host:port.
    #[error("{0:?} names no broker: write ID=HOST:PORT, e.g. 1=127.0.0.1:7172")]
    NotVoter(String),
    /// A name that cannot be one.
    #[error("{0:?} is no listener name: use 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")]
    BadName(String),
}

/// A broker that votes on metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its id.
    pub id: BrokerId,
    /// Its peer listener, "host:port".
    pub address: String,
}

/// A named client listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientListener {
    /// Its name; a broker's clients are given the addresses of the listener with the name they came in by.
    #[serde(default = "default_name")]
    pub name: String,
    /// Where it binds, "host:port"; port 0 for any.
    pub bind: String,
    /// What clients are told, "host:port"; what was bound if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

impl ClientListener {
    /// The name of a listener that was given none.
    pub const DEFAULT_NAME: &'static str = "default";
}

fn default_name() -> String {
    ClientListener::DEFAULT_NAME.to_owned()
}

/// Checks "host:port", a literal IPv6 host in brackets.
pub(super) fn check_host_port(text: &str) -> Result<u16, InvalidAddress> {
    let wrong = || InvalidAddress::NotHostPort(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    if host.is_empty() || (host.contains(':') && !bracketed) || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    port.parse().map_err(|_| wrong())
}

/// Whether "host:port" means every address of a host, such as 0.0.0.0: good to bind, but nobody can connect to it from elsewhere.
pub(super) fn is_unspecified(host_port: &str) -> bool {
    let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

/// Reads `[NAME=]BIND[@ADVERTISED]`.
pub fn parse_client_listener(text: &str) -> Result<ClientListener, InvalidAddress> {
    let (name, rest) = text
        .split_once('=')
        .unwrap_or((ClientListener::DEFAULT_NAME, text));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !(1..=64).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(InvalidAddress::BadName(name.to_owned()));
    }
    let (bind, advertise) = match rest.split_once('@') {
        Some((bind, advertise)) => (bind, Some(advertise.to_owned())),
        None => (rest, None),
    };
    check_host_port(bind)?;
    if let Some(advertise) = &advertise {
        check_host_port(advertise)?;
    }
    Ok(ClientListener {
        name: name.to_owned(),
        bind: bind.to_owned(),
        advertise,
    })
}

/// Reads `1=host:port` of each voter.
pub fn parse_voters<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Voter>, InvalidAddress> {
    texts.iter().map(|text| parse_voter(text.as_ref())).collect()
}

fn parse_voter(text: &str) -> Result<Voter, InvalidAddress> {
    let wrong = || InvalidAddress::NotVoter(text.to_owned());
    let (id, address) = text.split_once('=').ok_or_else(wrong)?;
    let id = id.trim().parse().ok().and_then(BrokerId::new).ok_or_else(wrong)?;
    check_host_port(address)?;
    Ok(Voter {
        id,
        address: address.to_owned(),
    })
}
