//! The keys of the configuration file, with their defaults.

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize};

use super::addresses::{ClientListener, parse_client_listener};

/// The whole file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// `[broker]`
    pub broker: Broker,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[listeners]`
    pub listeners: Listeners,
    /// `[defaults]`
    pub defaults: Defaults,
    /// `[replication]`
    pub replication: Replication,
    /// `[groups]`
    pub groups: Groups,
    /// `[raft]`
    pub raft: Raft,
    /// `[log]`
    pub log: Log,
}

/// `[broker]`: this broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    /// At least 1; 0 stands for "not set", which is refused.
    pub id: u32,
    /// Where everything is kept.
    pub data_dir: String,
    /// For caches, memtables and unwritten data together: "512MiB".
    pub memory_budget: ByteSize,
    /// Disk kept free; unset for 5 % or 1 GiB, the smaller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<ByteSize>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            id: 0,
            data_dir: String::new(),
            memory_budget: ByteSize::mib(512),
            reserve: None,
        }
    }
}

/// `[cluster]`: who votes on metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// `["1=host:7172", …]`, or the same as one text with commas.
    #[serde(deserialize_with = "text_or_list")]
    pub voters: Vec<String>,
}

/// `[listeners]`: where the broker listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// `[[listeners.client]]`, or text: `[NAME=]BIND[@ADVERTISED]`, with commas between several.
    #[serde(deserialize_with = "listeners")]
    pub client: Vec<ClientListener>,
    /// `[listeners.peer]`
    pub peer: Peer,
    /// `[listeners.http]`
    pub http: Http,
}

impl Default for Listeners {
    fn default() -> Self {
        let client = ClientListener {
            name: ClientListener::DEFAULT_NAME.to_owned(),
            bind: "127.0.0.1:7171".to_owned(),
            advertise: None,
        };
        Self {
            client: vec![client],
            peer: Peer::default(),
            http: Http::default(),
        }
    }
}

/// `[listeners.peer]`: for other brokers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// "host:port"; port 0 is refused, since other brokers' configurations name it.
    pub bind: String,
    /// What other brokers are told; unset for the address in `cluster.voters`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:7172".to_owned(),
            advertise: None,
        }
    }
}

/// `[listeners.http]`: health and metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// "host:port".
    pub bind: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:7173".to_owned(),
        }
    }
}

/// `[defaults]`: what a new topic gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    pub partitions: u32,
    /// Replicas; or the number of registered brokers, if fewer.
    pub replication_factor: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            partitions: 3,
            replication_factor: 3,
        }
    }
}

/// `[replication]`: timings, milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replication {
    /// Kafka's `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// A broker's session with the metadata leader.
    pub session_ms: u64,
    /// A broker's heartbeat.
    pub heartbeat_ms: u64,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            lag_time_max_ms: 10_000,
            session_ms: 6_000,
            heartbeat_ms: 500,
        }
    }
}

/// `[groups]`: timings, milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Groups {
    /// A member's session.
    pub session_ms: u64,
    /// A member's heartbeat.
    pub heartbeat_ms: u64,
    /// How long an empty group's offsets are kept.
    pub offsets_retention_ms: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            session_ms: 45_000,
            heartbeat_ms: 5_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// `[raft]`: timings of the metadata log, milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    pub heartbeat_ms: u64,
    /// Shortest election timeout.
    pub election_min_ms: u64,
    /// Longest election timeout.
    pub election_max_ms: u64,
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            election_min_ms: 500,
            election_max_ms: 1_000,
        }
    }
}

/// `[log]`: what the broker says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A tracing filter.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,openraft=warn".to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrList<T> {
    Text(String),
    List(Vec<T>),
}

fn text_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match TextOrList::<String>::deserialize(deserializer)? {
        TextOrList::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect(),
        TextOrList::List(list) => list,
    })
}

fn listeners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ClientListener>, D::Error> {
    use serde::de::Error as _;
    match TextOrList::<ClientListener>::deserialize(deserializer)? {
        TextOrList::Text(text) => text
            .split(',')
            .map(|part| parse_client_listener(part.trim()).map_err(D::Error::custom))
            .collect(),
        TextOrList::List(list) => Ok(list),
    }
}
