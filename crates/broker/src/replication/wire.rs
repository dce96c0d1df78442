//! The messages of the stream, to and from domain types.

use bytes::Bytes;
use tidelog_proto::internal::v1 as proto;
use tidelog_proto::internal::v1::replica_fetched::Result as ProtoResult;
use tidelog_replica::{DivergingEpoch, FetchPosition, FollowerDurable, FollowerFetch};
use tidelog_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
};

use crate::partition::TakenFetch;

/// Who is at the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) broker: BrokerId,
    pub(crate) broker_epoch: BrokerEpoch,
}

pub(crate) fn topic_bytes(id: TopicIdPartition) -> Bytes {
    Bytes::copy_from_slice(id.topic_id.as_bytes())
}

pub(crate) fn partition(topic_id: &[u8], partition: u32) -> Option<TopicIdPartition> {
    Some(TopicIdPartition {
        topic_id: TopicId::from_slice(topic_id)?,
        partition: PartitionIndex(partition),
    })
}

pub(crate) fn fetch(id: TopicIdPartition, position: &FetchPosition) -> proto::ReplicaFetch {
    proto::ReplicaFetch {
        topic_id: topic_bytes(id),
        partition: id.partition.0,
        leader_epoch: position.leader_epoch.0,
        fetch_offset: position.fetch_offset.0,
        last_fetched_epoch: position.last_fetched_epoch.map(|epoch| epoch.0),
        durable_end_offset: position.durable_end.0,
    }
}

pub(crate) fn durable(id: TopicIdPartition, position: &FetchPosition) -> proto::ReplicaDurable {
    proto::ReplicaDurable {
        topic_id: topic_bytes(id),
        partition: id.partition.0,
        leader_epoch: position.leader_epoch.0,
        durable_end_offset: position.durable_end.0,
    }
}

pub(crate) fn follower_fetch(peer: Peer, fetch: &proto::ReplicaFetch) -> FollowerFetch {
    FollowerFetch {
        broker: peer.broker,
        broker_epoch: peer.broker_epoch,
        leader_epoch: LeaderEpoch(fetch.leader_epoch),
        fetch_offset: Offset(fetch.fetch_offset),
        last_fetched_epoch: fetch.last_fetched_epoch.map(LeaderEpoch),
        durable_end: Offset(fetch.durable_end_offset),
    }
}

pub(crate) fn follower_durable(peer: Peer, durable: &proto::ReplicaDurable) -> FollowerDurable {
    FollowerDurable {
        broker: peer.broker,
        broker_epoch: peer.broker_epoch,
        leader_epoch: LeaderEpoch(durable.leader_epoch),
        durable_end: Offset(durable.durable_end_offset),
    }
}

pub(crate) fn answer(
    id: TopicIdPartition,
    leader_epoch: LeaderEpoch,
    result: Result<TakenFetch, ErrorCode>,
) -> proto::ReplicaFetched {
    let result = match result {
        Ok(TakenFetch::Batches {
            batches,
            high_watermark,
            log_start,
        }) => {
            let (high_watermark, log_start_offset) = (high_watermark.0, log_start.0);
            ProtoResult::Batches(proto::ReplicaBatches {
                high_watermark,
                log_start_offset,
                batches,
            })
        }
        // Sent apart from answers; as an answer it would be one without batches.
        Ok(TakenFetch::Progress {
            high_watermark,
            log_start,
        }) => ProtoResult::Batches(proto::ReplicaBatches {
            high_watermark: high_watermark.0,
            log_start_offset: log_start.0,
            batches: Vec::new(),
        }),
        Ok(TakenFetch::Diverging(diverging)) => ProtoResult::Diverging(proto::ReplicaDiverging {
            epoch: diverging.epoch.0,
            end_offset: diverging.end_offset.0,
        }),
        Ok(TakenFetch::BeforeLogStart(log_start)) => ProtoResult::LogStartOffset(log_start.0),
        Err(code) => ProtoResult::ErrorCode(code.number()),
    };
    proto::ReplicaFetched {
        topic_id: topic_bytes(id),
        partition: id.partition.0,
        leader_epoch: leader_epoch.0,
        result: Some(result),
    }
}

/// What an answer says, or Kafka's number of why there is none.
pub(crate) fn taken(result: Option<ProtoResult>) -> Result<TakenFetch, i32> {
    match result {
        Some(ProtoResult::Batches(found)) => Ok(TakenFetch::Batches {
            batches: found.batches,
            high_watermark: Offset(found.high_watermark),
            log_start: Offset(found.log_start_offset),
        }),
        Some(ProtoResult::Diverging(diverging)) => Ok(TakenFetch::Diverging(DivergingEpoch {
            epoch: LeaderEpoch(diverging.epoch),
            end_offset: Offset(diverging.end_offset),
        })),
        Some(ProtoResult::LogStartOffset(log_start)) => Ok(TakenFetch::BeforeLogStart(Offset(log_start))),
        Some(ProtoResult::ErrorCode(code)) => Err(code),
        None => Err(ErrorCode::UnknownServerError.number()),
    }
}
