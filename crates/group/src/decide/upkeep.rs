//! What happens by itself: silence, changed topics, age.

use tidelog_types::{ErrorCode, GroupId, PartitionError, TopicIdPartition};

use super::Context;
use super::draft::Draft;
use crate::command::Decision;
use crate::ids::MemberId;
use crate::record::{CommittedOffset, Record};
use crate::sessions::SessionChange;

pub(super) fn expire_members(context: Context<'_>, group: &GroupId, members: &[MemberId]) -> Decision {
    let mut draft = Draft::new(context, group);
    for member in members {
        if draft.group.member(member).is_some() {
            draft.remove(member, Some(removed(context, group, member)));
        } else {
            draft.note(SessionChange::Remove(member.clone()));
        }
    }
    if draft.has_records() {
        draft.retarget(false);
        draft.reconcile();
    }
    draft.finish()
}

/// New targets where topics came, went or grew; and no offsets of topics that are gone.
///
/// The topics view is at least as new as this broker's leadership, and an older leader's commits
/// named only topics older than that: a topic it does not hold was deleted.
pub(super) fn topics_changed(context: Context<'_>, group: &GroupId) -> Decision {
    let mut draft = Draft::new(context, group);
    if draft.group.member_count() > 0 {
        draft.retarget(true);
        draft.reconcile();
    }
    let gone = offsets_of_deleted_topics(context, group);
    if draft.has_records() && !gone.is_empty() {
        // The group is still due: its offsets follow, as a decision that may be cut.
        return draft.finish();
    }
    draft.note(SessionChange::TopicsSeen);
    let mut decision = draft.finish();
    decision.may_be_cut = !gone.is_empty();
    decision.records.extend(gone);
    decision
}

fn offsets_of_deleted_topics(context: Context<'_>, group: &GroupId) -> Vec<Record> {
    let gone = context
        .state
        .offsets(group)
        .filter(|(partition, _)| !context.topics.contains(**partition));
    let removal = |(partition, _): (&TopicIdPartition, &CommittedOffset)| Record::Offset {
        group: group.clone(),
        partition: *partition,
        value: None,
    };
    gone.map(removal).collect()
}

pub(super) fn expire_offsets(context: Context<'_>, group: &GroupId) -> Decision {
    let mut records: Vec<Record> = Vec::new();
    let mut kept = 0_usize;
    for (partition, committed) in context.state.offsets(group) {
        if has_expired(context, group, committed) {
            records.push(Record::Offset {
                group: group.clone(),
                partition: *partition,
                value: None,
            });
        } else {
            kept += 1;
        }
    }
    if kept == 0 && group_is_old(context, group) && context.state.group(group).is_some() {
        records.push(Record::Group {
            group: group.clone(),
            value: None,
        });
    }
    Decision {
        records,
        may_be_cut: true,
        ..Decision::default()
    }
}

/// Whether a group has anything that [`expire_offsets`] would remove.
pub(crate) fn has_anything_expired(context: Context<'_>, group: &GroupId) -> bool {
    let mut offsets = context.state.offsets(group).peekable();
    if offsets.peek().is_none() {
        return group_is_old(context, group);
    }
    offsets.any(|(_, committed)| has_expired(context, group, committed))
}

/// A week after the group became empty *and* after the commit, by the moments that stand in the
/// log.
fn has_expired(context: Context<'_>, group: &GroupId, committed: &CommittedOffset) -> bool {
    let retention_ms = context.config.offsets_retention.as_millis() as i64;
    group_is_old(context, group) && context.now.wall_ms >= committed.committed_ms.saturating_add(retention_ms)
}

fn group_is_old(context: Context<'_>, group: &GroupId) -> bool {
    let retention_ms = context.config.offsets_retention.as_millis() as i64;
    match context.state.group(group) {
        None => true,
        Some(group) if group.member_count() > 0 => false,
        Some(group) => group
            .value()
            .empty_since_ms
            .is_some_and(|since| context.now.wall_ms >= since.saturating_add(retention_ms)),
    }
}

fn removed(context: Context<'_>, group: &GroupId, member: &MemberId) -> PartitionError {
    let session = context.sessions.get(group, member);
    let was_slow = session.is_some_and(|session| session.expires > context.now.monotonic);
    let why = if was_slow {
        "did not give up its partitions within max.poll.interval"
    } else {
        "was silent for the session timeout"
    };
    let message = format!("member {member} of group {group} {why} and was removed: join again");
    PartitionError::new(ErrorCode::UnknownMemberId, message)
}
