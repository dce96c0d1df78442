//! The Groups service, as far as it is unary: coordinators, lists, descriptions, offsets.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_types::{PartitionIndex, TopicId, TopicPartition};

use super::session::{Assigned, by_topic};
use super::{
    Refusal, accepted, hint, id_bytes, malformed, next_page, request, status_error, topic_partition,
};
use crate::admin::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
use crate::connection::Channel;
use crate::error::{Error, Result};
use crate::metadata::LeaderHint;

/// Most offsets in one commit; brokers take a few thousand.
pub(crate) const MAX_OFFSETS_PER_REQUEST: usize = 1_000;

pub(super) fn client(channel: Channel) -> GroupsClient<Channel> {
    GroupsClient::new(channel).max_decoding_message_size(tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES)
}

/// Who coordinates a group, as the asked broker knows.
pub(crate) async fn find_coordinator(
    channel: Channel,
    group: &str,
    timeout: Duration,
) -> Result<LeaderHint, Refusal> {
    let message = v1::FindCoordinatorRequest {
        group_ids: vec![group.to_owned()],
    };
    let asked = client(channel).find_coordinator(request(message, timeout)).await;
    let answer = asked
        .map_err(|status| Refusal::new(status_error(&status)))?
        .into_inner();
    let found = answer.coordinators.into_iter().next();
    let found = found.ok_or_else(|| Refusal::new(malformed("a coordinator")))?;
    if let Some(error) = found.error {
        return Err(error.into());
    }
    let coordinator = found.coordinator.and_then(hint);
    coordinator.ok_or_else(|| Refusal::new(malformed("a coordinator's id")))
}

/// Who commits or asks: a member at its epoch, or nobody in particular.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committer {
    pub(crate) member_id: String,
    pub(crate) member_epoch: u32,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetToCommit {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) offset: u64,
    pub(crate) leader_epoch: Option<u32>,
    pub(crate) metadata: String,
}

/// Commits; answers the partitions that were refused.
pub(crate) async fn commit(
    channel: Channel,
    group: &str,
    committer: Committer,
    offsets: Vec<OffsetToCommit>,
    timeout: Duration,
) -> Result<Vec<(TopicPartition, Error)>, Refusal> {
    let offset = |offset: OffsetToCommit| v1::OffsetToCommit {
        topic: offset.partition.topic.into(),
        partition: offset.partition.partition.0,
        topic_id: offset.topic_id.map(id_bytes),
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
    };
    let message = v1::CommitRequest {
        group_id: group.to_owned(),
        member_id: committer.member_id,
        member_epoch: committer.member_epoch,
        offsets: offsets.into_iter().map(offset).collect(),
    };
    let asked = client(channel).commit(request(message, timeout)).await;
    let answer = asked
        .map_err(|status| Refusal::new(status_error(&status)))?
        .into_inner();
    if let Some(error) = answer.error {
        return Err(error.into());
    }
    let failure = |failure: v1::CommitFailure| {
        let partition = topic_partition(&failure.topic, failure.partition)?;
        Ok((partition, Refusal::from(failure.error.unwrap_or_default()).error))
    };
    answer
        .failures
        .into_iter()
        .map(failure)
        .collect::<Result<_>>()
        .map_err(Refusal::new)
}

/// What a group committed: of these partitions, or of all if there are none.
pub(crate) async fn offsets(
    channel: Channel,
    group: &str,
    committer: Committer,
    partitions: &BTreeSet<Assigned>,
    timeout: Duration,
) -> Result<Vec<CommittedOffset>, Refusal> {
    let mut message = v1::OffsetsRequest {
        group_id: group.to_owned(),
        member_id: committer.member_id,
        member_epoch: committer.member_epoch,
        partitions: by_topic(partitions),
        page: None,
    };
    let mut client = client(channel);
    let mut offsets = Vec::new();
    loop {
        let asked = client.offsets(request(message.clone(), timeout)).await;
        let answer = asked
            .map_err(|status| Refusal::new(status_error(&status)))?
            .into_inner();
        if let Some(error) = answer.error {
            return Err(error.into());
        }
        for offset in answer.offsets {
            offsets.push(committed(offset).map_err(Refusal::new)?);
        }
        message.page = next_page(answer.next_token);
        if message.page.is_none() {
            return Ok(offsets);
        }
    }
}

/// One page of the groups that a broker coordinates, and the token of the next; empty after the
/// last.
pub(crate) async fn list(
    channel: Channel,
    token: String,
    timeout: Duration,
) -> Result<(Vec<GroupListing>, String)> {
    let page = Some(v1::PageRequest { size: 0, token });
    let asked = client(channel)
        .list(request(v1::ListGroupsRequest { page }, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    accepted(answer.error)?;
    let listing = |told: v1::GroupSummary| GroupListing {
        group_id: told.group_id,
        state: told.state,
        members: told.members,
    };
    Ok((
        answer.groups.into_iter().map(listing).collect(),
        answer.next_token,
    ))
}

pub(crate) async fn describe(
    channel: Channel,
    group: &str,
    timeout: Duration,
) -> Result<GroupDescription, Refusal> {
    let mut message = v1::DescribeGroupRequest {
        group_id: group.to_owned(),
        page: None,
    };
    let mut client = client(channel);
    let mut whole: Option<v1::DescribeGroupResponse> = None;
    loop {
        let asked = client.describe(request(message.clone(), timeout)).await;
        let mut answer = asked
            .map_err(|status| Refusal::new(status_error(&status)))?
            .into_inner();
        if let Some(error) = answer.error {
            return Err(error.into());
        }
        message.page = next_page(std::mem::take(&mut answer.next_token));
        let whole = match &mut whole {
            None => whole.insert(answer),
            Some(whole) => {
                whole.members.append(&mut answer.members);
                whole.offsets.append(&mut answer.offsets);
                whole
            }
        };
        if message.page.is_none() {
            return described(std::mem::take(whole)).map_err(Refusal::new);
        }
    }
}

fn described(answer: v1::DescribeGroupResponse) -> Result<GroupDescription> {
    let member = |told: v1::GroupMember| {
        Ok(GroupMember {
            member_id: told.member_id,
            instance_id: told.instance_id,
            client_id: told.client_id,
            client_host: told.client_host,
            member_epoch: told.member_epoch,
            assigned: partitions(&told.assigned)?,
            target: partitions(&told.target)?,
            topics: told.topics,
            topic_regex: told.topic_regex,
        })
    };
    Ok(GroupDescription {
        group_id: answer.group_id,
        state: answer.state,
        assignor: answer.assignor,
        group_epoch: answer.group_epoch,
        members: answer.members.into_iter().map(member).collect::<Result<_>>()?,
        offsets: answer.offsets.into_iter().map(committed).collect::<Result<_>>()?,
    })
}

pub(crate) async fn delete(channel: Channel, group: &str, timeout: Duration) -> Result<(), Refusal> {
    let message = v1::DeleteGroupRequest {
        group_id: group.to_owned(),
    };
    let asked = client(channel).delete(request(message, timeout)).await;
    let answer = asked
        .map_err(|status| Refusal::new(status_error(&status)))?
        .into_inner();
    answer.error.map_or(Ok(()), |error| Err(error.into()))
}

fn committed(told: v1::CommittedOffset) -> Result<CommittedOffset> {
    Ok(CommittedOffset {
        partition: topic_partition(&told.topic, told.partition)?,
        topic_id: TopicId::from_slice(&told.topic_id),
        offset: told.offset,
        leader_epoch: told.leader_epoch,
        metadata: told.metadata,
        committed_ms: told.committed_ms,
    })
}

/// The partitions of a message, in order.
pub(super) fn partitions(told: &[v1::TopicPartitions]) -> Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for told in told {
        let topic: tidelog_types::TopicName = told.topic.parse().map_err(|_| malformed("a topic's name"))?;
        partitions.extend(told.partitions.iter().map(|partition| TopicPartition {
            topic: topic.clone(),
            partition: PartitionIndex(*partition),
        }));
    }
    partitions.sort_unstable();
    Ok(partitions)
}
