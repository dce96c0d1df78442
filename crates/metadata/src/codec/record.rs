//! Changes of the image: what the database and snapshots hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_cluster::broker::BrokerImage;
use tidelog_cluster::image::MetadataIndex;
use tidelog_cluster::{Change, TopicConfigs};
use tidelog_proto::storage::v1 as pb;
use tidelog_proto::storage::v1::cluster_record::Record;
use tidelog_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, PartitionRegistration, ProducerId,
    TopicIdPartition,
};

use super::command::{bytes, listeners_from, listeners_to};
use super::{DecodeError, broker_id, broker_ids, optional_broker, uuid};

/// What a stored record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// A change that helps to build the image.
    Change(Change),
    /// The last log index that changed the image.
    ImageIndex(MetadataIndex),
}

pub(crate) fn index_to(index: MetadataIndex) -> pb::ClusterRecord {
    pb::ClusterRecord {
        record: Some(Record::ImageIndex(index.0)),
    }
}

pub(crate) fn to_message(change: &Change) -> pb::ClusterRecord {
    let record = match change {
        Change::ClusterNamed(id) => Record::ClusterId(bytes(id.as_bytes())),
        Change::Broker(broker) => Record::Broker(broker_to(broker)),
        Change::Topic {
            topic_id,
            name,
            configs,
        } => Record::Topic(pb::TopicRecord {
            topic_id: bytes(topic_id.as_bytes()),
            name: name.as_str().to_owned(),
            configs: configs.overrides().clone(),
        }),
        Change::TopicDeleted(id) => Record::DeletedTopic(bytes(id.as_bytes())),
        // Whether an election was unclean is news, not state.
        Change::Partition {
            partition,
            registration,
            unclean: _,
        } => Record::Partition(partition_to(*partition, registration)),
        Change::NextProducerId(id) => Record::NextProducerId(id.0),
    };
    pb::ClusterRecord { record: Some(record) }
}

/// Whether changes build an image from an empty one: what is read from a disk or a peer may
/// contradict itself, and an image takes only what follows from what it holds.
pub(crate) fn check(changes: &[Change]) -> Result<(), DecodeError> {
    let (mut partitions, mut names) = (BTreeMap::new(), BTreeSet::new());
    for change in changes {
        match change {
            Change::Topic { topic_id, name, .. } => {
                if partitions.insert(*topic_id, 0).is_some() || !names.insert(name) {
                    return Err(DecodeError::Field("topic: there are two of one id or name"));
                }
            }
            Change::Partition { partition, .. } => {
                let next = partitions
                    .get_mut(&partition.topic_id)
                    .ok_or(DecodeError::Field("topic of a partition"))?;
                if partition.partition.0 != *next {
                    return Err(DecodeError::Field("order of partitions"));
                }
                *next += 1;
            }
            Change::TopicDeleted(_) => return Err(DecodeError::Field("record: a deletion is none")),
            Change::ClusterNamed(_) | Change::Broker(_) | Change::NextProducerId(_) => {}
        }
    }
    Ok(())
}

pub(crate) fn from_message(message: pb::ClusterRecord) -> Result<Stored, DecodeError> {
    Ok(Stored::Change(
        match message.record.ok_or(DecodeError::Field("record"))? {
            Record::ClusterId(id) => Change::ClusterNamed(uuid!(ClusterId, id, "cluster id")?),
            Record::Broker(broker) => Change::Broker(Arc::new(broker_from(broker)?)),
            Record::Topic(topic) => Change::Topic {
                topic_id: uuid!(TopicId, topic.topic_id, "topic id")?,
                name: topic.name.parse().map_err(|_| DecodeError::Field("topic name"))?,
                configs: TopicConfigs::trusted(topic.configs),
            },
            Record::DeletedTopic(id) => Change::TopicDeleted(uuid!(TopicId, id, "topic id")?),
            Record::Partition(partition) => {
                let (partition, registration) = partition_from(partition)?;
                Change::Partition {
                    partition,
                    registration,
                    unclean: false,
                }
            }
            Record::NextProducerId(id) => Change::NextProducerId(ProducerId(id)),
            Record::ImageIndex(index) => return Ok(Stored::ImageIndex(MetadataIndex(index))),
        },
    ))
}

fn broker_to(broker: &BrokerImage) -> pb::BrokerRecord {
    pb::BrokerRecord {
        broker_id: broker.id.get(),
        epoch: broker.epoch.0,
        directory_id: bytes(broker.directory.as_bytes()),
        fenced: broker.fenced,
        draining: broker.draining,
        peer_address: broker.peer_address.clone(),
        listeners: listeners_to(&broker.listeners),
        feature_level: broker.feature_level,
    }
}

fn broker_from(broker: pb::BrokerRecord) -> Result<BrokerImage, DecodeError> {
    Ok(BrokerImage {
        id: broker_id(broker.broker_id)?,
        epoch: BrokerEpoch(broker.epoch),
        directory: uuid!(DirectoryId, broker.directory_id, "directory id")?,
        fenced: broker.fenced,
        draining: broker.draining,
        peer_address: broker.peer_address,
        listeners: listeners_from(broker.listeners),
        feature_level: broker.feature_level,
    })
}

pub(crate) fn partition_to(
    partition: TopicIdPartition,
    registration: &PartitionRegistration,
) -> pb::ClusterPartitionRecord {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.get()).collect();
    pb::ClusterPartitionRecord {
        topic_id: bytes(partition.topic_id.as_bytes()),
        partition: partition.partition.0,
        replicas: ids(&registration.replicas),
        isr: ids(&registration.isr),
        elr: ids(&registration.elr),
        leader: optional_broker(registration.leader),
        last_known_leader: optional_broker(registration.last_known_leader),
        leader_epoch: registration.leader_epoch.0,
        partition_epoch: registration.partition_epoch.0,
        min_insync_replicas: registration.min_insync_replicas,
    }
}

pub(crate) fn partition_from(
    record: pb::ClusterPartitionRecord,
) -> Result<(TopicIdPartition, PartitionRegistration), DecodeError> {
    let partition = TopicIdPartition {
        topic_id: uuid!(TopicId, record.topic_id, "topic id")?,
        partition: PartitionIndex(record.partition),
    };
    let registration = PartitionRegistration {
        replicas: broker_ids(record.replicas)?,
        isr: broker_ids(record.isr)?,
        elr: broker_ids(record.elr)?,
        leader: BrokerId::new(record.leader),
        last_known_leader: BrokerId::new(record.last_known_leader),
        leader_epoch: LeaderEpoch(record.leader_epoch),
        partition_epoch: PartitionEpoch(record.partition_epoch),
        min_insync_replicas: record.min_insync_replicas,
    };
    Ok((partition, registration))
}
