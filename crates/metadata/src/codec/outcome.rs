//! Outcomes: what Raft hands from the state machine to the proposer, and what a forwarded proposal
//! is answered with.

use prost::Message;
use tidelog_cluster::image::MetadataIndex;
use tidelog_cluster::{Accepted, Outcome};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::command_outcome::{
    Done, Drained, ProducerIds, Result as Kind, TopicCreated,
};
use tidelog_types::{BrokerEpoch, PartitionIndex, ProducerId, TopicId, TopicIdPartition};
use uuid::Uuid;

use super::command::bytes;
use super::record::{partition_from, partition_to};
use super::{DecodeError, uuid};

pub(crate) fn to_bytes(outcome: Outcome) -> Vec<u8> {
    to_message(outcome).encode_to_vec()
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Outcome, DecodeError> {
    from_message(pb::CommandOutcome::decode(bytes)?)
}

pub(crate) fn to_message(outcome: Outcome) -> pb::CommandOutcome {
    let kind = match outcome.result {
        Err(refusal) => Kind::Refused(refusal.into()),
        Ok(Accepted::Cluster { cluster_id }) => Kind::ClusterId(bytes(cluster_id.as_bytes())),
        Ok(Accepted::BrokerRegistered { epoch }) => Kind::BrokerEpoch(epoch.0),
        Ok(Accepted::BrokerFenced) => Kind::BrokerFenced(Done {}),
        Ok(Accepted::BrokerUnfenced) => Kind::BrokerUnfenced(Done {}),
        Ok(Accepted::BrokerDrained { still_leading }) => Kind::BrokerDrained(Drained { still_leading }),
        Ok(Accepted::TopicCreated {
            topic_id,
            partitions,
            replication_factor,
        }) => Kind::TopicCreated(TopicCreated {
            topic_id: bytes(topic_id.as_bytes()),
            partitions,
            replication_factor,
        }),
        Ok(Accepted::TopicDeleted) => Kind::TopicDeleted(Done {}),
        Ok(Accepted::TopicConfigsAltered) => Kind::TopicConfigsAltered(Done {}),
        Ok(Accepted::PartitionAltered { registration }) => {
            // The proposer knows which partition it asked for.
            let anonymous = TopicIdPartition {
                topic_id: TopicId(Uuid::nil()),
                partition: PartitionIndex(0),
            };
            Kind::PartitionAltered(partition_to(anonymous, &registration))
        }
        Ok(Accepted::ProducerIdsAllocated { first, count }) => Kind::ProducerIds(ProducerIds {
            first: first.0,
            count,
        }),
        Ok(Accepted::PreferredLeadersElected { moved }) => Kind::PreferredLeadersMoved(moved),
    };
    pb::CommandOutcome {
        index: outcome.index.0,
        result: Some(kind),
    }
}

pub(crate) fn from_message(message: pb::CommandOutcome) -> Result<Outcome, DecodeError> {
    let result = match message.result.ok_or(DecodeError::Field("outcome"))? {
        Kind::Refused(refusal) => Err(refusal.into()),
        Kind::ClusterId(id) => Ok(Accepted::Cluster {
            cluster_id: uuid!(ClusterId, id, "cluster id")?,
        }),
        Kind::BrokerEpoch(epoch) => Ok(Accepted::BrokerRegistered {
            epoch: BrokerEpoch(epoch),
        }),
        Kind::BrokerFenced(Done {}) => Ok(Accepted::BrokerFenced),
        Kind::BrokerUnfenced(Done {}) => Ok(Accepted::BrokerUnfenced),
        Kind::BrokerDrained(Drained { still_leading }) => Ok(Accepted::BrokerDrained { still_leading }),
        Kind::TopicCreated(topic) => Ok(Accepted::TopicCreated {
            topic_id: uuid!(TopicId, topic.topic_id, "topic id")?,
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
        }),
        Kind::TopicDeleted(Done {}) => Ok(Accepted::TopicDeleted),
        Kind::TopicConfigsAltered(Done {}) => Ok(Accepted::TopicConfigsAltered),
        Kind::PartitionAltered(record) => Ok(Accepted::PartitionAltered {
            registration: partition_from(record)?.1,
        }),
        Kind::ProducerIds(ids) => Ok(Accepted::ProducerIdsAllocated {
            first: ProducerId(ids.first),
            count: ids.count,
        }),
        Kind::PreferredLeadersMoved(moved) => Ok(Accepted::PreferredLeadersElected { moved }),
    };
    Ok(Outcome {
        index: MetadataIndex(message.index),
        result,
    })
}
