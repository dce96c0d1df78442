//! Committing offsets, fenced by member epoch (G13).

use tidelog_types::limits::{MAX_COMMIT_METADATA_BYTES, MAX_OFFSET_METADATA_BYTES};
use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{ErrorCode, GroupId, Offset, PartitionError, TopicIdPartition};

use super::Context;
use crate::command::{CommitFailure, Decision, Effect, OffsetToCommit, Reply};
use crate::errors;
use crate::ids::{MemberEpoch, MemberId, RequestId};
use crate::limits::{MAX_GROUPS, MAX_OFFSETS_PER_COMMIT};
use crate::record::{CommittedOffset, GroupValue, Record};
use crate::state::{Group, State};

pub(super) fn decide(
    context: Context<'_>,
    request: RequestId,
    group: &GroupId,
    member: Option<&(MemberId, MemberEpoch)>,
    offsets: &[OffsetToCommit],
) -> Decision {
    let checked = check_sizes(offsets)
        .and_then(|()| check_committer(context.state, group, member))
        .and_then(|()| check_group_count(context, group, offsets));
    if let Err(error) = checked {
        return reply(request, Vec::new(), Err(error));
    }
    let mut records = Vec::new();
    let mut failures = Vec::new();
    let owner = |partition| {
        context
            .state
            .group(group)
            .and_then(|group: &Group| group.owner(partition))
    };
    for wanted in offsets {
        match check_offset(context, wanted, member.map(|(member, _)| member), &owner) {
            Ok(partition) => records.push(Record::Offset {
                group: group.clone(),
                partition,
                value: Some(CommittedOffset {
                    offset: wanted.offset,
                    leader_epoch: wanted.leader_epoch,
                    metadata: wanted.metadata.clone(),
                    committed_ms: context.now.wall_ms,
                }),
            }),
            Err(error) => failures.push(CommitFailure {
                topic: wanted.topic.clone(),
                partition: wanted.partition,
                error,
            }),
        }
    }
    if !records.is_empty() && context.state.group(group).is_none() {
        // A group that only ever commits: it is empty from its first commit on.
        let value = GroupValue {
            epoch: crate::GroupEpoch(0),
            assignor: crate::AssignorName::default(),
            empty_since_ms: Some(context.now.wall_ms),
        };
        records.insert(
            0,
            Record::Group {
                group: group.clone(),
                value: Some(value),
            },
        );
    }
    reply(request, records, Ok(failures))
}

/// Who may commit for a group: a member at its own epoch, or anybody while there are no members.
pub(crate) fn check_committer(
    state: &State,
    group: &GroupId,
    member: Option<&(MemberId, MemberEpoch)>,
) -> Result<(), PartitionError> {
    let known = state.group(group);
    let Some((member, epoch)) = member else {
        let member_count = known.map_or(0, Group::member_count);
        return if member_count == 0 {
            Ok(())
        } else {
            Err(errors::members_present(group, member_count))
        };
    };
    let known = known
        .filter(|known| known.member(member).is_some())
        .ok_or_else(|| errors::unknown_member(group, member))?;
    let held = known.member_epoch(member);
    match epoch.cmp(&held) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less if mutant::is_on(Mutant::AcceptOldMemberEpoch) => Ok(()),
        std::cmp::Ordering::Less => Err(errors::stale_epoch(member, *epoch, held)),
        std::cmp::Ordering::Greater => Err(errors::fenced_epoch(member, *epoch, held)),
    }
}

fn check_sizes(offsets: &[OffsetToCommit]) -> Result<(), PartitionError> {
    if offsets.len() > MAX_OFFSETS_PER_COMMIT {
        let message = format!(
            "a commit names {} partitions, at most {MAX_OFFSETS_PER_COMMIT} are allowed: split it",
            offsets.len()
        );
        return Err(errors::invalid_request(message));
    }
    let metadata: usize = offsets.iter().map(|offset| offset.metadata.len()).sum();
    if metadata > MAX_COMMIT_METADATA_BYTES && offsets.len() > 1 {
        let message = format!(
            "a commit carries {metadata} bytes of metadata, at most {MAX_COMMIT_METADATA_BYTES} are allowed: split it"
        );
        return Err(errors::invalid_request(message));
    }
    Ok(())
}

fn check_group_count(
    context: Context<'_>,
    group: &GroupId,
    offsets: &[OffsetToCommit],
) -> Result<(), PartitionError> {
    let is_new = !offsets.is_empty() && context.state.group(group).is_none();
    if is_new && context.state.group_count() >= MAX_GROUPS {
        return Err(errors::coordinator_full(MAX_GROUPS));
    }
    Ok(())
}

fn check_offset<'a>(
    context: Context<'_>,
    wanted: &OffsetToCommit,
    member: Option<&MemberId>,
    owner: &dyn Fn(TopicIdPartition) -> Option<&'a MemberId>,
) -> Result<TopicIdPartition, PartitionError> {
    let partition = context
        .topics
        .resolve(&wanted.topic, wanted.topic_id, wanted.partition)?;
    if wanted.metadata.len() > MAX_OFFSET_METADATA_BYTES {
        let message = format!(
            "the metadata of {}-{} has {} bytes, at most {MAX_OFFSET_METADATA_BYTES} are allowed",
            wanted.topic,
            wanted.partition,
            wanted.metadata.len()
        );
        return Err(PartitionError::new(ErrorCode::OffsetMetadataTooLarge, message));
    }
    if wanted.offset > Offset::MAX {
        let message = format!(
            "offset {} of {}-{} is too large",
            wanted.offset, wanted.topic, wanted.partition
        );
        return Err(errors::invalid_request(message));
    }
    match (member, owner(partition)) {
        // Kafka trusts the member here. We know who owns the partition, so a member that gave it up
        // cannot move its new owner's offset back (G12).
        (Some(member), Some(owner)) if owner != member => Err(errors::not_owner(member, owner)),
        // By its name alone a partition that nobody owns may be that of a topic which was made anew
        // since the member read the old one.
        (Some(member), None) if wanted.topic_id.is_none() => Err(errors::nobodys(member)),
        _ => Ok(partition),
    }
}

fn reply(
    request: RequestId,
    records: Vec<Record>,
    result: Result<Vec<CommitFailure>, PartitionError>,
) -> Decision {
    let effects = vec![Effect::Reply {
        request,
        reply: Reply::Committed(result),
    }];
    Decision {
        records,
        effects,
        ..Decision::default()
    }
}
