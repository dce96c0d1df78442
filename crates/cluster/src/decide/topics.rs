//! Topics: created, altered, deleted.

use tidelog_types::limits::{MAX_PARTITIONS_PER_CLUSTER, MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS};
use tidelog_types::{
    ErrorCode, LeaderEpoch, PartitionEpoch, PartitionError, PartitionIndex, PartitionRegistration,
    TopicIdPartition,
};

use super::{Decided, brokers, partition_change, partition_change_or_epoch};
use crate::change::Change;
use crate::command::{AlterTopicConfigs, CreateTopic, DeleteTopic};
use crate::configs::{MIN_INSYNC_REPLICAS, TopicConfigs};
use crate::election::Election;
use crate::image::ClusterImage;
use crate::outcome::Accepted;
use crate::placement::place;

/// How many partitions a topic gets by default.
pub const DEFAULT_PARTITIONS: u32 = 3;
/// How many replicas a partition gets by default, if there are so many brokers.
pub const DEFAULT_REPLICATION_FACTOR: u32 = 3;

/// Makes a topic on the brokers that are active now.
pub(super) fn create(image: &ClusterImage, create: &CreateTopic) -> Decided {
    let name = &create.name;
    if create.internal != name.is_internal() {
        return refuse(
            ErrorCode::InvalidTopicException,
            format!("{name} is not a name for this: internal topics are made by the cluster alone"),
        );
    }
    if let Some(known) = image.topic_by_name(name) {
        if known.id == create.topic_id {
            // The same proposal, sent again because its answer was lost.
            return Ok((
                Vec::new(),
                created(
                    create,
                    known.partitions.len() as u32,
                    known.partitions[0].replicas.len(),
                ),
            ));
        }
        return refuse(
            ErrorCode::TopicAlreadyExists,
            format!("topic {name} exists already; choose another name, or delete it first"),
        );
    }
    let partitions = check_partitions(image, create)?;
    let active = brokers::active(image);
    let replication_factor = check_replication_factor(image, create, active.len() as u32)?;
    let configs = TopicConfigs::validated(create.configs.clone(), create.internal)?;
    configs.check_replicas(replication_factor)?;
    let min_insync_replicas = configs.min_insync_replicas(replication_factor);

    let mut changes = vec![Change::Topic {
        topic_id: create.topic_id,
        name: name.clone(),
        configs,
    }];
    let placed = place(&active, partitions, replication_factor, create.placement_start);
    changes.extend(
        placed
            .into_iter()
            .zip(0..)
            .map(|(replicas, index)| Change::Partition {
                partition: TopicIdPartition {
                    topic_id: create.topic_id,
                    partition: PartitionIndex(index),
                },
                registration: new_partition(replicas, min_insync_replicas),
                unclean: false,
            }),
    );
    Ok((changes, created(create, partitions, replication_factor as usize)))
}

fn created(create: &CreateTopic, partitions: u32, replicas: usize) -> Accepted {
    Accepted::TopicCreated {
        topic_id: create.topic_id,
        partitions,
        replication_factor: replicas as u32,
    }
}

fn new_partition(replicas: Vec<tidelog_types::BrokerId>, min_insync_replicas: u32) -> PartitionRegistration {
    PartitionRegistration {
        isr: replicas.clone(),
        elr: Vec::new(),
        leader: replicas.first().copied(),
        last_known_leader: None,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        min_insync_replicas,
        replicas,
    }
}

fn check_partitions(image: &ClusterImage, create: &CreateTopic) -> Result<u32, PartitionError> {
    let (name, partitions) = (&create.name, create.partitions.unwrap_or(DEFAULT_PARTITIONS));
    if !(1..=MAX_PARTITIONS_PER_TOPIC).contains(&partitions) {
        return refuse(
            ErrorCode::InvalidPartitions,
            format!(
                "topic {name} cannot have {partitions} partitions; choose 1 to {MAX_PARTITIONS_PER_TOPIC}"
            ),
        );
    }
    if image.partition_count() + partitions > MAX_PARTITIONS_PER_CLUSTER {
        return refuse(
            ErrorCode::InvalidPartitions,
            format!(
                "topic {name} cannot have {partitions} partitions: the cluster has {} and may have {MAX_PARTITIONS_PER_CLUSTER}",
                image.partition_count()
            ),
        );
    }
    if image.topics().len() >= MAX_TOPICS as usize && !create.internal {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "topic {name} is one too many: the cluster has {MAX_TOPICS} topics, the most it may have"
            ),
        );
    }
    Ok(partitions)
}

fn check_replication_factor(
    image: &ClusterImage,
    create: &CreateTopic,
    active: u32,
) -> Result<u32, PartitionError> {
    let registered = image.brokers.len() as u32;
    let factor = create
        .replication_factor
        .unwrap_or(DEFAULT_REPLICATION_FACTOR.min(registered.max(1)));
    if (1..=active).contains(&factor) {
        return Ok(factor);
    }
    refuse(
        ErrorCode::InvalidReplicationFactor,
        format!(
            "topic {} cannot have {factor} replicas: {active} of {registered} registered brokers are alive; start more brokers, or \
             ask for 1 to {} replicas",
            create.name,
            active.max(1)
        ),
    )
}

/// Removes a topic.
pub(super) fn delete(image: &ClusterImage, delete: DeleteTopic) -> Decided {
    let Some(topic) = image.topic(delete.topic_id) else {
        return refuse(
            ErrorCode::UnknownTopicId,
            format!("no topic has the id {}", delete.topic_id),
        );
    };
    if topic.name.is_internal() {
        return refuse(
            ErrorCode::InvalidTopicException,
            format!("{} belongs to the cluster and cannot be deleted", topic.name),
        );
    }
    Ok((vec![Change::TopicDeleted(topic.id)], Accepted::TopicDeleted))
}

/// Changes a topic's configs. Another min.insync.replicas is one step with the new ELR and a new
/// epoch of every partition (R8): so a leader that goes by an older registration is refused its
/// next ISR change, and nobody is eligible by a minimum that no longer holds.
pub(super) fn alter_configs(image: &ClusterImage, alter: &AlterTopicConfigs) -> Decided {
    let Some(topic) = image.topic(alter.topic_id) else {
        return refuse(
            ErrorCode::UnknownTopicId,
            format!("no topic has the id {}", alter.topic_id),
        );
    };
    if topic.name.is_internal() {
        return refuse(
            ErrorCode::InvalidTopicException,
            format!("{} belongs to the cluster and cannot be altered", topic.name),
        );
    }
    let configs = topic.configs.altered(&alter.set, &alter.remove)?;
    if alter.set.contains_key(MIN_INSYNC_REPLICAS) {
        let fewest = topic
            .partitions
            .iter()
            .map(|partition| partition.replicas.len())
            .min();
        configs.check_replicas(fewest.unwrap_or_default() as u32)?;
    }
    let mut changes = Vec::new();
    for (partition, old) in topic.iter() {
        let changed = PartitionRegistration {
            min_insync_replicas: configs.min_insync_replicas(old.replicas.len() as u32),
            ..old.clone()
        };
        // Also where the minimum stays: a partition without a leader may be allowed an unclean one
        // from here on.
        let election = Election::of(&changed, configs.unclean_leader_election());
        if changed.min_insync_replicas == old.min_insync_replicas {
            changes.extend(partition_change(partition, election, image));
        } else {
            changes.push(partition_change_or_epoch(partition, election, image));
        }
    }
    if configs != topic.configs {
        changes.push(Change::Topic {
            topic_id: topic.id,
            name: topic.name.clone(),
            configs,
        });
    }
    Ok((changes, Accepted::TopicConfigsAltered))
}

fn refuse<T>(code: ErrorCode, message: String) -> Result<T, PartitionError> {
    Err(PartitionError::new(code, message))
}
