//! From keys to a configuration that holds together.

use std::collections::HashSet;
use std::time::Duration;

use tidelog_types::{BrokerId, limits};

use super::addresses::{check_advertised, check_bind, is_unspecified, parse_voters};
use super::raw::RawConfig;
use super::{
    ClientListener, Config, ConfigError, GroupTimes, RaftTimes, ReplicationTimes, TopicDefaults, Voter,
};

/// The least memory a broker works with, bytes.
const MIN_MEMORY_BUDGET_BYTES: u64 = 32 * 1024 * 1024;
/// Most client listeners of one broker.
const MAX_CLIENT_LISTENERS: usize = 16;
/// Most voters: more make elections slower and nothing safer.
const MAX_VOTERS: usize = 9;

fn invalid(key: &'static str, problem: impl ToString) -> ConfigError {
    ConfigError::Invalid {
        key,
        problem: problem.to_string(),
    }
}

pub(super) fn validate(raw: &RawConfig) -> Result<Config, ConfigError> {
    let broker_id = BrokerId::new(raw.broker.id).ok_or_else(|| {
        invalid(
            "broker.id",
            "0, or not set: give this broker a number of 1 or more (--node-id)",
        )
    })?;
    if raw.broker.data_dir.is_empty() {
        return Err(invalid(
            "broker.data_dir",
            "not set: say where data is kept (--data-dir)",
        ));
    }
    let memory_budget_bytes = raw.broker.memory_budget.as_u64();
    if memory_budget_bytes < MIN_MEMORY_BUDGET_BYTES {
        return Err(invalid("broker.memory_budget", "must be at least 32MiB"));
    }
    let voters = voters(raw, broker_id)?;
    let peer_port =
        check_bind(&raw.listeners.peer.bind).map_err(|error| invalid("listeners.peer.bind", error))?;
    if peer_port == 0 {
        return Err(invalid(
            "listeners.peer.bind",
            "port 0: other brokers' --cluster names this port, so fix one",
        ));
    }
    check_bind(&raw.listeners.http.bind).map_err(|error| invalid("listeners.http.bind", error))?;
    let peer_advertise = match &raw.listeners.peer.advertise {
        Some(address) => {
            check_advertised(address).map_err(|error| invalid("listeners.peer.advertise", error))?;
            address.clone()
        }
        None => voters
            .iter()
            .find(|voter| voter.id == broker_id)
            .map_or_else(|| raw.listeners.peer.bind.clone(), |voter| voter.address.clone()),
    };
    if is_unspecified(&peer_advertise) {
        return Err(invalid(
            "listeners.peer.advertise",
            format!(
                "other brokers would be told to connect to {peer_advertise}; name this host: in cluster.voters, or here \
                 (--peer-listen BIND@ADVERTISED)"
            ),
        ));
    }
    Ok(Config {
        broker_id,
        data_dir: raw.broker.data_dir.clone().into(),
        memory_budget_bytes,
        reserve_bytes: raw.broker.reserve.map(|size| size.as_u64()),
        voters,
        client_listeners: client_listeners(raw)?,
        peer_bind: raw.listeners.peer.bind.clone(),
        peer_advertise,
        http_bind: raw.listeners.http.bind.clone(),
        topic_defaults: topic_defaults(raw)?,
        replication: replication(raw)?,
        groups: groups(raw)?,
        raft: raft(raw)?,
        log_filter: raw.log.filter.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn voters(raw: &RawConfig, broker_id: BrokerId) -> Result<Vec<Voter>, ConfigError> {
    const KEY: &str = "cluster.voters";
    let mut voters = parse_voters(&raw.cluster.voters).map_err(|error| invalid(KEY, error))?;
    if voters.is_empty() {
        // A broker that names nobody is a cluster of one.
        voters.push(Voter {
            id: broker_id,
            address: raw.listeners.peer.bind.clone(),
        });
    }
    if voters.len() > MAX_VOTERS {
        return Err(invalid(
            KEY,
            format!("{} voters, but at most {MAX_VOTERS} may vote", voters.len()),
        ));
    }
    if voters.len() > 1
        && let Some(voter) = voters.iter().find(|voter| is_unspecified(&voter.address))
    {
        let problem = format!("{} is no address to connect to: name the host", voter.address);
        return Err(invalid(KEY, problem));
    }
    let ids: HashSet<_> = voters.iter().map(|voter| voter.id).collect();
    let addresses: HashSet<_> = voters.iter().map(|voter| &voter.address).collect();
    if ids.len() < voters.len() || addresses.len() < voters.len() {
        return Err(invalid(KEY, "an id or an address stands there twice"));
    }
    Ok(voters)
}

fn client_listeners(raw: &RawConfig) -> Result<Vec<ClientListener>, ConfigError> {
    const KEY: &str = "listeners.client";
    let listeners = raw.listeners.client.clone();
    if listeners.is_empty() || listeners.len() > MAX_CLIENT_LISTENERS {
        return Err(invalid(
            KEY,
            format!("between 1 and {MAX_CLIENT_LISTENERS} listeners are needed"),
        ));
    }
    let mut names = HashSet::new();
    for listener in &listeners {
        check_bind(&listener.bind).map_err(|error| invalid(KEY, error))?;
        if let Some(address) = &listener.advertise {
            check_advertised(address).map_err(|error| invalid(KEY, error))?;
        }
        let advertised = listener.advertise.as_ref().unwrap_or(&listener.bind);
        if is_unspecified(advertised) {
            let problem = format!(
                "clients of listener {:?} would be told to connect to {advertised}; add an address that they reach \
                 (advertise, or --listen {}@HOST:PORT)",
                listener.name, listener.bind
            );
            return Err(invalid(KEY, problem));
        }
        if !names.insert(listener.name.as_str()) {
            return Err(invalid(
                KEY,
                format!("two listeners are named {:?}", listener.name),
            ));
        }
    }
    Ok(listeners)
}

fn topic_defaults(raw: &RawConfig) -> Result<TopicDefaults, ConfigError> {
    let partitions = raw.defaults.partitions;
    if !(1..=limits::MAX_PARTITIONS_PER_TOPIC).contains(&partitions) {
        let range = format!("must be between 1 and {}", limits::MAX_PARTITIONS_PER_TOPIC);
        return Err(invalid("defaults.partitions", range));
    }
    let replication_factor = raw.defaults.replication_factor;
    if replication_factor == 0 {
        return Err(invalid("defaults.replication_factor", "must be at least 1"));
    }
    Ok(TopicDefaults {
        partitions,
        replication_factor,
    })
}

fn replication(raw: &RawConfig) -> Result<ReplicationTimes, ConfigError> {
    let times = &raw.replication;
    if times.heartbeat_ms == 0 || times.session_ms < 3 * times.heartbeat_ms {
        let problem = "must be at least three times replication.heartbeat_ms, and that above 0";
        return Err(invalid("replication.session_ms", problem));
    }
    if times.lag_time_max_ms < 1_000 {
        return Err(invalid("replication.lag_time_max_ms", "must be at least 1000"));
    }
    Ok(ReplicationTimes {
        lag_time_max: Duration::from_millis(times.lag_time_max_ms),
        session: Duration::from_millis(times.session_ms),
        heartbeat: Duration::from_millis(times.heartbeat_ms),
    })
}

fn groups(raw: &RawConfig) -> Result<GroupTimes, ConfigError> {
    let times = &raw.groups;
    if times.heartbeat_ms == 0 || times.session_ms < 2 * times.heartbeat_ms {
        let problem = "must be at least twice groups.heartbeat_ms, and that above 0";
        return Err(invalid("groups.session_ms", problem));
    }
    Ok(GroupTimes {
        session: Duration::from_millis(times.session_ms),
        heartbeat: Duration::from_millis(times.heartbeat_ms),
        offsets_retention: Duration::from_millis(times.offsets_retention_ms),
    })
}

fn raft(raw: &RawConfig) -> Result<RaftTimes, ConfigError> {
    let times = &raw.raft;
    if times.heartbeat_ms == 0 || times.election_min_ms < 2 * times.heartbeat_ms {
        return Err(invalid(
            "raft.election_min_ms",
            "must be at least twice raft.heartbeat_ms, and that above 0",
        ));
    }
    if times.election_max_ms <= times.election_min_ms {
        return Err(invalid(
            "raft.election_max_ms",
            "must be above raft.election_min_ms",
        ));
    }
    Ok(RaftTimes {
        heartbeat: Duration::from_millis(times.heartbeat_ms),
        election_min: Duration::from_millis(times.election_min_ms),
        election_max: Duration::from_millis(times.election_max_ms),
    })
}
