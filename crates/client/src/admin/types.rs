//! What Admin is given and answers: plain values, to be shown or compared.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{ClusterId, DirectoryId, TopicId, TopicPartition};

/// A topic to create. What is not said is the brokers' default.
///
/// ```
/// use tidelog_client::NewTopic;
///
/// let topic = NewTopic::new("orders").partitions(6).replication_factor(3).config("max.message.bytes", "4194304");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) replication_factor: u32,
    pub(crate) configs: BTreeMap<String, String>,
    pub(crate) validate_only: bool,
    pub(crate) timeout: Option<Duration>,
}

impl NewTopic {
    /// A topic of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: 0,
            replication_factor: 0,
            configs: BTreeMap::new(),
            validate_only: false,
            timeout: None,
        }
    }

    /// With so many partitions, at least one.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// With so many replicas of each partition, at least one.
    #[must_use]
    pub fn replication_factor(mut self, replicas: u32) -> Self {
        self.replication_factor = replicas;
        self
    }

    /// With one config more, by Kafka's name.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// Only to check: everything is looked at, nothing is created.
    #[must_use]
    pub fn validate_only(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }

    /// How long to wait until every partition has a leader that serves; at most thirty seconds,
    /// which is the default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// How a topic's configs shall change; those not named stay as they are.
///
/// ```
/// use tidelog_client::ConfigChange;
///
/// let change = ConfigChange::default().set("min.insync.replicas", "2").remove("max.message.bytes");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigChange {
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) remove: Vec<String>,
    pub(crate) validate_only: bool,
}

impl ConfigChange {
    /// With one config set, by Kafka's name.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(name.into(), value.into());
        self
    }

    /// With one config back at its default.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.remove.push(name.into());
        self
    }

    /// Only to check: everything is looked at, nothing is changed.
    #[must_use]
    pub fn validate_only(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }
}

/// A topic that was created, or could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; `None` if nothing was created.
    pub topic_id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// The name of the topic.
    pub name: String,
    /// The id of the topic.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
    /// Whether it belongs to the cluster itself.
    pub internal: bool,
}

/// The topics of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListings {
    /// The topics, sorted by name.
    pub topics: Vec<TopicListing>,
    /// How the broker that answered stands to its cluster; `None` if it is older than that it
    /// tells.
    pub answered_by: Option<BrokerStanding>,
}

/// A topic in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// The name of the topic.
    pub name: String,
    /// The id of the topic.
    pub topic_id: TopicId,
    /// Whether it belongs to the cluster itself.
    pub internal: bool,
    /// The configs that were set, by Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// Every config as it is in force, by name; empty if the broker is older than that it tells.
    pub effective_configs: Vec<TopicConfig>,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
    /// How the broker that answered stands to its cluster; `None` if it is older than that it
    /// tells.
    pub answered_by: Option<BrokerStanding>,
}

/// A topic's config as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// Kafka's name of it.
    pub name: String,
    /// The value, as text.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// Where a config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// It was set for the topic.
    Topic,
    /// Nothing was set: what brokers do by default.
    Default,
}

/// How a broker stands to its cluster: what it tells may be old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStanding {
    /// The id of that broker.
    pub broker_id: u32,
    /// How long ago it last had contact with the metadata leader; `None` if it never had, or knows
    /// no leader. For the leader itself, contact is that of a majority of the voters.
    pub since_contact: Option<Duration>,
    /// Whether that is too long ago for what it tells to be called the present.
    pub stale: bool,
    /// Why it is not ready to serve; empty if it is.
    pub unready_reasons: Vec<String>,
}

/// A broker, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFigures {
    /// The id of the broker.
    pub broker_id: u32,
    /// Its release, with the revision of its sources where that is known.
    pub version: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// The filesystem that holds its data, bytes.
    pub disk_total_bytes: u64,
    /// What of it is free, bytes.
    pub disk_free_bytes: u64,
    /// How it stands to its cluster.
    pub standing: Option<BrokerStanding>,
}

/// A partition in full. Brokers are named by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The index of the partition, from 0.
    pub partition: u32,
    /// The leader; `None` while there is none.
    pub leader: Option<u32>,
    /// The last leader, while there is none.
    pub last_known_leader: Option<u32>,
    /// Counts the leaderships of this partition.
    pub leader_epoch: u32,
    /// Counts changes of leader, replicas and ISR.
    pub partition_epoch: u32,
    /// The brokers with a replica, the preferred leader first.
    pub replicas: Vec<u32>,
    /// The in-sync replicas.
    pub isr: Vec<u32>,
    /// The eligible leader replicas: out of sync, but with everything that is committed.
    pub elr: Vec<u32>,
    /// Up to where it is readable; `None` if the leader could not be asked.
    pub high_watermark: Option<u64>,
    /// Where it begins; `None` if the leader could not be asked.
    pub log_start: Option<u64>,
    /// The size of its log on the leader, bytes: batches as they are stored, compressed and with
    /// their headers, those that are not committed yet too. Up to 256 KiB too much after the log
    /// start moved. `None` if the leader could not be asked, or is of a version that does not tell
    /// it.
    pub size_bytes: Option<u64>,
}

/// The cluster as one broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id; `None` while it has not formed.
    pub cluster_id: Option<ClusterId>,
    /// The broker that leads the metadata; `None` while none is known.
    pub metadata_leader: Option<u32>,
    /// The term of that leadership.
    pub metadata_term: u64,
    /// The newest metadata entry that the answering broker has.
    pub metadata_index: u64,
    /// The brokers, by id.
    pub brokers: Vec<BrokerDescription>,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated: u32,
    /// Partitions with fewer in-sync replicas than min.insync.replicas.
    pub under_min_isr: u32,
    /// Partitions without a leader.
    pub offline: u32,
    /// How the broker that answered stands to its cluster; `None` if it is older than that it
    /// tells.
    pub answered_by: Option<BrokerStanding>,
    /// Voters that have not registered yet.
    pub missing_voters: Vec<u32>,
}

/// A broker that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// The id of the broker.
    pub broker_id: u32,
    /// Whether the cluster hears of it.
    pub alive: bool,
    /// Where it serves clients of the listener that was asked, `host:port`; empty if it has no such
    /// listener.
    pub address: String,
    /// The id of its data directory; `None` if the broker told none.
    pub directory_id: Option<DirectoryId>,
    /// The epoch of its registration.
    pub broker_epoch: u64,
    /// Whether it votes on metadata.
    pub voter: bool,
    /// How many partitions it leads.
    pub leaders: u32,
    /// Of how many partitions it holds a replica.
    pub replicas: u32,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The id of the group.
    pub group_id: String,
    /// Empty, Assigning, Reconciling or Stable.
    pub state: String,
    /// How many members it has.
    pub members: u32,
}

/// The groups of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListings {
    /// The groups, sorted by id.
    pub groups: Vec<GroupListing>,
    /// How the broker that listed the brokers stands to its cluster; `None` if it is too old to
    /// tell.
    pub answered_by: Option<BrokerStanding>,
}

/// The broker that coordinates a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCoordinator {
    /// The id of the broker.
    pub broker_id: u32,
    /// Where it serves, `host:port`.
    pub address: String,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The id of the group.
    pub group_id: String,
    /// Empty, Assigning, Reconciling or Stable.
    pub state: String,
    /// How partitions are assigned.
    pub assignor: String,
    /// Counts the assignments of the group's partitions.
    pub group_epoch: u32,
    /// The members of the group.
    pub members: Vec<GroupMember>,
    /// Everything it committed.
    pub offsets: Vec<CommittedOffset>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id of the member.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// How far it is with assignments.
    pub member_epoch: u32,
    /// What it owns.
    pub assigned: Vec<TopicPartition>,
    /// What it shall own.
    pub target: Vec<TopicPartition>,
    /// The topics that it subscribed to by name.
    pub topics: Vec<String>,
    /// The topics that it subscribed to by pattern.
    pub topic_regex: Option<String>,
}

/// An offset that a group committed: where it goes on reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The partition that the offset is of.
    pub partition: TopicPartition,
    /// Id of the topic that it was committed for; `None` if the broker is too old to tell.
    pub topic_id: Option<TopicId>,
    /// The offset of the last processed record, plus one.
    pub offset: u64,
    /// Leader epoch of the last processed record, if it was told.
    pub leader_epoch: Option<u32>,
    /// What the committer noted.
    pub metadata: String,
    /// When, by the coordinator's clock; milliseconds since 1970.
    pub committed_ms: i64,
}
