//! Records of `__consumer_offsets` as bytes: protobuf of `storage/v1`. It stops here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;
use tidelog_group::{
    CommittedOffset, CurrentAssignment, GroupEpoch, GroupValue, MemberEpoch, MemberId, MemberValue,
    Partitions, Record, Subscription,
};
use tidelog_proto::storage::v1 as stored;
use tidelog_proto::storage::v1::offsets_key::Kind as Key;
use tidelog_proto::storage::v1::offsets_value::Kind as Value;
use tidelog_types::{GroupId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

/// The version that every value is written with.
const VERSION: u32 = 1;

/// Bytes that are no record of this topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CodecError {
    /// Not what the schema says.
    #[error("a record of __consumer_offsets is damaged: {0}")]
    Damaged(String),
    /// Written by a newer broker that wants it understood.
    #[error("a record of __consumer_offsets has version {0}, this broker reads up to {VERSION}: upgrade it")]
    Newer(u32),
}

/// A record's key and value.
pub(super) fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
    let member_key = |member: &MemberId| stored::OffsetsMemberKey {
        member_id: member.to_string(),
    };
    let (kind, value) = match record {
        Record::Group { value, .. } => (
            Key::Group(stored::OffsetsGroupKey {}),
            value.as_ref().map(|v| Value::Group(group(v))),
        ),
        Record::Member { member, value, .. } => (
            Key::Member(member_key(member)),
            value.as_ref().map(|v| Value::Member(member_value(v))),
        ),
        Record::Target { member, value, .. } => (
            Key::Target(member_key(member)),
            value.as_ref().map(|v| Value::Target(partitions(v))),
        ),
        Record::Current { member, value, .. } => (
            Key::Current(member_key(member)),
            value.as_ref().map(|v| Value::Current(current(v))),
        ),
        Record::Offset { partition, value, .. } => {
            let key = stored::OffsetsPartitionKey {
                topic_id: Bytes::copy_from_slice(partition.topic_id.as_bytes()),
                partition: partition.partition.0,
            };
            (Key::Offset(key), value.as_ref().map(|v| Value::Offset(offset(v))))
        }
    };
    let key = stored::OffsetsKey {
        group_id: record.group().to_string(),
        kind: Some(kind),
    };
    let value = value.map(|kind| stored::OffsetsValue {
        version: VERSION,
        kind: Some(kind),
    });
    (
        key.encode_to_vec().into(),
        value.map(|value| value.encode_to_vec().into()),
    )
}

/// The record of a key and a value; `None` for a kind that only newer brokers know.
pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, CodecError> {
    let key = stored::OffsetsKey::decode(key).map_err(damaged)?;
    let group: GroupId = key.group_id.parse().map_err(damaged)?;
    let Some(kind) = key.kind else { return Ok(None) };
    let value = match value {
        None => None,
        Some(value) => {
            let value = stored::OffsetsValue::decode(value).map_err(damaged)?;
            if value.version > VERSION {
                return Err(CodecError::Newer(value.version));
            }
            Some(value.kind.ok_or_else(|| damaged("a value without a kind"))?)
        }
    };
    record(group, kind, value).map(Some)
}

fn record(group: GroupId, key: Key, value: Option<Value>) -> Result<Record, CodecError> {
    let member = |key: stored::OffsetsMemberKey| key.member_id.parse().map_err(damaged);
    Ok(match (key, value) {
        (Key::Group(_), None) => Record::Group { group, value: None },
        (Key::Group(_), Some(Value::Group(v))) => Record::Group {
            group,
            value: Some(read_group(&v)?),
        },
        (Key::Member(key), None) => Record::Member {
            group,
            member: member(key)?,
            value: None,
        },
        (Key::Member(key), Some(Value::Member(v))) => Record::Member {
            group,
            member: member(key)?,
            value: Some(Arc::new(read_member(v)?)),
        },
        (Key::Target(key), None) => Record::Target {
            group,
            member: member(key)?,
            value: None,
        },
        (Key::Target(key), Some(Value::Target(v))) => Record::Target {
            group,
            member: member(key)?,
            value: Some(read_partitions(Some(v))?),
        },
        (Key::Current(key), None) => Record::Current {
            group,
            member: member(key)?,
            value: None,
        },
        (Key::Current(key), Some(Value::Current(v))) => Record::Current {
            group,
            member: member(key)?,
            value: Some(Arc::new(read_current(v)?)),
        },
        (Key::Offset(key), value) => {
            let partition = TopicIdPartition {
                topic_id: topic_id(&key.topic_id)?,
                partition: PartitionIndex(key.partition),
            };
            let value = match value {
                None => None,
                Some(Value::Offset(v)) => Some(read_offset(v)),
                Some(_) => return Err(damaged("a value of another kind than its key")),
            };
            Record::Offset {
                group,
                partition,
                value,
            }
        }
        _ => return Err(damaged("a value of another kind than its key")),
    })
}

fn group(value: &GroupValue) -> stored::OffsetsGroup {
    stored::OffsetsGroup {
        epoch: value.epoch.0,
        assignor: value.assignor.to_string(),
        empty_since_ms: value.empty_since_ms,
    }
}

fn read_group(value: &stored::OffsetsGroup) -> Result<GroupValue, CodecError> {
    Ok(GroupValue {
        epoch: GroupEpoch(value.epoch),
        assignor: value.assignor.parse().map_err(damaged)?,
        empty_since_ms: value.empty_since_ms,
    })
}

fn member_value(value: &Arc<MemberValue>) -> stored::OffsetsMember {
    let subscription = &value.subscription;
    stored::OffsetsMember {
        instance_id: value.instance_id.as_ref().map(ToString::to_string),
        topics: subscription.topics().iter().map(ToString::to_string).collect(),
        topic_regex: subscription.regex().map(str::to_owned),
        assignor: subscription.assignor().to_string(),
        client_id: value.client_id.clone(),
        client_host: value.client_host.clone(),
        max_poll_interval_ms: value.max_poll_interval.as_millis() as u64,
    }
}

fn read_member(value: stored::OffsetsMember) -> Result<MemberValue, CodecError> {
    let topics: Result<BTreeSet<_>, CodecError> = value
        .topics
        .iter()
        .map(|topic| topic.parse().map_err(damaged))
        .collect();
    let assignor = value.assignor.parse().map_err(damaged)?;
    Ok(MemberValue {
        instance_id: value
            .instance_id
            .map(|id| id.parse().map_err(damaged))
            .transpose()?,
        subscription: Subscription::restored(topics?, value.topic_regex, assignor),
        client_id: value.client_id,
        client_host: value.client_host,
        max_poll_interval: Duration::from_millis(value.max_poll_interval_ms),
    })
}

fn current(value: &Arc<CurrentAssignment>) -> stored::OffsetsCurrent {
    stored::OffsetsCurrent {
        epoch: value.epoch.0,
        previous_epoch: value.previous_epoch.0,
        assigned: Some(partitions(&value.assigned)),
        revoking: Some(partitions(&value.revoking)),
    }
}

fn read_current(value: stored::OffsetsCurrent) -> Result<CurrentAssignment, CodecError> {
    Ok(CurrentAssignment {
        epoch: MemberEpoch(value.epoch),
        previous_epoch: MemberEpoch(value.previous_epoch),
        assigned: read_partitions(value.assigned)?,
        revoking: read_partitions(value.revoking)?,
    })
}

fn offset(value: &CommittedOffset) -> stored::OffsetsCommit {
    stored::OffsetsCommit {
        offset: value.offset.0,
        leader_epoch: value.leader_epoch.map(|epoch| epoch.0),
        metadata: value.metadata.clone(),
        committed_ms: value.committed_ms,
    }
}

fn read_offset(value: stored::OffsetsCommit) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(value.offset),
        leader_epoch: value.leader_epoch.map(LeaderEpoch),
        metadata: value.metadata,
        committed_ms: value.committed_ms,
    }
}

fn partitions(value: &Partitions) -> stored::OffsetsPartitions {
    let mut topics: BTreeMap<TopicId, Vec<u32>> = BTreeMap::new();
    for partition in value.iter() {
        topics
            .entry(partition.topic_id)
            .or_default()
            .push(partition.partition.0);
    }
    let topics = topics
        .into_iter()
        .map(|(id, partitions)| stored::OffsetsTopicPartitions {
            topic_id: Bytes::copy_from_slice(id.as_bytes()),
            partitions,
        });
    stored::OffsetsPartitions {
        topics: topics.collect(),
    }
}

fn read_partitions(value: Option<stored::OffsetsPartitions>) -> Result<Partitions, CodecError> {
    let mut partitions = BTreeSet::new();
    for topic in value.unwrap_or_default().topics {
        let topic_id = topic_id(&topic.topic_id)?;
        let of_topic = |partition| TopicIdPartition {
            topic_id,
            partition: PartitionIndex(partition),
        };
        partitions.extend(topic.partitions.into_iter().map(of_topic));
    }
    Ok(Arc::new(partitions))
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, CodecError> {
    TopicId::from_slice(bytes).ok_or_else(|| damaged(format!("a topic id of {} bytes", bytes.len())))
}

fn damaged(what: impl ToString) -> CodecError {
    CodecError::Damaged(what.to_string())
}
