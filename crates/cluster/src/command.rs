//! What the metadata log carries.

use std::collections::BTreeMap;

use tidelog_types::{
    BrokerId, ClusterId, DirectoryId, LeaderEpoch, PartitionEpoch, TopicId, TopicIdPartition, TopicName,
};

use crate::ids::{BrokerIncarnation, Listener};

/// A proposed change of cluster metadata, validated when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Gives a new cluster its id. Answered with the id that it has, if it has one.
    InitCluster(InitCluster),
    /// A broker came up, or lost its session: it gets a new epoch and begins fenced.
    RegisterBroker(RegisterBroker),
    /// A broker is dead or silent: it leads nothing and is in no ISR from here on.
    FenceBroker(BrokerIncarnation),
    /// A registered broker has caught up with the metadata and serves from here on.
    UnfenceBroker(BrokerIncarnation),
    /// A broker is about to stop: its leaderships and ISR memberships move away wherever another
    /// replica can take over (R11).
    DrainBroker(BrokerIncarnation),
    /// Makes a topic.
    CreateTopic(CreateTopic),
    /// Removes a topic and its records.
    DeleteTopic(DeleteTopic),
    /// Changes a topic's configs, with everything that follows from them.
    AlterTopicConfigs(AlterTopicConfigs),
    /// A leader changes the ISR of its partition (R7, KIP-497, KIP-903).
    AlterPartition(AlterPartition),
    /// Reserves a block of producer ids for a broker to hand out.
    AllocateProducerIds(BrokerIncarnation),
    /// Moves leaderships back to the preferred leaders (the first of `replicas`) where those are in
    /// sync and alive.
    ElectPreferredLeaders,
}

/// See [`Command::InitCluster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitCluster {
    /// Drawn by the proposer.
    pub cluster_id: ClusterId,
}

/// See [`Command::RegisterBroker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBroker {
    pub broker: BrokerId,
    /// Its data directory. If it differs from the one registered before, the broker leaves every
    /// ISR and ELR: what it held is gone.
    pub directory: DirectoryId,
    /// Where other brokers reach it, "host:port".
    pub peer_address: String,
    /// Where clients reach it, by listener.
    pub listeners: Vec<Listener>,
    /// The newest protocol and storage features the broker speaks.
    pub feature_level: u32,
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    pub name: TopicName,
    /// Drawn by the proposer.
    pub topic_id: TopicId,
    /// How many partitions; `None` for the cluster's default.
    pub partitions: Option<u32>,
    /// How many replicas each has; `None` for the default: 3, or the number of brokers if that is
    /// less.
    pub replication_factor: Option<u32>,
    /// Kafka's topic configs, as the user gave them.
    pub configs: BTreeMap<String, String>,
    /// Where placement starts among the brokers: any number, drawn by the proposer, so that topics
    /// spread.
    pub placement_start: u64,
    /// Whether the cluster itself asks: only then may, and must, the name be an internal one.
    pub internal: bool,
}

/// See [`Command::DeleteTopic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteTopic {
    /// By id, so that a retried deletion cannot hit the topic's successor.
    pub topic_id: TopicId,
}

/// See [`Command::AlterTopicConfigs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTopicConfigs {
    /// By id, so that a retried change cannot hit the topic's successor.
    pub topic_id: TopicId,
    /// Configs to set, by Kafka's names.
    pub set: BTreeMap<String, String>,
    /// Configs to go back to their defaults.
    pub remove: Vec<String>,
}

/// See [`Command::AlterPartition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    pub partition: TopicIdPartition,
    /// Its leader, who proposes.
    pub leader: BrokerIncarnation,
    /// The leader epoch the proposer leads in.
    pub leader_epoch: LeaderEpoch,
    /// The registration the proposer started from.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR, the leader included, each member of the registration that it fetched
    /// with.
    pub isr: Vec<BrokerIncarnation>,
}
