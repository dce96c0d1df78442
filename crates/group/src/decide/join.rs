//! Joining a group, taking over a static name, and resuming a broken stream.

use tidelog_types::PartitionError;

use super::Context;
use super::draft::Draft;
use crate::command::{Decision, Effect, Join};
use crate::errors;
use crate::ids::{InstanceId, MemberEpoch, MemberId, StreamId};
use crate::limits::{DEFAULT_MAX_POLL_INTERVAL, MAX_CLIENT_NAME_BYTES, MAX_GROUPS, MAX_POLL_INTERVAL_BOUNDS};
use crate::record::{CurrentAssignment, MemberValue};
use crate::state::Group;

pub(super) fn decide(context: Context<'_>, stream: StreamId, join: &Join) -> Decision {
    let decided = if join.epoch == MemberEpoch::NONE {
        enter(context, stream, join)
    } else {
        resume(context, stream, join)
    };
    decided.unwrap_or_else(|error| Decision {
        effects: vec![Effect::End {
            stream,
            error: Some(error),
        }],
        ..Decision::default()
    })
}

/// Epoch 0: a new member, a member that starts over, or a static name's new holder.
fn enter(context: Context<'_>, stream: StreamId, join: &Join) -> Result<Decision, PartitionError> {
    let mut draft = Draft::new(context, &join.group);
    let holder = released_holder(context, &draft.group, join)?;
    if draft.group.member(&join.member).is_some() {
        return Ok(start_over(draft, stream, join, holder.as_ref()));
    }
    if let Some(holder) = holder {
        return Ok(take_over(draft, stream, join, &holder));
    }
    let max = context.config.max_members;
    if draft.group.member_count() >= max {
        return Err(errors::group_full(&join.group, max));
    }
    if context.state.group(&join.group).is_none() && context.state.group_count() >= MAX_GROUPS {
        return Err(errors::coordinator_full(MAX_GROUPS));
    }
    draft.put_member(&join.member, member_value(join));
    draft.retarget(false);
    draft.attach(&join.member, stream);
    draft.reconcile();
    Ok(draft.finish())
}

/// Who else holds the instance id that is asked for. While that member is connected, nobody takes
/// the name from it.
fn released_holder(
    context: Context<'_>,
    group: &Group,
    join: &Join,
) -> Result<Option<MemberId>, PartitionError> {
    let Some(instance) = &join.instance_id else {
        return Ok(None);
    };
    let Some(holder) = group.instance(instance).filter(|holder| **holder != join.member) else {
        return Ok(None);
    };
    let session = context.sessions.get(&join.group, holder);
    if session.is_some_and(|session| session.stream.is_some()) {
        return Err(errors::unreleased_instance(instance, holder));
    }
    Ok(Some(holder.clone()))
}

/// A member that owns nothing any more: what it held is free, and so is what the former holder of
/// its new name held. The epoch rises even if nothing moves, so that a commit of its earlier life
/// is refused.
fn start_over(mut draft: Draft<'_>, stream: StreamId, join: &Join, holder: Option<&MemberId>) -> Decision {
    if let Some(holder) = holder {
        draft.remove(holder, None);
    }
    draft.put_member(&join.member, member_value(join));
    draft.put_current(&join.member, CurrentAssignment::default());
    draft.retarget(false);
    draft.attach(&join.member, stream);
    draft.reconcile();
    draft.finish()
}

/// KIP-345: a restarted static member gets its predecessor's partitions, and nobody else notices.
fn take_over(mut draft: Draft<'_>, stream: StreamId, join: &Join, holder: &MemberId) -> Decision {
    let target = draft.group.target(holder);
    let value = member_value(join);
    let same_subscription = draft
        .group
        .member(holder)
        .is_some_and(|before| before.subscription == value.subscription);
    draft.remove(holder, None);
    draft.put_member(&join.member, value);
    draft.put_target(&join.member, target);
    if !same_subscription {
        draft.retarget(false);
    }
    draft.attach(&join.member, stream);
    draft.reconcile();
    draft.finish()
}

/// A later epoch: the stream broke, the member lives.
fn resume(context: Context<'_>, stream: StreamId, join: &Join) -> Result<Decision, PartitionError> {
    let mut draft = Draft::new(context, &join.group);
    check_identity(&draft.group, join)?;
    let current = draft.group.current(&join.member);
    let owns_within = |allowed: &dyn Fn(&_) -> bool| join.owned.iter().all(allowed);
    let accepted = if join.epoch == current.epoch {
        owns_within(&|p| current.assigned.contains(p) || current.revoking.contains(p))
    } else {
        join.epoch == current.previous_epoch && owns_within(&|p| current.assigned.contains(p))
    };
    if !accepted {
        return Err(errors::fenced_epoch(&join.member, join.epoch, current.epoch));
    }

    let value = member_value(join);
    let before = draft.group.member(&join.member).cloned();
    if before.as_deref() != Some(&value) {
        let same_subscription = before.is_some_and(|before| before.subscription == value.subscription);
        draft.put_member(&join.member, value);
        if !same_subscription {
            draft.retarget(false);
        }
    }
    draft.release(&join.member, &join.owned);
    draft.attach(&join.member, stream);
    draft.reconcile();
    Ok(draft.finish())
}

fn check_identity(group: &Group, join: &Join) -> Result<(), PartitionError> {
    let taken_by_other = |instance: &InstanceId| group.instance(instance).is_some_and(|m| *m != join.member);
    let Some(member) = group.member(&join.member) else {
        return Err(match &join.instance_id {
            Some(instance) if taken_by_other(instance) => errors::fenced_instance(instance),
            _ => errors::unknown_member(&join.group, &join.member),
        });
    };
    if member.instance_id != join.instance_id {
        let message = format!(
            "member {} resumed under another instance id than it joined with: leave and join again",
            join.member
        );
        return Err(errors::invalid_request(message));
    }
    Ok(())
}

fn member_value(join: &Join) -> MemberValue {
    let (shortest, longest) = MAX_POLL_INTERVAL_BOUNDS;
    let max_poll_interval = if join.max_poll_interval.is_zero() {
        DEFAULT_MAX_POLL_INTERVAL
    } else {
        join.max_poll_interval.clamp(shortest, longest)
    };
    MemberValue {
        instance_id: join.instance_id.clone(),
        subscription: join.subscription.clone(),
        client_id: cut(&join.client_id),
        client_host: cut(&join.client_host),
        max_poll_interval,
    }
}

fn cut(name: &str) -> String {
    let mut end = name.len().min(MAX_CLIENT_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}
