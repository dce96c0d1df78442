//! Commands of the metadata log.

use prost::Message;
use tidelog_cluster::Command;
use tidelog_cluster::command::{
    AlterPartition, AlterTopicConfigs, CreateTopic, DeleteTopic, InitCluster, RegisterBroker,
};
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::ids::Listener;
use tidelog_proto::storage::v1 as pb;
use tidelog_proto::storage::v1::cluster_command::Command as Kind;
use tidelog_types::{BrokerEpoch, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicIdPartition};

use super::{DecodeError, broker_id, uuid};

/// The bytes that stand in a log entry.
pub(crate) fn to_bytes(command: &Command) -> Vec<u8> {
    to_message(command).encode_to_vec()
}

/// The command of a log entry.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Command, DecodeError> {
    from_message(pb::ClusterCommand::decode(bytes)?)
}

pub(crate) fn to_message(command: &Command) -> pb::ClusterCommand {
    let kind = match command {
        Command::InitCluster(init) => Kind::InitCluster(bytes(init.cluster_id.as_bytes())),
        Command::RegisterBroker(register) => Kind::RegisterBroker(pb::RegisterBrokerCommand {
            broker_id: register.broker.get(),
            directory_id: bytes(register.directory.as_bytes()),
            peer_address: register.peer_address.clone(),
            listeners: listeners_to(&register.listeners),
            feature_level: register.feature_level,
        }),
        Command::FenceBroker(broker) => Kind::FenceBroker(incarnation_to(*broker)),
        Command::UnfenceBroker(broker) => Kind::UnfenceBroker(incarnation_to(*broker)),
        Command::DrainBroker(broker) => Kind::DrainBroker(incarnation_to(*broker)),
        Command::CreateTopic(create) => Kind::CreateTopic(pb::CreateTopicCommand {
            name: create.name.as_str().to_owned(),
            topic_id: bytes(create.topic_id.as_bytes()),
            partitions: create.partitions,
            replication_factor: create.replication_factor,
            configs: create.configs.clone(),
            placement_start: create.placement_start,
            internal: create.internal,
        }),
        Command::DeleteTopic(delete) => Kind::DeleteTopic(bytes(delete.topic_id.as_bytes())),
        Command::AlterTopicConfigs(alter) => Kind::AlterTopicConfigs(pb::AlterTopicConfigsCommand {
            topic_id: bytes(alter.topic_id.as_bytes()),
            set: alter.set.clone(),
            remove: alter.remove.clone(),
        }),
        Command::AlterPartition(alter) => Kind::AlterPartition(pb::AlterPartitionCommand {
            topic_id: bytes(alter.partition.topic_id.as_bytes()),
            partition: alter.partition.partition.0,
            leader: Some(incarnation_to(alter.leader)),
            leader_epoch: alter.leader_epoch.0,
            partition_epoch: alter.partition_epoch.0,
            isr: alter.isr.iter().copied().map(incarnation_to).collect(),
        }),
        Command::AllocateProducerIds(broker) => Kind::AllocateProducerIds(incarnation_to(*broker)),
        Command::ElectPreferredLeaders => Kind::ElectPreferredLeaders(pb::ElectPreferredLeadersCommand {}),
    };
    pb::ClusterCommand { command: Some(kind) }
}

pub(crate) fn from_message(message: pb::ClusterCommand) -> Result<Command, DecodeError> {
    Ok(match message.command.ok_or(DecodeError::Field("command"))? {
        Kind::InitCluster(id) => Command::InitCluster(InitCluster {
            cluster_id: uuid!(ClusterId, id, "cluster id")?,
        }),
        Kind::RegisterBroker(register) => Command::RegisterBroker(RegisterBroker {
            broker: broker_id(register.broker_id)?,
            directory: uuid!(DirectoryId, register.directory_id, "directory id")?,
            peer_address: register.peer_address,
            listeners: listeners_from(register.listeners),
            feature_level: register.feature_level,
        }),
        Kind::FenceBroker(broker) => Command::FenceBroker(incarnation_from(broker)?),
        Kind::UnfenceBroker(broker) => Command::UnfenceBroker(incarnation_from(broker)?),
        Kind::DrainBroker(broker) => Command::DrainBroker(incarnation_from(broker)?),
        Kind::CreateTopic(create) => Command::CreateTopic(CreateTopic {
            name: create
                .name
                .parse()
                .map_err(|_| DecodeError::Field("topic name"))?,
            topic_id: uuid!(TopicId, create.topic_id, "topic id")?,
            partitions: create.partitions,
            replication_factor: create.replication_factor,
            configs: create.configs,
            placement_start: create.placement_start,
            internal: create.internal,
        }),
        Kind::DeleteTopic(id) => Command::DeleteTopic(DeleteTopic {
            topic_id: uuid!(TopicId, id, "topic id")?,
        }),
        Kind::AlterTopicConfigs(alter) => Command::AlterTopicConfigs(AlterTopicConfigs {
            topic_id: uuid!(TopicId, alter.topic_id, "topic id")?,
            set: alter.set,
            remove: alter.remove,
        }),
        Kind::AlterPartition(alter) => Command::AlterPartition(alter_from(alter)?),
        Kind::AllocateProducerIds(broker) => Command::AllocateProducerIds(incarnation_from(broker)?),
        Kind::ElectPreferredLeaders(_) => Command::ElectPreferredLeaders,
    })
}

fn alter_from(alter: pb::AlterPartitionCommand) -> Result<AlterPartition, DecodeError> {
    Ok(AlterPartition {
        partition: TopicIdPartition {
            topic_id: uuid!(TopicId, alter.topic_id, "topic id")?,
            partition: PartitionIndex(alter.partition),
        },
        leader: incarnation_from(alter.leader.ok_or(DecodeError::Field("leader"))?)?,
        leader_epoch: LeaderEpoch(alter.leader_epoch),
        partition_epoch: PartitionEpoch(alter.partition_epoch),
        isr: alter
            .isr
            .into_iter()
            .map(incarnation_from)
            .collect::<Result<_, _>>()?,
    })
}

fn incarnation_to(incarnation: BrokerIncarnation) -> pb::BrokerIncarnation {
    pb::BrokerIncarnation {
        broker_id: incarnation.broker.get(),
        epoch: incarnation.epoch.0,
    }
}

fn incarnation_from(incarnation: pb::BrokerIncarnation) -> Result<BrokerIncarnation, DecodeError> {
    Ok(BrokerIncarnation {
        broker: broker_id(incarnation.broker_id)?,
        epoch: BrokerEpoch(incarnation.epoch),
    })
}

pub(super) fn listeners_to(listeners: &[Listener]) -> Vec<pb::ListenerRecord> {
    listeners
        .iter()
        .map(|listener| pb::ListenerRecord {
            name: listener.name.clone(),
            address: listener.address.clone(),
        })
        .collect()
}

pub(super) fn listeners_from(listeners: Vec<pb::ListenerRecord>) -> Vec<Listener> {
    listeners
        .into_iter()
        .map(|listener| Listener {
            name: listener.name,
            address: listener.address,
        })
        .collect()
}

pub(super) fn bytes(id: &[u8; 16]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id)
}
