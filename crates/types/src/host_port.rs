//! Addresses: a host and a port, as people write them in flags and files and as brokers advertise
//! them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// The longest host name, bytes (RFC 1035).
const MAX_HOST_LEN: usize = 253;
/// The longest part of a host name between two dots, bytes.
const MAX_LABEL_LEN: usize = 63;
/// Most characters of what was refused that its error repeats: it may be of any length, an error
/// may not.
const MAX_SHOWN: usize = 300;

/// Where something serves. Parsed from `host:port` it can be connected to: the port is never 0.
///
/// The host is a name, an IPv4 address, or an IPv6 address in brackets. Schemes, paths and users
/// are refused: brokers are named as Kafka names them, not by URLs.
///
/// ```
/// use tidelog_types::HostPort;
///
/// let broker: HostPort = "[::1]:7171".parse()?;
/// assert_eq!((broker.host(), broker.port()), ("::1", 7171));
/// assert!("localhost".parse::<HostPort>().is_err());
/// # Ok::<(), tidelog_types::InvalidHostPort>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    /// A name or an IPv4 address, as it was written.
    Plain(String),
    V6(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidHostPort {
    /// No port, or no host.
    #[error("{0:?} is not an address: write host:port, e.g. 127.0.0.1:7171 or [::1]:7171")]
    NotHostPort(String),
    /// The port is no number that a port can be.
    #[error("{0:?}: the port must be a number from 1 to 65535")]
    BadPort(String),
    /// The host is neither a name nor a literal address.
    #[error("{0:?}: the host is neither a name, nor an IPv4 address, nor an IPv6 address in brackets")]
    BadHost(String),
    /// A URL of another kind.
    #[error("{0:?} is a URL: write host:port without a scheme, e.g. 127.0.0.1:7171")]
    Scheme(String),
    /// A URL that asks for TLS.
    #[error(
        "{0:?}: TLS is not spoken yet; write host:port without a scheme, and connections are in plain text"
    )]
    Tls(String),
}

impl HostPort {
    /// Reads an address to bind: like one to connect to, but port 0 is fine and means any.
    pub fn parse_bind(text: &str) -> Result<Self, InvalidHostPort> {
        let shown = || text.chars().take(MAX_SHOWN).collect::<String>();
        if let Some((scheme, _)) = text.split_once("://") {
            let tls = ["https", "ssl", "tls", "grpcs"]
                .iter()
                .any(|name| scheme.eq_ignore_ascii_case(name));
            return Err(if tls {
                InvalidHostPort::Tls(shown())
            } else {
                InvalidHostPort::Scheme(shown())
            });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once("]:")
                    .ok_or_else(|| InvalidHostPort::NotHostPort(shown()))?;
                let v6: Ipv6Addr = host.parse().map_err(|_| InvalidHostPort::BadHost(shown()))?;
                (Host::V6(v6.to_string()), port)
            }
            None => {
                let (host, port) = text
                    .rsplit_once(':')
                    .filter(|(host, port)| !host.is_empty() && !port.is_empty())
                    .ok_or_else(|| InvalidHostPort::NotHostPort(shown()))?;
                if !is_host(host) {
                    return Err(InvalidHostPort::BadHost(shown()));
                }
                (Host::Plain(host.to_owned()), port)
            }
        };
        // "+80" would parse as a number.
        let is_number = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number);
        let port = port.ok_or_else(|| InvalidHostPort::BadPort(shown()))?;
        Ok(Self { host, port })
    }

    /// The host: a name or a literal address, without brackets.
    pub fn host(&self) -> &str {
        match &self.host {
            Host::Plain(host) | Host::V6(host) => host,
        }
    }

    /// The port, from 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it means every address of a host, such as 0.0.0.0: good to bind, but nobody can
    /// connect to it from elsewhere.
    pub fn is_unspecified(&self) -> bool {
        match &self.host {
            Host::Plain(host) => host.parse::<Ipv4Addr>().is_ok_and(|v4| v4.is_unspecified()),
            Host::V6(host) => host.parse::<Ipv6Addr>().is_ok_and(|v6| v6.is_unspecified()),
        }
    }
}

/// A name of letters, digits, '-' and '_' between dots, or an IPv4 address. What ends in a number
/// can only be the latter (RFC 3696).
fn is_host(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|c| c.is_ascii_digit()) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    host.len() <= MAX_HOST_LEN && name.split('.').all(label)
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let address = Self::parse_bind(text)?;
        if address.port == 0 {
            return Err(InvalidHostPort::BadPort(text.chars().take(MAX_SHOWN).collect()));
        }
        Ok(address)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Plain(host) => write!(f, "{host}:{}", self.port),
            Host::V6(host) => write!(f, "[{host}]:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HostPort, InvalidHostPort> {
        text.parse()
    }

    #[test]
    fn names_and_literal_addresses_are_read_and_written_back() {
        for text in [
            "localhost:7171",
            "broker_1.flights-2.example:1",
            "example.com.:65535",
            "10.0.0.1:7171",
            "[::1]:7171",
            "[fe80::1:2]:80",
            "7.example:80",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        let address = parse("[0:0:0:0:0:0:0:1]:7171").unwrap();
        assert_eq!((address.host(), address.port()), ("::1", 7171));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let not = |text: &str| parse(text).unwrap_err();
        for text in ["", "HOST", "host:", ":7171", "[::1]", "[::1]7171", "["] {
            assert_eq!(not(text), InvalidHostPort::NotHostPort(text.to_owned()));
        }
        for text in [
            "h:0", "h:99999", "h:65536", "h:-1", "h:+80", "h:http", "h:80/", "[::1]:", "[::1]:x",
        ] {
            assert_eq!(not(text), InvalidHostPort::BadPort(text.to_owned()));
        }
        for text in [
            "::1:7171",
            "a b:1",
            "user@host:1",
            "a..b:1",
            ".:1",
            "300.1.1.1:1",
            "1.2.3:1",
            "[nowhere]:1",
            "[10.0.0.1]:1",
            "ho/st:1",
            "höst:1",
        ] {
            assert_eq!(not(text), InvalidHostPort::BadHost(text.to_owned()));
        }
        let long = format!("{}:1", "a.".repeat(200));
        assert!(matches!(not(&long), InvalidHostPort::BadHost(shown) if shown.len() == MAX_SHOWN));
    }

    #[test]
    fn urls_are_refused_and_those_of_tls_say_so() {
        for text in ["http://h:7171", "kafka://h:1", "://"] {
            assert_eq!(parse(text), Err(InvalidHostPort::Scheme(text.to_owned())));
        }
        for text in ["https://h:7171", "HTTPS://h", "ssl://h:1"] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains("TLS is not spoken yet"), "{error}");
        }
    }

    #[test]
    fn any_port_and_every_interface_are_for_binding() {
        assert_eq!(HostPort::parse_bind("0.0.0.0:0").unwrap().port(), 0);
        for everywhere in ["0.0.0.0:1", "[::]:1", "[0::0]:1"] {
            assert!(parse(everywhere).unwrap().is_unspecified(), "{everywhere}");
        }
        assert!(!parse("localhost:1").unwrap().is_unspecified());
        assert!(HostPort::parse_bind("h:99999").is_err());
    }
}
