//! Addresses as flags and files write them.

use serde::{Deserialize, Serialize};
use tidelog_types::{BrokerId, HostPort, InvalidHostPort};

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    #[error(transparent)]
    HostPort(#[from] InvalidHostPort),
    #[error("{0:?} names no broker: write ID=HOST:PORT, e.g. 1=127.0.0.1:7172")]
    NotVoter(String),
    /// A name that cannot be one.
    #[error("{0:?} is no listener name: use 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")]
    BadName(String),
}

/// A broker that votes on metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub id: BrokerId,
    /// Its peer listener, "host:port".
    pub address: String,
}

/// A named client listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientListener {
    /// Its name; a broker's clients are given the addresses of the listener with the name they came
    /// in by.
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

/// Checks an address to bind, of which port 0 means any.
pub(super) fn check_bind(text: &str) -> Result<u16, InvalidAddress> {
    Ok(HostPort::parse_bind(text)?.port())
}

/// Checks an address that others are told to connect to.
pub(super) fn check_advertised(text: &str) -> Result<(), InvalidAddress> {
    text.parse::<HostPort>()?;
    Ok(())
}

/// Whether an address means every interface of a host, such as 0.0.0.0: good to bind, but nobody
/// can connect to it from elsewhere.
pub(super) fn is_unspecified(host_port: &str) -> bool {
    HostPort::parse_bind(host_port).is_ok_and(|address| address.is_unspecified())
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
    check_bind(bind)?;
    if let Some(advertise) = &advertise {
        check_advertised(advertise)?;
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
    check_advertised(address)?;
    Ok(Voter {
        id,
        address: address.to_owned(),
    })
}
