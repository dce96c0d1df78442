//! The messages of the stream, to and from domain types.

use bytes::Bytes;
use tidelog_proto::internal::v1 as proto;
use tidelog_proto::internal::v1::replica_fetched::Result as ProtoResult;
use tidelog_replica::feed::Answer;
use tidelog_replica::link::Request;
use tidelog_replica::{DivergingEpoch, FetchPosition, Fetched, FollowerDurable, FollowerFetch, Progress};
use tidelog_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
};

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

pub(crate) fn request(request: &Request) -> proto::ReplicaFetchRequest {
    let fetch = |(id, position): &(TopicIdPartition, FetchPosition)| proto::ReplicaFetch {
        topic_id: topic_bytes(*id),
        partition: id.partition.0,
        leader_epoch: position.leader_epoch.0,
        fetch_offset: position.fetch_offset.0,
        last_fetched_epoch: position.last_fetched_epoch.map(|epoch| epoch.0),
        durable_end_offset: position.durable_end.0,
    };
    let durable = |(id, position): &(TopicIdPartition, FetchPosition)| proto::ReplicaDurable {
        topic_id: topic_bytes(*id),
        partition: id.partition.0,
        leader_epoch: position.leader_epoch.0,
        durable_end_offset: position.durable_end.0,
    };
    proto::ReplicaFetchRequest {
        fetches: request.fetches.iter().map(fetch).collect(),
        durable: request.durable.iter().map(durable).collect(),
        ..Default::default()
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

pub(crate) fn answer(answer: Answer<Vec<Bytes>>) -> proto::ReplicaFetched {
    let batches = |high_watermark: Offset, log_start: Offset, batches| {
        ProtoResult::Batches(proto::ReplicaBatches {
            high_watermark: high_watermark.0,
            log_start_offset: log_start.0,
            batches,
        })
    };
    let result = match answer.result {
        Ok(Fetched::Batches {
            batches: found,
            high_watermark,
            log_start,
        }) => batches(high_watermark, log_start, found),
        // Sent apart from answers; as an answer it would be one without batches.
        Ok(Fetched::Progress {
            high_watermark,
            log_start,
        }) => batches(high_watermark, log_start, Vec::new()),
        Ok(Fetched::Diverging(diverging)) => ProtoResult::Diverging(proto::ReplicaDiverging {
            epoch: diverging.epoch.0,
            end_offset: diverging.end_offset.0,
        }),
        Ok(Fetched::BeforeLogStart { log_start }) => ProtoResult::LogStartOffset(log_start.0),
        Err(code) => ProtoResult::ErrorCode(code.number()),
    };
    proto::ReplicaFetched {
        topic_id: topic_bytes(answer.partition),
        partition: answer.partition.partition.0,
        leader_epoch: answer.leader_epoch.0,
        result: Some(result),
    }
}

/// What an answer says, or Kafka's number of why there is none.
pub(crate) fn fetched(result: Option<ProtoResult>) -> Result<Fetched<Vec<Bytes>>, i32> {
    match result {
        Some(ProtoResult::Batches(found)) => Ok(Fetched::Batches {
            batches: found.batches,
            high_watermark: Offset(found.high_watermark),
            log_start: Offset(found.log_start_offset),
        }),
        Some(ProtoResult::Diverging(diverging)) => Ok(Fetched::Diverging(DivergingEpoch {
            epoch: LeaderEpoch(diverging.epoch),
            end_offset: Offset(diverging.end_offset),
        })),
        Some(ProtoResult::LogStartOffset(log_start)) => Ok(Fetched::BeforeLogStart {
            log_start: Offset(log_start),
        }),
        Some(ProtoResult::ErrorCode(code)) => Err(code),
        None => Err(ErrorCode::UnknownServerError.number()),
    }
}

pub(crate) fn progress(id: TopicIdPartition, progress: Progress) -> proto::ReplicaProgress {
    proto::ReplicaProgress {
        topic_id: topic_bytes(id),
        partition: id.partition.0,
        leader_epoch: progress.leader_epoch.0,
        high_watermark: progress.high_watermark.0,
        log_start_offset: progress.log_start.0,
    }
}

pub(crate) fn progressed(progress: &proto::ReplicaProgress) -> Progress {
    Progress {
        leader_epoch: LeaderEpoch(progress.leader_epoch),
        high_watermark: Offset(progress.high_watermark),
        log_start: Offset(progress.log_start_offset),
    }
}
