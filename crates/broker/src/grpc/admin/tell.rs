//! The metadata image as the Admin service tells it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidelog_cluster::configs::EffectiveConfig;
use tidelog_cluster::image::{ClusterImage, TopicImage};
use tidelog_proto::v1;
use tidelog_types::{BrokerId, ErrorCode, PartitionError, PartitionRegistration, TopicName};

use super::topic_name;
use crate::grpc::page::Page;
use crate::grpc::unknown_topic;

/// How many partitions each broker leads, and of how many it holds a replica.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<BrokerId, (u32, u32)>);

impl Held {
    pub(super) fn of(image: &ClusterImage) -> Self {
        let mut held = Self::default();
        for registration in image.topics().flat_map(|topic| &topic.partitions) {
            if let Some(leader) = registration.leader {
                held.0.entry(leader).or_default().0 += 1;
            }
            for replica in &registration.replicas {
                held.0.entry(*replica).or_default().1 += 1;
            }
        }
        held
    }

    pub(super) fn leaders(&self, broker: BrokerId) -> u32 {
        self.0.get(&broker).map_or(0, |(leaders, _)| *leaders)
    }

    pub(super) fn replicas(&self, broker: BrokerId) -> u32 {
        self.0.get(&broker).map_or(0, |(_, replicas)| *replicas)
    }
}

pub(super) fn effective_configs(topic: &TopicImage) -> Vec<v1::TopicConfig> {
    let replication_factor = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len());
    let config = |config: EffectiveConfig| v1::TopicConfig {
        name: config.name.to_owned(),
        value: config.value,
        source: if config.is_default {
            v1::ConfigSource::Default.into()
        } else {
            v1::ConfigSource::Topic.into()
        },
    };
    let configs = topic.configs.effective(replication_factor as u32);
    configs.into_iter().map(config).collect()
}

/// A partition as the metadata knows it, with offsets and a size that take as much room as any.
pub(super) fn described(registration: &PartitionRegistration, partition: u32) -> v1::PartitionDescription {
    v1::PartitionDescription {
        partition,
        leader: registration.leader.map_or(0, BrokerId::get),
        last_known_leader: registration.last_known_leader.map_or(0, BrokerId::get),
        leader_epoch: registration.leader_epoch.0,
        partition_epoch: registration.partition_epoch.0,
        replicas: ids(&registration.replicas),
        isr: ids(&registration.isr),
        elr: ids(&registration.elr),
        high_watermark: Some(u64::MAX),
        log_start_offset: Some(u64::MAX),
        size_bytes: Some(u64::MAX),
    }
}

pub(super) fn foreign_token() -> PartitionError {
    let text = "the page token is not one of this call: give the next_token of the page before, or none";
    PartitionError::new(ErrorCode::InvalidRequest, text)
}

/// The page of topics that a request asks for, each once, and the token of the next page: the name
/// of the last one.
pub(super) fn topics_of(
    image: &ClusterImage,
    request: v1::MetadataRequest,
) -> Result<(Vec<v1::TopicMetadata>, String), PartitionError> {
    let mut page = Page::of(request.page);
    let last = page.token().to_owned();
    let mut topics = Vec::new();
    let more = if request.all_topics {
        let after = match last.as_str() {
            "" => None,
            last => Some(last.parse::<TopicName>().map_err(|_| foreign_token())?),
        };
        page.fill(
            &mut topics,
            image.topics_by_name(after.as_ref()).map(topic_metadata),
        )
    } else {
        // The answer repeats each name, and as the token of the next page too.
        if let Some(long) = request.topics.iter().find(|name| name.len() > TopicName::MAX_LEN) {
            topic_name(long)?;
        }
        let mut named = HashSet::new();
        let names = request.topics.iter().filter(|name| named.insert(name.as_str()));
        let mut names: Vec<_> = names.collect();
        if !last.is_empty() {
            let at = names
                .iter()
                .position(|name| **name == last)
                .ok_or_else(foreign_token)?;
            names.drain(..=at);
        }
        page.fill(
            &mut topics,
            names.into_iter().map(|name| named_topic(image, name)),
        )
    };
    let next_token = match topics.last() {
        Some(topic) if more => topic.name.clone(),
        _ => String::new(),
    };
    Ok((topics, next_token))
}

fn named_topic(image: &ClusterImage, name: &str) -> v1::TopicMetadata {
    let found = name
        .parse::<TopicName>()
        .ok()
        .and_then(|name| image.topic_by_name(&name));
    found.map_or_else(
        || v1::TopicMetadata {
            name: name.to_owned(),
            error: Some(unknown_topic(name).into()),
            ..Default::default()
        },
        topic_metadata,
    )
}

fn topic_metadata(topic: &Arc<TopicImage>) -> v1::TopicMetadata {
    let partitions =
        topic
            .partitions
            .iter()
            .zip(0..)
            .map(|(registration, partition)| v1::PartitionMetadata {
                partition,
                leader: registration.leader.map_or(0, BrokerId::get),
                leader_epoch: registration.leader_epoch.0,
            });
    v1::TopicMetadata {
        name: topic.name.to_string(),
        topic_id: topic.id.as_bytes().to_vec().into(),
        error: None,
        internal: topic.name.is_internal(),
        partitions: partitions.collect(),
    }
}

pub(super) fn topic_summary(topic: &TopicImage) -> v1::TopicSummary {
    v1::TopicSummary {
        name: topic.name.to_string(),
        topic_id: topic.id.as_bytes().to_vec().into(),
        partitions: topic.partitions.len() as u32,
        replication_factor: topic
            .partitions
            .first()
            .map_or(0, |partition| partition.replicas.len() as u32),
        internal: topic.name.is_internal(),
    }
}

fn ids(brokers: &[BrokerId]) -> Vec<u32> {
    brokers.iter().map(|broker| broker.get()).collect()
}
