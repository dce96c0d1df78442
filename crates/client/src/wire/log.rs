//! The Log service: produce, fetch, offsets, producer ids.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::log_client::LogClient;
use tidelog_types::{LeaderEpoch, TopicId, TopicPartition};

use super::{Refusal, id_bytes, refused, request, status_error, topic_partition};
use crate::connection::Channel;
use crate::error::Result;
use crate::offsets::{OffsetAt, PartitionOffset};

/// An offset as a leader looked it up.
#[derive(Debug, Clone)]
pub(crate) struct FoundOffset {
    pub(crate) partition: TopicPartition,
    pub(crate) outcome: Result<PartitionOffset, Refusal>,
}

pub(super) fn client(channel: Channel) -> LogClient<Channel> {
    LogClient::new(channel)
        .max_decoding_message_size(tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES)
        .max_encoding_message_size(tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES)
}

/// One partition's question to ListOffsets. The epoch is the newest that whoever asks has seen
/// (R6); that of the client's metadata is looked at when it is asked.
#[derive(Debug, Clone)]
pub(crate) struct OffsetQuery {
    pub(crate) partition: TopicPartition,
    /// The topic that is meant; `None` for the one that has the name when it is asked, as far as
    /// the client's metadata know.
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) at: OffsetAt,
}

pub(crate) async fn list_offsets(
    channel: Channel,
    queries: Vec<OffsetQuery>,
    timeout: Duration,
) -> Result<Vec<FoundOffset>> {
    use v1::partition_offset_query::At;
    let partitions = queries
        .into_iter()
        .map(|query| v1::PartitionOffsetQuery {
            topic: query.partition.topic.into(),
            partition: query.partition.partition.0,
            topic_id: query.topic_id.map(id_bytes),
            leader_epoch: query.leader_epoch.map(|epoch| epoch.0),
            at: Some(match query.at {
                OffsetAt::Earliest => At::Earliest(true),
                OffsetAt::Latest => At::Latest(true),
                OffsetAt::Timestamp(timestamp_ms) => At::TimestampMs(timestamp_ms),
            }),
        })
        .collect();
    let asked = client(channel)
        .list_offsets(request(v1::ListOffsetsRequest { partitions }, timeout))
        .await;
    let response = asked.map_err(|status| status_error(&status))?.into_inner();
    response.partitions.into_iter().map(found).collect()
}

fn found(told: v1::PartitionOffset) -> Result<FoundOffset> {
    Ok(FoundOffset {
        partition: topic_partition(&told.topic, told.partition)?,
        outcome: refused(told.error).map(|()| PartitionOffset {
            offset: told.offset,
            timestamp_ms: told.timestamp_ms,
            leader_epoch: told.leader_epoch,
        }),
    })
}
