//! Admin.Metadata.

use std::sync::Arc;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::admin_client::AdminClient;
use tidelog_types::{BrokerId, ClusterId, LeaderEpoch, TopicId, TopicName};
use tonic::Status;

use super::{is_of_other_cluster, malformed, request, status_error};
use crate::connection::Connections;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{AskMetadata, MetadataAnswer, PartitionLeader, TopicEntry, TopicTold};

/// How long one broker may take: there are others.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks over gRPC.
#[derive(Debug, Clone)]
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
            let mut response = asked.map_err(|status| asked_failed(&status))?.into_inner();
            super::accepted(response.error.take())?;
            // A page may be made from newer metadata than the one before it.
            let index = response.metadata_index;
            for told in std::mem::take(&mut response.topics) {
                earlier.push(topic(told, index)?);
            }
            message.min_metadata_index = min_index.max(index);
            message.page = super::next_page(std::mem::take(&mut response.next_token));
            if message.page.is_none() {
                let answer = answer(response, earlier);
                self.0.advertised(&answer.brokers);
                return Ok(answer);
            }
        }
    }
}

fn asked_failed(status: &Status) -> Error {
    if is_of_other_cluster(status) {
        return Error::new(ErrorKind::ForeignCluster, status.message());
    }
    status_error(status)
}

fn answer(response: v1::MetadataResponse, topics: Vec<TopicTold>) -> MetadataAnswer {
    let brokers = response
        .brokers
        .into_iter()
        .filter(|node| node.alive && !node.address.is_empty());
    MetadataAnswer {
        cluster_id: ClusterId::from_slice(&response.cluster_id),
        index: response.metadata_index,
        brokers: brokers
            .filter_map(|node| Some((BrokerId::new(node.broker_id)?, node.address)))
            .collect(),
        topics,
    }
}

fn topic(topic: v1::TopicMetadata, index: u64) -> Result<TopicTold> {
    let name = topic.name.parse().map_err(|_| malformed("a topic's name"))?;
    let told = |entry| TopicTold { name, index, entry };
    if let Err(error) = super::accepted(topic.error) {
        return Ok(told(Err(error)));
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
    Ok(told(Ok(TopicEntry { topic_id, partitions })))
}
