//! What a member says on its stream after it joined. Messages of a stream that is at its end change
//! nothing: its end was told already.

use std::collections::BTreeSet;

use tidelog_types::TopicIdPartition;

use super::Context;
use super::draft::Draft;
use crate::command::{Decision, Effect};
use crate::errors;
use crate::ids::{AssignmentVersion, MemberEpoch, StreamId};
use crate::record::MemberValue;
use crate::sessions::SessionChange;
use crate::subscription::Subscription;

pub(super) fn heartbeat(context: Context<'_>, stream: StreamId, epoch: MemberEpoch) -> Decision {
    let Some((group, member)) = context.sessions.stream(stream) else {
        return Decision::default();
    };
    let held = context
        .state
        .group(group)
        .map_or(MemberEpoch::NONE, |state| state.member_epoch(member));
    let (effect, change) = if epoch > held {
        let error = Some(errors::fenced_epoch(member, epoch, held));
        (Effect::End { stream, error }, SessionChange::Detach(stream))
    } else {
        // An older epoch only says that the newest push is still on its way to the member.
        (
            Effect::HeartbeatAnswer { stream, epoch: held },
            SessionChange::Heard(member.clone()),
        )
    };
    Decision {
        effects: vec![effect],
        sessions: vec![change],
        group: Some(group.clone()),
        ..Decision::default()
    }
}

pub(super) fn revoked(
    context: Context<'_>,
    stream: StreamId,
    version: AssignmentVersion,
    owned: &BTreeSet<TopicIdPartition>,
) -> Decision {
    let Some((group, member)) = context.sessions.stream(stream) else {
        return Decision::default();
    };
    let pushed = context
        .sessions
        .get(group, member)
        .and_then(|session| session.pushed.as_ref());
    let heard = SessionChange::Heard(member.clone());
    // Of an assignment older than the one that took something away, the answer says nothing about
    // it (G14): the member may not have seen yet an assignment in between that gave it the very
    // same partition. A later answer will come.
    if pushed.is_none_or(|pushed| version < pushed.revoke_version) {
        return Decision {
            sessions: vec![heard],
            group: Some(group.clone()),
            ..Decision::default()
        };
    }
    let mut draft = Draft::new(context, group);
    draft.note(heard);
    draft.release(member, owned);
    draft.reconcile();
    draft.finish()
}

pub(super) fn subscribe(context: Context<'_>, stream: StreamId, subscription: &Subscription) -> Decision {
    let Some((group, member)) = context.sessions.stream(stream) else {
        return Decision::default();
    };
    let mut draft = Draft::new(context, group);
    draft.note(SessionChange::Heard(member.clone()));
    let before = draft.group.member(member).cloned();
    if let Some(before) = before.filter(|before| before.subscription != *subscription) {
        draft.put_member(
            member,
            MemberValue {
                subscription: subscription.clone(),
                ..(*before).clone()
            },
        );
        draft.retarget(false);
        draft.reconcile();
    }
    draft.finish()
}

pub(super) fn leave(context: Context<'_>, stream: StreamId, keep_instance: bool) -> Decision {
    let Some((group, member)) = context.sessions.stream(stream) else {
        return Decision::default();
    };
    let mut draft = Draft::new(context, group);
    let is_static = draft
        .group
        .member(member)
        .is_some_and(|value| value.instance_id.is_some());
    if keep_instance && is_static {
        draft.note(SessionChange::Heard(member.clone()));
        draft.note(SessionChange::Detach(stream));
        draft.end(stream, None);
        return draft.into_decision();
    }
    draft.remove(member, None);
    draft.retarget(false);
    draft.reconcile();
    draft.finish()
}

pub(super) fn disconnected(context: Context<'_>, stream: StreamId) -> Decision {
    let Some((group, _)) = context.sessions.stream(stream) else {
        return Decision::default();
    };
    let sessions = vec![SessionChange::Detach(stream)];
    Decision {
        sessions,
        group: Some(group.clone()),
        ..Decision::default()
    }
}
