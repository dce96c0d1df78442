//! A broker's configuration: one TOML file, over it `TIDELOG__SECTION__KEY` from the environment,
//! over that the flags.
//!
//! - [`raw`]: the keys as they are written, with their defaults
//! - [`Config`]: the same after every check, in domain types
//!
//! An unknown key is an error, and so is a value that the broker would not honour.

mod addresses;
pub mod raw;
mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use tidelog_types::BrokerId;

pub use addresses::{ClientListener, InvalidAddress, Voter, parse_client_listener, parse_voters};
use raw::RawConfig;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}; check --config")]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A key that does not exist, or a value of the wrong kind.
    #[error("configuration: {0}")]
    Malformed(String),
    /// A value that cannot be.
    #[error("configuration: {key}: {problem}")]
    Invalid {
        /// The key, "section.key".
        key: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// Where the values come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if there is one.
    pub file: Option<PathBuf>,
    /// Flags, as (section.key, value); the last of a key wins.
    pub flags: Vec<(String, toml::Value)>,
    /// Whether `TIDELOG__…` in the environment counts.
    pub environment: bool,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// This broker's id.
    pub broker_id: BrokerId,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// How much memory caches, memtables and unwritten data may take together, bytes.
    pub memory_budget_bytes: u64,
    /// How much disk stays free: below it produces are refused; bytes. `None` for 5 % of the disk
    /// or 1 GiB, the smaller.
    pub reserve_bytes: Option<u64>,
    /// The brokers that vote on metadata, with their peer addresses; this broker usually among
    /// them.
    pub voters: Vec<Voter>,
    /// Client listeners; at least one.
    pub client_listeners: Vec<ClientListener>,
    /// Where other brokers connect: bound address, "host:port".
    pub peer_bind: String,
    /// How other brokers name this one's peer listener, "host:port".
    pub peer_advertise: String,
    /// Metrics and health, "host:port".
    pub http_bind: String,
    /// What a new topic gets.
    pub topic_defaults: TopicDefaults,
    /// Timings of replication and sessions.
    pub replication: ReplicationTimes,
    /// Timings of groups.
    pub groups: GroupTimes,
    /// Timings of the metadata log.
    pub raft: RaftTimes,
    /// What is logged: a tracing filter such as "info,tidelog_broker=debug".
    pub log_filter: String,
    /// What the broker says that it is: its release, unless the program that runs it knows more.
    pub version: String,
}

/// What a new topic gets where its creator did not say.
#[derive(Debug, Clone, Copy)]
pub struct TopicDefaults {
    /// Kafka's `num.partitions`.
    pub partitions: u32,
    /// default.replication.factor; never more than there are brokers.
    pub replication_factor: u32,
}

/// Timings of replication and broker sessions.
#[derive(Debug, Clone, Copy)]
pub struct ReplicationTimes {
    /// replica.lag.time.max.ms: a replica that has not caught up for so long leaves the ISR.
    pub lag_time_max: Duration,
    /// Silence after which a broker is fenced, and fences itself.
    pub session: Duration,
    /// How often a broker speaks to the metadata leader.
    pub heartbeat: Duration,
}

/// Timings of consumer groups.
#[derive(Debug, Clone, Copy)]
pub struct GroupTimes {
    /// Silence after which a member is removed.
    pub session: Duration,
    /// How often a member heartbeats.
    pub heartbeat: Duration,
    /// How long an empty group's offsets are kept.
    pub offsets_retention: Duration,
}

/// Timings of the metadata log.
#[derive(Debug, Clone, Copy)]
pub struct RaftTimes {
    /// How often the leader heartbeats.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
}

/// A configuration and where each value came from, for people.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// As TOML, every key with its effective value.
    pub effective: String,
    /// (section.key, value, where it came from), in the order of keys.
    pub origins: Vec<(String, String, String)>,
}

impl Config {
    /// Reads and checks the configuration.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let figment = figment(sources)?;
        let raw: RawConfig = figment
            .extract()
            .map_err(|error| ConfigError::Malformed(describe(&error)))?;
        let config = validate::validate(&raw)?;
        let effective =
            toml::to_string_pretty(&raw).map_err(|error| ConfigError::Malformed(error.to_string()))?;
        Ok(Loaded {
            config,
            effective,
            origins: origins(&figment, &raw)?,
        })
    }

    /// A broker of a cluster on this machine alone, as `tidelog dev` starts it. The first one's
    /// ports for clients, peers and HTTP are `base_port` and the two after it; each further
    /// broker's are 100 above those of the one before.
    pub fn for_dev(index: u32, brokers: u32, base_port: u16, data_dir: &Path) -> Result<Self, ConfigError> {
        let port = |which: u32, index: u32| u32::from(base_port) + which + 100 * index;
        let voters: Vec<String> = (0..brokers)
            .map(|i| format!("{}=127.0.0.1:{}", i + 1, port(1, i)))
            .collect();
        let text = |value: String| toml::Value::String(value);
        let flags = vec![
            ("broker.id".to_owned(), toml::Value::Integer(i64::from(index) + 1)),
            (
                "broker.data_dir".to_owned(),
                text(
                    data_dir
                        .join(format!("broker-{}", index + 1))
                        .display()
                        .to_string(),
                ),
            ),
            ("cluster.voters".to_owned(), text(voters.join(","))),
            (
                "listeners.client".to_owned(),
                text(format!("127.0.0.1:{}", port(0, index))),
            ),
            (
                "listeners.peer.bind".to_owned(),
                text(format!("127.0.0.1:{}", port(1, index))),
            ),
            (
                "listeners.http.bind".to_owned(),
                text(format!("127.0.0.1:{}", port(2, index))),
            ),
        ];
        Ok(Self::load(&Sources {
            flags,
            ..Sources::default()
        })?
        .config)
    }
}

fn figment(sources: &Sources) -> Result<Figment, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(RawConfig::default()));
    if let Some(path) = &sources.file {
        std::fs::metadata(path).map_err(|source| ConfigError::Unreadable {
            path: path.clone(),
            source,
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    if sources.environment {
        figment = figment.merge(Env::prefixed("TIDELOG__").split("__"));
    }
    for (key, value) in &sources.flags {
        figment = figment.merge(Serialized::default(key, value));
    }
    Ok(figment)
}

fn describe(error: &figment::Error) -> String {
    let place = error
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.source.as_ref());
    let key = error.path.join(".");
    let mut text = error.kind.to_string();
    if !key.is_empty() {
        text = format!("{key}: {text}");
    }
    if let Some(place) = place {
        text = format!("{text} (in {place})");
    }
    text
}

fn origins(figment: &Figment, raw: &RawConfig) -> Result<Vec<(String, String, String)>, ConfigError> {
    let value = toml::Value::try_from(raw).map_err(|error| ConfigError::Malformed(error.to_string()))?;
    let mut leaves = Vec::new();
    collect_leaves(&value, String::new(), &mut leaves);
    let place = |key: &str| {
        let metadata = figment.find_metadata(key);
        match metadata.and_then(|metadata| metadata.source.as_ref()) {
            Some(figment::Source::File(path)) => format!("{}", path.display()),
            _ if metadata.is_some_and(|metadata| metadata.name.contains("environment")) => {
                "environment".to_owned()
            }
            _ if metadata.is_some_and(|metadata| metadata.name.contains("RawConfig")) => "default".to_owned(),
            Some(_) => "flag".to_owned(),
            None => "default".to_owned(),
        }
    };
    Ok(leaves
        .into_iter()
        .map(|(key, value)| {
            let from = place(&key);
            (key, value, from)
        })
        .collect())
}

fn collect_leaves(value: &toml::Value, path: String, leaves: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect_leaves(inner, path, leaves);
            }
        }
        leaf => leaves.push((path, leaf.to_string())),
    }
}

#[cfg(test)]
mod tests;
