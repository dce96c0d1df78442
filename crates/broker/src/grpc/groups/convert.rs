//! Messages of groups to domain types and back. What comes in is checked here, for size as for
//! shape.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidelog_group::{
    CommitFailure, GroupDescription, GroupSummary, Join, MemberDescription, MemberEpoch, MemberId,
    NamedOffset, OffsetToCommit, Subscription, Topics, limits,
};
use tidelog_proto::v1;
use tidelog_types::limits::MAX_PARTITIONS_PER_REQUEST;
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicId, TopicIdPartition,
    TopicName,
};

use crate::grpc::topic_id;

pub(super) fn group_id(id: &str) -> Result<GroupId, PartitionError> {
    id.parse().map_err(invalid)
}

/// A member that a request comes from; `None` for one that is no member.
pub(super) fn member(id: &str, epoch: u32) -> Result<Option<(MemberId, MemberEpoch)>, PartitionError> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(Some((id.parse().map_err(invalid)?, MemberEpoch(epoch))))
}

pub(super) fn join(
    join: v1::Join,
    fresh_member_id: String,
    client_host: String,
    topics: &Topics,
) -> Result<Join, PartitionError> {
    if join.member_id.is_empty() && join.member_epoch != 0 {
        return Err(invalid("a member resumes under its id: it must name it"));
    }
    let member = if join.member_id.is_empty() {
        fresh_member_id
    } else {
        join.member_id
    };
    Ok(Join {
        group: group_id(&join.group_id)?,
        member: member.parse().map_err(invalid)?,
        epoch: MemberEpoch(join.member_epoch),
        instance_id: join
            .instance_id
            .map(|id| id.parse().map_err(invalid))
            .transpose()?,
        subscription: subscription(join.subscription.unwrap_or_default())?,
        owned: partitions(&join.owned, topics)?.into_iter().collect(),
        client_id: join.client_id,
        client_host,
        max_poll_interval: Duration::from_millis(join.max_poll_interval_ms.into()),
    })
}

pub(super) fn subscription(subscribe: v1::Subscribe) -> Result<Subscription, PartitionError> {
    let bad = |error| PartitionError::new(ErrorCode::InvalidTopicException, format!("{error}"));
    let topics: Result<BTreeSet<TopicName>, PartitionError> = subscribe
        .topics
        .iter()
        .take(limits::MAX_SUBSCRIBED_TOPICS + 1)
        .map(|name| name.parse().map_err(bad))
        .collect();
    Subscription::new(topics?, subscribe.topic_regex, subscribe.assignor.parse()?)
}

/// Partitions by topic id, or by name where no id is given. Of topics that are gone nothing is left
/// to speak of.
pub(super) fn partitions(
    named: &[v1::TopicPartitions],
    topics: &Topics,
) -> Result<Vec<TopicIdPartition>, PartitionError> {
    let count: usize = named.iter().map(|topic| topic.partitions.len()).sum();
    if count > MAX_PARTITIONS_PER_REQUEST || named.len() > MAX_PARTITIONS_PER_REQUEST {
        return Err(invalid(format!(
            "{count} partitions in one request, at most {MAX_PARTITIONS_PER_REQUEST} are allowed"
        )));
    }
    let mut partitions = Vec::with_capacity(count);
    for topic in named {
        let by_name = || {
            topic
                .topic
                .parse()
                .ok()
                .and_then(|name| topics.get(&name))
                .map(|topic| topic.id)
        };
        let named = (!topic.topic_id.is_empty()).then_some(&*topic.topic_id);
        let Some(topic_id) = topic_id(named)?.or_else(by_name) else {
            continue;
        };
        let of_topic = |partition: &u32| TopicIdPartition {
            topic_id,
            partition: PartitionIndex(*partition),
        };
        partitions.extend(topic.partitions.iter().map(of_topic));
    }
    Ok(partitions)
}

/// Offsets to commit. A name or id that no topic can have is a mistake of the whole request.
pub(super) fn offsets_to_commit(
    offsets: Vec<v1::OffsetToCommit>,
) -> Result<Vec<OffsetToCommit>, PartitionError> {
    let to_commit = |offset: v1::OffsetToCommit| -> Result<OffsetToCommit, PartitionError> {
        let bad = |error| PartitionError::new(ErrorCode::InvalidTopicException, format!("{error}"));
        Ok(OffsetToCommit {
            topic: offset.topic.parse().map_err(bad)?,
            topic_id: topic_id(offset.topic_id.as_deref())?,
            partition: PartitionIndex(offset.partition),
            offset: Offset(offset.offset),
            leader_epoch: offset.leader_epoch.map(LeaderEpoch),
            metadata: offset.metadata,
        })
    };
    if offsets.len() > limits::MAX_OFFSETS_PER_COMMIT {
        let most = limits::MAX_OFFSETS_PER_COMMIT;
        return Err(invalid(format!(
            "{} offsets in one commit, at most {most} are allowed: split it",
            offsets.len()
        )));
    }
    offsets.into_iter().map(to_commit).collect()
}

pub(super) fn failure(failure: CommitFailure) -> v1::CommitFailure {
    v1::CommitFailure {
        topic: failure.topic.to_string(),
        partition: failure.partition.0,
        error: Some(failure.error.into()),
    }
}

pub(super) fn committed(found: NamedOffset) -> v1::CommittedOffset {
    let NamedOffset {
        partition,
        topic_id,
        committed,
    } = found;
    v1::CommittedOffset {
        topic: partition.topic.to_string(),
        topic_id: Bytes::copy_from_slice(topic_id.as_bytes()),
        partition: partition.partition.0,
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch.map(|epoch| epoch.0),
        metadata: committed.metadata,
        committed_ms: committed.committed_ms,
    }
}

pub(super) fn summary(summary: GroupSummary) -> v1::GroupSummary {
    v1::GroupSummary {
        group_id: summary.group.to_string(),
        state: summary.phase.name().to_owned(),
        members: summary.member_count as u32,
    }
}

/// What is told of the group itself, beside its members and offsets.
pub(super) fn description(group: &str, description: &GroupDescription) -> v1::DescribeGroupResponse {
    v1::DescribeGroupResponse {
        group_id: group.to_owned(),
        state: description.phase.name().to_owned(),
        assignor: description.assignor.to_string(),
        group_epoch: description.epoch.0,
        ..Default::default()
    }
}

pub(super) fn group_member(member: &MemberDescription, topics: &Topics) -> v1::GroupMember {
    let subscription = &member.value.subscription;
    v1::GroupMember {
        member_id: member.member.to_string(),
        instance_id: member.value.instance_id.as_ref().map(ToString::to_string),
        client_id: member.value.client_id.clone(),
        client_host: member.value.client_host.clone(),
        member_epoch: member.epoch.0,
        assigned: by_topic(&member.owned, topics),
        target: by_topic(&member.target, topics),
        topics: subscription.topics().iter().map(ToString::to_string).collect(),
        topic_regex: subscription.regex().map(str::to_owned),
    }
}

/// Partitions as members read them. Those of a topic that was deleted meanwhile are left out: a
/// push without them follows anyway.
pub(super) fn by_topic(partitions: &BTreeSet<TopicIdPartition>, topics: &Topics) -> Vec<v1::TopicPartitions> {
    let mut grouped: BTreeMap<TopicId, Vec<u32>> = BTreeMap::new();
    for partition in partitions {
        grouped
            .entry(partition.topic_id)
            .or_default()
            .push(partition.partition.0);
    }
    let named = grouped.into_iter().filter_map(|(id, partitions)| {
        let topic = topics.name(id)?.to_string();
        Some(v1::TopicPartitions {
            topic,
            topic_id: Bytes::copy_from_slice(id.as_bytes()),
            partitions,
        })
    });
    named.collect()
}

fn invalid(what: impl ToString) -> PartitionError {
    PartitionError::new(ErrorCode::InvalidRequest, what.to_string())
}
