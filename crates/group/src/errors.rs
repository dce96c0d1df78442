//! The refusals, in words: what happened, to what, and what to do.

use tidelog_types::{ErrorCode, GroupId, PartitionError};

use crate::ids::{InstanceId, MemberEpoch, MemberId};

pub(crate) fn unknown_member(group: &GroupId, member: &MemberId) -> PartitionError {
    let message =
        format!("group {group} has no member {member}: it left or was removed for silence; join again");
    PartitionError::new(ErrorCode::UnknownMemberId, message)
}

pub(crate) fn fenced_epoch(member: &MemberId, sent: MemberEpoch, held: MemberEpoch) -> PartitionError {
    let message = format!(
        "member {member} came with epoch {sent} and is at epoch {held}: give up every partition and join again"
    );
    PartitionError::new(ErrorCode::FencedMemberEpoch, message)
}

pub(crate) fn stale_epoch(member: &MemberId, sent: MemberEpoch, held: MemberEpoch) -> PartitionError {
    let message = format!(
        "member {member} came with epoch {sent} and is at epoch {held}: ask again with the new one, for what it still owns"
    );
    PartitionError::new(ErrorCode::StaleMemberEpoch, message)
}

pub(crate) fn replaced_stream(member: &MemberId) -> PartitionError {
    let message = format!("a newer stream took over member {member}: this one is at its end");
    PartitionError::new(ErrorCode::FencedMemberEpoch, message)
}

pub(crate) fn not_owner(member: &MemberId, owner: &MemberId) -> PartitionError {
    let message =
        format!("member {member} may not commit this partition: member {owner} owns it now; forget it");
    PartitionError::new(ErrorCode::FencedMemberEpoch, message)
}

pub(crate) fn nobodys(member: &MemberId) -> PartitionError {
    let message = format!(
        "member {member} may not commit this partition without the topic's id: nobody owns it; forget it, or name the id"
    );
    PartitionError::new(ErrorCode::FencedMemberEpoch, message)
}

pub(crate) fn unreleased_instance(instance: &InstanceId, holder: &MemberId) -> PartitionError {
    let message =
        format!("instance id {instance} is held by member {holder}, which is connected: stop that one first");
    PartitionError::new(ErrorCode::UnreleasedInstanceId, message)
}

pub(crate) fn fenced_instance(instance: &InstanceId) -> PartitionError {
    let message = format!("another member took over instance id {instance}: stop, or use another one");
    PartitionError::new(ErrorCode::FencedInstanceId, message)
}

pub(crate) fn group_full(group: &GroupId, max: usize) -> PartitionError {
    let message = format!("group {group} has {max} members, which is the most: use fewer, or another group");
    PartitionError::new(ErrorCode::GroupMaxSizeReached, message)
}

pub(crate) fn coordinator_full(max: usize) -> PartitionError {
    let message =
        format!("this coordinator has {max} groups, which is the most: delete groups that are done");
    PartitionError::new(ErrorCode::GroupMaxSizeReached, message)
}

pub(crate) fn group_not_found(group: &GroupId) -> PartitionError {
    PartitionError::new(ErrorCode::GroupIdNotFound, format!("there is no group {group}"))
}

pub(crate) fn non_empty_group(group: &GroupId, member_count: usize) -> PartitionError {
    let message = format!(
        "group {group} has {member_count} members: stop them first, or wait until their sessions end"
    );
    PartitionError::new(ErrorCode::NonEmptyGroup, message)
}

pub(crate) fn members_present(group: &GroupId, member_count: usize) -> PartitionError {
    let message = format!(
        "group {group} has {member_count} members: only they may commit; stop them first to set offsets by hand"
    );
    PartitionError::new(ErrorCode::UnknownMemberId, message)
}

pub(crate) fn invalid_request(message: String) -> PartitionError {
    PartitionError::new(ErrorCode::InvalidRequest, message)
}
