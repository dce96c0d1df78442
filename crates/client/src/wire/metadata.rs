//! Admin.Metadata.

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::admin_client::AdminClient;
use tidelog_types::{BrokerId, ClusterId, LeaderEpoch, TopicId, TopicName};

use super::{malformed, request, status_error};
use crate::connection::Connections;
use crate::error::Result;
use crate::metadata::{AskMetadata, MetadataAnswer, PartitionLeader, TopicEntry};

/// How long one broker may take: there are others.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks over gRPC.
pub(crate) struct AskOverWire(pub(crate) Arc<Connections>);

impl AskMetadata for AskOverWire {
    async fn ask(&self, address: &str, topics: Vec<TopicName>, min_index: u64) -> Result<MetadataAnswer> {
        let mut message = v1::MetadataRequest {
            topics: topics.into_iter().map(String::from).collect(),
            all_topics: false,
            min_metadata_index: min_index,
            page: None,
        };
        let mut client = AdminClient::new(self.0.to(address)?)
            .max_decoding_message_size(tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES);
        let mut earlier = Vec::new();
        loop {
            let asked = client.metadata(request(message.clone(), TIMEOUT)).await;
            let mut response = asked.map_err(|status| status_error(&status))?.into_inner();
            super::accepted(response.error.take())?;
            earlier.append(&mut response.topics);
            message.min_metadata_index = min_index.max(response.metadata_index);
            message.page = super::next_page(std::mem::take(&mut response.next_token));
            if message.page.is_none() {
                response.topics = earlier;
                let answer = answer(response)?;
                self.0.advertised(&answer.brokers);
                return Ok(answer);
            }
        }
    }
}

fn answer(response: v1::MetadataResponse) -> Result<MetadataAnswer> {
    let brokers = response
        .brokers
        .into_iter()
        .filter(|node| node.alive && !node.address.is_empty());
    Ok(MetadataAnswer {
        cluster_id: ClusterId::from_slice(&response.cluster_id),
        index: response.metadata_index,
        brokers: brokers
            .filter_map(|node| Some((BrokerId::new(node.broker_id)?, node.address)))
            .collect(),
        topics: response.topics.into_iter().map(topic).collect::<Result<_>>()?,
    })
}

fn topic(topic: v1::TopicMetadata) -> Result<(TopicName, Result<TopicEntry>)> {
    let name = topic.name.parse().map_err(|_| malformed("a topic's name"))?;
    if let Err(error) = super::accepted(topic.error) {
        return Ok((name, Err(error)));
    }
    let topic_id = TopicId::from_slice(&topic.topic_id).ok_or_else(|| malformed("a topic's id"))?;
    let mut partitions = vec![PartitionLeader::default(); topic.partitions.len()];
    for told in topic.partitions {
        let slot = partitions
            .get_mut(told.partition as usize)
            .ok_or_else(|| malformed("a partition's number"))?;
        *slot = PartitionLeader {
            leader: BrokerId::new(told.leader),
            epoch: LeaderEpoch(told.leader_epoch),
        };
    }
    Ok((name, Ok(TopicEntry { topic_id, partitions })))
}
