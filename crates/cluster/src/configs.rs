//! Topic configs by Kafka's names: which exist, which are honoured, and what follows where none is
//! set.
//!
//! A config that nothing acts upon yet is refused, never swallowed. One of its values may still be
//! taken: the one that says what happens anyway.

use std::collections::BTreeMap;

use tidelog_types::limits::{DEFAULT_MAX_MESSAGE_BYTES, MAX_MAX_MESSAGE_BYTES};
use tidelog_types::{ErrorCode, PartitionError};

pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
pub const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";
pub const CLEANUP_POLICY: &str = "cleanup.policy";
pub const COMPRESSION_TYPE: &str = "compression.type";
pub const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub const RETENTION_BYTES: &str = "retention.bytes";
pub const RETENTION_MS: &str = "retention.ms";

/// The configs that every topic has, by name.
pub const NAMES: &[&str] = &[
    CLEANUP_POLICY,
    COMPRESSION_TYPE,
    MAX_MESSAGE_BYTES,
    MESSAGE_TIMESTAMP_TYPE,
    MIN_INSYNC_REPLICAS,
    RETENTION_BYTES,
    RETENTION_MS,
    UNCLEAN_LEADER_ELECTION,
];

/// Most configs one topic may set: more than there are names.
const MAX_CONFIGS: usize = 64;

/// A topic's configs: what was set for it, valid by construction, and what follows where nothing
/// was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicConfigs {
    set: BTreeMap<String, String>,
}

/// A config as it is in force for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveConfig {
    pub name: &'static str,
    pub value: String,
    /// Whether nothing was set for the topic.
    pub is_default: bool,
}

impl TopicConfigs {
    /// Checks what a user (or, for an internal topic, the cluster) wants to set.
    pub fn validated(set: BTreeMap<String, String>, internal: bool) -> Result<Self, PartitionError> {
        if set.len() > MAX_CONFIGS {
            return Err(invalid(format!(
                "{} configs are more than there are names; at most {MAX_CONFIGS}",
                set.len()
            )));
        }
        for (key, value) in &set {
            validate(key, value, internal)?;
        }
        Ok(Self { set })
    }

    /// These configs with some set and others back at their defaults.
    ///
    /// A name that is no config is refused here too, unless it is among those that are set: a newer
    /// version may have taken it, and this one lets go of it.
    pub fn altered(&self, set: &BTreeMap<String, String>, remove: &[String]) -> Result<Self, PartitionError> {
        let mut changed = self.set.clone();
        for key in remove {
            if set.contains_key(key) {
                let text = format!("{:?} is to be set and to be removed: say which", quoted(key));
                return Err(PartitionError::new(ErrorCode::InvalidRequest, text));
            }
            if changed.remove(key).is_none() {
                check_name(key)?;
            }
        }
        changed.extend(set.clone());
        Self::validated(changed, false)
    }

    /// Refuses a min.insync.replicas that was set to more than a topic has replicas: no produce
    /// with acks=all could ever be taken as it says.
    pub fn check_replicas(&self, replication_factor: u32) -> Result<(), PartitionError> {
        match self.number(MIN_INSYNC_REPLICAS) {
            Some(minimum) if minimum > replication_factor => Err(invalid(format!(
                "{MIN_INSYNC_REPLICAS} = {minimum} is more than the topic's {replication_factor} replicas: choose 1 to \
                 {replication_factor}, or make a topic with more replicas"
            ))),
            _ => Ok(()),
        }
    }

    /// Configs that were validated before: read back from disk, or from the log of a broker that
    /// knows more of them.
    pub const fn trusted(set: BTreeMap<String, String>) -> Self {
        Self { set }
    }

    /// What was set, by name.
    pub const fn overrides(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    /// Largest batch the topic takes, bytes.
    pub fn max_message_bytes(&self) -> u32 {
        self.number(MAX_MESSAGE_BYTES)
            .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)
    }

    /// How many in-sync replicas an `acks=all` write needs; by default 2 with three or more
    /// replicas, else 1.
    pub fn min_insync_replicas(&self, replication_factor: u32) -> u32 {
        let default = if replication_factor >= 3 { 2 } else { 1 };
        self.number(MIN_INSYNC_REPLICAS).unwrap_or(default)
    }

    /// Whether a replica that may lack acknowledged records may lead rather than nobody.
    pub fn unclean_leader_election(&self) -> bool {
        self.set
            .get(UNCLEAN_LEADER_ELECTION)
            .is_some_and(|value| value == "true")
    }

    /// Every config of a topic with so many replicas, as it is in force, in the order of [`NAMES`].
    pub fn effective(&self, replication_factor: u32) -> Vec<EffectiveConfig> {
        let effective = |name: &&'static str| {
            let set = self.set.get(*name);
            let value = match *name {
                MAX_MESSAGE_BYTES => self.max_message_bytes().to_string(),
                MIN_INSYNC_REPLICAS => self.min_insync_replicas(replication_factor).to_string(),
                UNCLEAN_LEADER_ELECTION => self.unclean_leader_election().to_string(),
                other => set
                    .map(String::as_str)
                    .or(honoured_value(other))
                    .unwrap_or_default()
                    .to_owned(),
            };
            EffectiveConfig {
                name,
                value,
                is_default: set.is_none(),
            }
        };
        NAMES.iter().map(effective).collect()
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.set.get(key)?.parse().ok()
    }
}

fn validate(key: &str, value: &str, internal: bool) -> Result<(), PartitionError> {
    match key {
        MAX_MESSAGE_BYTES => in_range(key, value, 1, MAX_MAX_MESSAGE_BYTES),
        MIN_INSYNC_REPLICAS => in_range(key, value, 1, i16::MAX as u32),
        UNCLEAN_LEADER_ELECTION => one_of(key, value, &["true", "false"]),
        CLEANUP_POLICY if internal => one_of(key, value, &["compact", "delete"]),
        CLEANUP_POLICY => honoured_only(key, value, "compaction of user topics"),
        MESSAGE_TIMESTAMP_TYPE => honoured_only(key, value, "stamping records with the time of append"),
        COMPRESSION_TYPE => honoured_only(key, value, "compression by the broker"),
        RETENTION_MS | RETENTION_BYTES => honoured_only(key, value, "deleting old records"),
        "delete.retention.ms"
        | "min.compaction.lag.ms"
        | "max.compaction.lag.ms"
        | "min.cleanable.dirty.ratio" => Err(not_honoured(key, "compaction of user topics")),
        _ => Err(no_config(key)),
    }
}

fn check_name(key: &str) -> Result<(), PartitionError> {
    if NAMES.contains(&key) {
        Ok(())
    } else {
        Err(no_config(key))
    }
}

fn no_config(key: &str) -> PartitionError {
    match key {
        "partitions" | "num.partitions" => return said_at_creation(key, "number of partitions"),
        "replication.factor" | "default.replication.factor" => {
            return said_at_creation(key, "replication factor");
        }
        _ => {}
    }
    if key.starts_with("segment.") {
        return invalid(format!(
            "{} has no meaning here: partitions are not kept in segment files; leave it out",
            quoted(key)
        ));
    }
    invalid(format!(
        "{:?} is not a topic config of this version; leave it out",
        quoted(key)
    ))
}

fn in_range(key: &str, value: &str, least: u32, most: u32) -> Result<(), PartitionError> {
    let fits = value
        .parse::<u32>()
        .is_ok_and(|number| (least..=most).contains(&number));
    if fits {
        Ok(())
    } else {
        Err(invalid(format!(
            "{key} = {:?} is not a number from {least} to {most}",
            quoted(value)
        )))
    }
}

fn one_of(key: &str, value: &str, allowed: &[&str]) -> Result<(), PartitionError> {
    if allowed.contains(&value) {
        Ok(())
    } else {
        Err(invalid(format!(
            "{key} = {:?} is none of {}",
            quoted(value),
            allowed.join(", ")
        )))
    }
}

/// The one value of a config that nothing acts upon: it says what happens anyway.
fn honoured_value(key: &str) -> Option<&'static str> {
    match key {
        CLEANUP_POLICY => Some("delete"),
        COMPRESSION_TYPE => Some("producer"),
        MESSAGE_TIMESTAMP_TYPE => Some("CreateTime"),
        RETENTION_BYTES | RETENTION_MS => Some("-1"),
        _ => None,
    }
}

fn honoured_only(key: &str, value: &str, what: &str) -> Result<(), PartitionError> {
    let honoured = honoured_value(key).unwrap_or_default();
    if value == honoured {
        Ok(())
    } else {
        Err(invalid(format!(
            "{key} = {:?} is refused: {what} is not honoured yet; leave {key} out, or set it to {honoured}",
            quoted(value)
        )))
    }
}

fn not_honoured(key: &str, what: &str) -> PartitionError {
    invalid(format!(
        "{key} is refused: {what} is not honoured yet; leave it out"
    ))
}

fn said_at_creation(key: &str, what: &str) -> PartitionError {
    invalid(format!(
        "{key} is not a topic config: a topic's {what} is given when it is created, beside its configs, and cannot be changed \
         afterwards; create another topic that has what you need, and move to it"
    ))
}

/// A refused value may be of any length; an error message may not.
fn quoted(value: &str) -> String {
    value.chars().take(100).collect()
}

fn invalid(message: String) -> PartitionError {
    PartitionError::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, value: &str) -> Result<TopicConfigs, PartitionError> {
        TopicConfigs::validated([(key.to_owned(), value.to_owned())].into(), false)
    }

    /// The value of a config of a topic with five replicas.
    fn in_force(configs: &TopicConfigs, name: &str) -> String {
        let all = configs.effective(5).into_iter();
        all.filter(|config| config.name == name)
            .map(|config| config.value)
            .collect()
    }

    #[test]
    fn honoured_configs_are_taken_and_answered() {
        let configs = TopicConfigs::validated(
            [
                (MAX_MESSAGE_BYTES.to_owned(), "2000".to_owned()),
                (MIN_INSYNC_REPLICAS.to_owned(), "3".to_owned()),
                (UNCLEAN_LEADER_ELECTION.to_owned(), "true".to_owned()),
            ]
            .into(),
            false,
        )
        .unwrap();
        assert_eq!(configs.max_message_bytes(), 2000);
        assert_eq!(configs.min_insync_replicas(3), 3);
        assert!(configs.unclean_leader_election());
    }

    #[test]
    fn defaults_are_those_of_the_semantics_page() {
        let configs = TopicConfigs::default();
        assert_eq!(configs.max_message_bytes(), 1_048_588);
        assert_eq!(
            [1, 2, 3, 5].map(|factor| configs.min_insync_replicas(factor)),
            [1, 1, 2, 2]
        );
        assert!(!configs.unclean_leader_election());
        assert_eq!(in_force(&configs, CLEANUP_POLICY), "delete");
    }

    #[test]
    fn what_is_unknown_wrong_or_not_honoured_is_refused_by_name() {
        for (key, value) in [
            ("max.message.bytes", "0"),
            ("max.message.bytes", "16777217"),
            ("min.insync.replicas", "many"),
            ("unclean.leader.election.enable", "yes"),
            ("cleanup.policy", "compact"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("segment.bytes", "1"),
            ("min.compaction.lag.ms", "0"),
            ("no.such.config", "1"),
        ] {
            let refusal = check(key, value).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidConfig);
            assert!(refusal.message.contains(key), "{}", refusal.message);
        }
        for (key, value) in [
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("cleanup.policy", "delete"),
        ] {
            check(key, value).unwrap();
        }
    }

    #[test]
    fn every_name_that_may_be_set_may_be_removed_and_no_other() {
        let nothing = TopicConfigs::default();
        let remove = |configs: &TopicConfigs, key: &str| configs.altered(&BTreeMap::new(), &[key.to_owned()]);
        for key in NAMES {
            remove(&nothing, key).unwrap();
            let known = ["1", "true", "delete", "CreateTime", "producer", "-1"]
                .iter()
                .any(|value| check(key, value).is_ok());
            assert!(known, "{key} is never taken");
        }
        for key in ["nosuch", "segment.bytes", "delete.retention.ms", ""] {
            let refusal = remove(&nothing, key).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidConfig);
            assert!(refusal.message.contains(key), "{refusal}");
        }
        // A newer version took it.
        let newer = TopicConfigs::trusted([("nosuch".to_owned(), "1".to_owned())].into());
        assert_eq!(remove(&newer, "nosuch").unwrap(), nothing);
    }

    #[test]
    fn a_config_is_not_set_and_removed_at_once() {
        let set = [(MAX_MESSAGE_BYTES.to_owned(), "2000".to_owned())].into();
        let refusal = TopicConfigs::default().altered(&set, &[MAX_MESSAGE_BYTES.to_owned()]);
        assert_eq!(refusal.unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[test]
    fn what_is_given_at_creation_is_told_apart_from_configs() {
        for key in ["partitions", "replication.factor"] {
            let refusal = check(key, "12").unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidConfig);
            assert!(
                refusal.message.contains("cannot be changed afterwards"),
                "{}",
                refusal.message
            );
        }
    }

    #[test]
    fn every_config_has_an_effective_value_that_could_be_set() {
        let configs = check(MIN_INSYNC_REPLICAS, "3").unwrap();
        let effective = configs.effective(5);
        assert!(
            effective
                .iter()
                .map(|config| config.name)
                .eq(NAMES.iter().copied())
        );
        for config in &effective {
            check(config.name, &config.value).unwrap();
            assert_eq!(
                config.is_default,
                config.name != MIN_INSYNC_REPLICAS,
                "{config:?}"
            );
        }
        assert_eq!(in_force(&configs, MIN_INSYNC_REPLICAS), "3");
        assert_eq!(in_force(&TopicConfigs::default(), MIN_INSYNC_REPLICAS), "2");
    }

    #[test]
    fn only_an_internal_topic_is_compacted() {
        let compact = || [(CLEANUP_POLICY.to_owned(), "compact".to_owned())].into();
        let configs = TopicConfigs::validated(compact(), true).unwrap();
        assert_eq!(in_force(&configs, CLEANUP_POLICY), "compact");
        TopicConfigs::validated(compact(), false).unwrap_err();
    }
}
