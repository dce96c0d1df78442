//! The Admin service.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::admin_client::AdminClient;
use tidelog_types::{ClusterId, DirectoryId, TopicId};

use super::{accepted, malformed, next_page, request, status_error};
use crate::admin::{
    BrokerDescription, BrokerFigures, BrokerStanding, ClusterDescription, ConfigChange, ConfigSource,
    CreatedTopic, NewTopic, PartitionDescription, TopicConfig, TopicDescription, TopicListing, TopicListings,
};
use crate::connection::Channel;
use crate::error::Result;

fn client(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES)
}

/// Creates a topic; also tells the metadata entry that did it.
pub(crate) async fn create_topic(
    channel: Channel,
    topic: NewTopic,
    timeout: Duration,
) -> Result<(CreatedTopic, u64)> {
    let wait = topic.timeout.unwrap_or(timeout).min(timeout);
    let message = v1::CreateTopicRequest {
        name: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: topic.configs.into_iter().collect(),
        validate_only: topic.validate_only,
        timeout_ms: (wait.as_millis() as u32).max(1),
    };
    let asked = client(channel).create_topic(request(message, timeout)).await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    accepted(answer.error)?;
    let created = CreatedTopic {
        topic_id: TopicId::from_slice(&answer.topic_id),
        partitions: answer.partitions,
        replication_factor: answer.replication_factor,
    };
    Ok((created, answer.metadata_index))
}

/// Deletes a topic; tells the metadata entry that did it.
pub(crate) async fn delete_topic(channel: Channel, name: String, timeout: Duration) -> Result<u64> {
    let asked = client(channel)
        .delete_topic(request(v1::DeleteTopicRequest { name }, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    accepted(answer.error)?;
    Ok(answer.metadata_index)
}

/// Changes a topic's configs; tells the metadata entry that did it.
pub(crate) async fn alter_topic_configs(
    channel: Channel,
    name: String,
    change: ConfigChange,
    timeout: Duration,
) -> Result<u64> {
    let message = v1::AlterTopicConfigsRequest {
        name,
        set: change.set.into_iter().collect(),
        remove: change.remove,
        validate_only: change.validate_only,
    };
    let asked = client(channel)
        .alter_topic_configs(request(message, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    accepted(answer.error)?;
    Ok(answer.metadata_index)
}

pub(crate) async fn describe_topic(
    channel: Channel,
    name: String,
    timeout: Duration,
) -> Result<TopicDescription> {
    let mut message = v1::DescribeTopicRequest { name, page: None };
    let mut client = client(channel);
    let mut whole: Option<TopicDescription> = None;
    loop {
        let asked = client.describe_topic(request(message.clone(), timeout)).await;
        let answer = asked.map_err(|status| status_error(&status))?.into_inner();
        accepted(answer.error)?;
        let topic_id = TopicId::from_slice(&answer.topic_id).ok_or_else(|| malformed("a topic's id"))?;
        // Deleted and made anew between two pages: what was read of the older one is of no use.
        let kept = whole.take().filter(|kept| kept.topic_id == topic_id);
        let is_torn = kept.is_none() && message.page.is_some();
        message.page = next_page(answer.next_token);
        if is_torn {
            message.page = None;
            continue;
        }
        let mut description = kept.unwrap_or_else(|| TopicDescription {
            name: answer.name,
            topic_id,
            internal: answer.internal,
            configs: answer.configs.into_iter().collect(),
            effective_configs: answer.effective_configs.into_iter().map(config).collect(),
            answered_by: answer.answered_by.map(standing),
            partitions: Vec::new(),
        });
        description
            .partitions
            .extend(answer.partitions.into_iter().map(partition));
        if message.page.is_none() {
            return Ok(description);
        }
        whole = Some(description);
    }
}

fn config(told: v1::TopicConfig) -> TopicConfig {
    let source = match told.source() {
        v1::ConfigSource::Topic => ConfigSource::Topic,
        v1::ConfigSource::Default | v1::ConfigSource::Unspecified => ConfigSource::Default,
    };
    TopicConfig {
        name: told.name,
        value: told.value,
        source,
    }
}

fn standing(told: v1::BrokerStanding) -> BrokerStanding {
    BrokerStanding {
        broker_id: told.broker_id,
        since_contact: told.contact_ms_ago.map(Duration::from_millis),
        stale: told.stale,
        unready_reasons: told.unready_reasons,
    }
}

/// What the broker at the other end tells of itself.
pub(crate) async fn describe_broker(channel: Channel, timeout: Duration) -> Result<BrokerFigures> {
    let asked = client(channel)
        .describe_broker(request(v1::DescribeBrokerRequest {}, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    Ok(BrokerFigures {
        broker_id: answer.broker_id,
        version: answer.version,
        uptime: Duration::from_millis(answer.uptime_ms),
        disk_total_bytes: answer.disk_total_bytes,
        disk_free_bytes: answer.disk_free_bytes,
        standing: answer.standing.map(standing),
    })
}

fn partition(told: v1::PartitionDescription) -> PartitionDescription {
    PartitionDescription {
        partition: told.partition,
        leader: broker(told.leader),
        last_known_leader: broker(told.last_known_leader),
        leader_epoch: told.leader_epoch,
        partition_epoch: told.partition_epoch,
        replicas: told.replicas,
        isr: told.isr,
        elr: told.elr,
        high_watermark: told.high_watermark,
        log_start: told.log_start_offset,
        size_bytes: told.size_bytes,
    }
}

/// 0 is nobody.
fn broker(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

/// One page of topics, and the token of the next; empty after the last.
pub(crate) async fn list_topics(
    channel: Channel,
    include_internal: bool,
    token: String,
    timeout: Duration,
) -> Result<(TopicListings, String)> {
    let page = Some(v1::PageRequest { size: 0, token });
    let message = v1::ListTopicsRequest {
        page,
        include_internal,
    };
    let asked = client(channel).list_topics(request(message, timeout)).await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    let listing = |told: v1::TopicSummary| {
        Ok(TopicListing {
            name: told.name,
            topic_id: TopicId::from_slice(&told.topic_id).ok_or_else(|| malformed("a topic's id"))?,
            partitions: told.partitions,
            replication_factor: told.replication_factor,
            internal: told.internal,
        })
    };
    let topics = answer.topics.into_iter().map(listing).collect::<Result<_>>()?;
    let answered_by = answer.answered_by.map(standing);
    Ok((TopicListings { topics, answered_by }, answer.next_token))
}

pub(crate) async fn describe_cluster(channel: Channel, timeout: Duration) -> Result<ClusterDescription> {
    let asked = client(channel)
        .describe_cluster(request(v1::DescribeClusterRequest {}, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    let described = |told: v1::BrokerDescription| BrokerDescription {
        broker_id: told.broker_id,
        alive: told.alive,
        address: told.address,
        directory_id: DirectoryId::from_slice(&told.directory_id),
        broker_epoch: told.broker_epoch,
        voter: told.voter,
        leaders: told.leaders,
        replicas: told.replicas,
    };
    Ok(ClusterDescription {
        cluster_id: ClusterId::from_slice(&answer.cluster_id),
        metadata_leader: broker(answer.metadata_leader),
        metadata_term: answer.metadata_term,
        metadata_index: answer.metadata_index,
        brokers: answer.brokers.into_iter().map(described).collect(),
        under_replicated: answer.under_replicated,
        under_min_isr: answer.under_min_isr,
        offline: answer.offline,
        answered_by: answer.answered_by.map(standing),
        missing_voters: answer.missing_voters,
    })
}
