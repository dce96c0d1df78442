//! Cluster metadata, as far as groups care.

use std::sync::Arc;

use tidelog_cluster::image::ClusterImage;
use tidelog_group::{Topic, Topics};
use tidelog_types::TopicName;

use super::handle::Groups;
use super::log::OffsetsLog;
use crate::partition::{Role, RoleChange};

/// The topics of an image.
pub fn topics_of(image: &ClusterImage) -> Topics {
    let topic = |topic: &Arc<tidelog_cluster::image::TopicImage>| {
        (
            topic.name.clone(),
            Topic {
                id: topic.id,
                partition_count: topic.partitions.len() as u32,
            },
        )
    };
    Topics::new(image.topics().map(topic))
}

/// Starts and ends coordinators as this broker's replicas change their roles. Quick: made for the replicas' `role_changed` hook.
pub fn follow_roles<L: OffsetsLog>(groups: &Groups<L>, image: &ClusterImage, change: RoleChange) {
    let offsets_topic = image.topic_by_name(&TopicName::consumer_offsets());
    if offsets_topic.is_none_or(|topic| topic.id != change.partition.topic_id) {
        return;
    }
    let partition = change.partition.partition;
    match change.role {
        Role::Leader { epoch, start_offset } => groups.lead(partition, epoch, start_offset),
        Role::Follower { .. } | Role::Offline | Role::Deleted => groups.resign(partition),
    }
}
