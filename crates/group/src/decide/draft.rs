//! A group as it will be: the common part of every decision about members.
//!
//! A draft is a copy of the group to which each proposed record is replayed at once, so that the
//! next step builds on it. [`Draft::finish`] compares the outcome with what each member was last
//! told, and adds the pushes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{GroupId, PartitionError, TopicId, TopicIdPartition};

use super::Context;
use crate::assignor::{self, AssignmentSpec, MemberSpec};
use crate::command::{Decision, Effect};
use crate::ids::{AssignmentVersion, MemberEpoch, MemberId, StreamId};
use crate::record::{CurrentAssignment, GroupValue, MemberValue, Partitions, Record};
use crate::sessions::{Pushed, Session, SessionChange};
use crate::state::Group;

pub(super) struct Draft<'a> {
    context: Context<'a>,
    id: GroupId,
    pub(super) group: Group,
    decision: Decision,
    attached: Option<(MemberId, StreamId)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(context: Context<'a>, id: &GroupId) -> Self {
        let group = context.state.group(id).cloned().unwrap_or_default();
        let decision = Decision {
            group: Some(id.clone()),
            ..Decision::default()
        };
        Self {
            context,
            id: id.clone(),
            group,
            decision,
            attached: None,
        }
    }

    /// Serves a member by this stream. An older stream of it ends.
    pub(super) fn attach(&mut self, member: &MemberId, stream: StreamId) {
        let older = self.session(member).and_then(|session| session.stream);
        if let Some(older) = older.filter(|older| *older != stream) {
            self.end(older, Some(crate::errors::replaced_stream(member)));
        }
        self.decision
            .sessions
            .push(SessionChange::Attach(member.clone(), stream));
        self.attached = Some((member.clone(), stream));
    }

    pub(super) fn note(&mut self, change: SessionChange) {
        self.decision.sessions.push(change);
    }

    pub(super) fn end(&mut self, stream: StreamId, error: Option<PartitionError>) {
        self.decision.effects.push(Effect::End { stream, error });
    }

    pub(super) fn put_member(&mut self, member: &MemberId, value: MemberValue) {
        self.emit(Record::Member {
            group: self.id.clone(),
            member: member.clone(),
            value: Some(Arc::new(value)),
        });
    }

    pub(super) fn put_current(&mut self, member: &MemberId, value: CurrentAssignment) {
        self.emit(Record::Current {
            group: self.id.clone(),
            member: member.clone(),
            value: Some(Arc::new(value)),
        });
    }

    pub(super) fn put_target(&mut self, member: &MemberId, partitions: Partitions) {
        if self.group.target(member) != partitions {
            self.emit(Record::Target {
                group: self.id.clone(),
                member: member.clone(),
                value: Some(partitions),
            });
        }
    }

    /// Takes a member out: what it held is free. Its stream, if it has one, ends with `why`.
    pub(super) fn remove(&mut self, member: &MemberId, why: Option<PartitionError>) {
        let (group, member) = (self.id.clone(), member.clone());
        self.emit(Record::Current {
            group: group.clone(),
            member: member.clone(),
            value: None,
        });
        self.emit(Record::Target {
            group: group.clone(),
            member: member.clone(),
            value: None,
        });
        self.emit(Record::Member {
            group,
            member: member.clone(),
            value: None,
        });
        if let Some(stream) = self.session(&member).and_then(|session| session.stream) {
            self.end(stream, why);
        }
        self.note(SessionChange::Remove(member));
    }

    /// What a member was told to give up and does not own any more is free.
    pub(super) fn release(&mut self, member: &MemberId, owned: &BTreeSet<TopicIdPartition>) {
        let current = self.group.current(member);
        let revoking: BTreeSet<_> = current.revoking.intersection(owned).copied().collect();
        if revoking.len() < current.revoking.len() {
            self.put_current(
                member,
                CurrentAssignment {
                    revoking: Arc::new(revoking),
                    ..(*current).clone()
                },
            );
        }
    }

    /// Computes every member's target anew and raises the group epoch; where `only_if_moved`, not
    /// unless a target changes.
    pub(super) fn retarget(&mut self, only_if_moved: bool) {
        let assignor = assignor::preferred(
            self.group
                .members()
                .map(|(_, member)| member.subscription.assignor()),
        );
        let assignment = assignor::assign(assignor, &self.assignment_spec());
        let before = self.group.value();
        let moved = assignment
            .iter()
            .any(|(member, target)| *self.group.target(member) != *target);
        if only_if_moved && !moved {
            return;
        }
        let empty_since_ms = if self.group.member_count() == 0 {
            before.empty_since_ms.or(Some(self.context.now.wall_ms))
        } else {
            None
        };
        let value = GroupValue {
            epoch: before.epoch.next(),
            assignor,
            empty_since_ms,
        };
        self.emit(Record::Group {
            group: self.id.clone(),
            value: Some(value),
        });
        for (member, target) in assignment {
            self.put_target(&member, Arc::new(target));
        }
    }

    /// Moves every member towards its target as far as it goes now: first everybody gives up, then
    /// who has nothing left to give up moves to the group's epoch and gets what is free.
    pub(super) fn reconcile(&mut self) {
        let members: Vec<MemberId> = self.group.members().map(|(member, _)| member.clone()).collect();
        for member in &members {
            let (current, target) = (self.group.current(member), self.group.target(member));
            if !current.assigned.is_subset(&target) {
                let kept = current.assigned.intersection(&target).copied().collect();
                let excess = current.assigned.difference(&target);
                let revoking = current.revoking.iter().chain(excess).copied().collect();
                self.put_current(
                    member,
                    CurrentAssignment {
                        assigned: Arc::new(kept),
                        revoking: Arc::new(revoking),
                        epoch: current.epoch,
                        previous_epoch: current.previous_epoch,
                    },
                );
            }
        }
        for member in &members {
            self.advance(member);
        }
        assert!(
            self.group.has_single_owners() || mutant::is_on(Mutant::AssignBeforeRevoked),
            "a partition of group {} would have two owners (G14)",
            self.id
        );
    }

    fn advance(&mut self, member: &MemberId) {
        let (current, target) = (self.group.current(member), self.group.target(member));
        if !current.revoking.is_empty() {
            return;
        }
        let mine = |partition: &&TopicIdPartition| {
            mutant::is_on(Mutant::AssignBeforeRevoked)
                || self.group.owner(**partition).is_none_or(|owner| owner == member)
        };
        let assigned: BTreeSet<TopicIdPartition> = target.iter().filter(mine).copied().collect();
        let epoch = MemberEpoch::at(self.group.value().epoch);
        if current.epoch == epoch && *current.assigned == assigned {
            return;
        }
        let previous_epoch = if current.epoch == epoch {
            current.previous_epoch
        } else {
            current.epoch
        };
        let revoking = Partitions::default();
        self.put_current(
            member,
            CurrentAssignment {
                epoch,
                previous_epoch,
                assigned: Arc::new(assigned),
                revoking,
            },
        );
    }

    pub(super) fn has_records(&self) -> bool {
        !self.decision.records.is_empty()
    }

    /// The decision as it is, where no member's assignment was touched.
    pub(super) fn into_decision(self) -> Decision {
        self.decision
    }

    /// The decision: the records, then the pushes that follow from them.
    pub(super) fn finish(mut self) -> Decision {
        if let Some((member, stream)) = self.attached.clone() {
            let epoch = self.group.member_epoch(&member);
            self.decision.effects.push(Effect::Joined {
                stream,
                member,
                epoch,
            });
        }
        let members: Vec<(MemberId, Arc<MemberValue>)> = self
            .group
            .members()
            .map(|(member, value)| (member.clone(), Arc::clone(value)))
            .collect();
        for (member, value) in members {
            self.watch_revocation(&member, value.max_poll_interval);
            self.push(&member, &value);
        }
        self.decision
    }

    fn push(&mut self, member: &MemberId, value: &MemberValue) {
        let Some((stream, told)) = self.stream_of(member) else {
            return;
        };
        let current = self.group.current(member);
        let unknown_topics = value.subscription.unknown(self.context.topics);
        let up_to_date = told.as_ref().is_some_and(|told| {
            told.epoch == current.epoch
                && told.assigned == current.assigned
                && told.unknown_topics == unknown_topics
        });
        let told = told.unwrap_or_default();
        if up_to_date && told.revoking == current.revoking {
            return;
        }
        let version = if up_to_date {
            told.version
        } else {
            AssignmentVersion(told.version.0 + 1)
        };
        let takes_away = !current.revoking.is_subset(&told.revoking);
        if !up_to_date {
            self.decision.effects.push(Effect::Assign {
                stream,
                version,
                epoch: current.epoch,
                partitions: Arc::clone(&current.assigned),
                unknown_topics: unknown_topics.clone(),
            });
        }
        let pushed = Pushed {
            version,
            revoke_version: if takes_away { version } else { told.revoke_version },
            epoch: current.epoch,
            assigned: Arc::clone(&current.assigned),
            revoking: Arc::clone(&current.revoking),
            unknown_topics,
        };
        self.note(SessionChange::Told(member.clone(), pushed));
    }

    fn watch_revocation(&mut self, member: &MemberId, max_poll_interval: Duration) {
        let before = self
            .context
            .state
            .group(&self.id)
            .map(|group| group.current(member))
            .unwrap_or_default();
        let current = self.group.current(member);
        let running = self.session(member).and_then(|session| session.revoke_by);
        let more = !current.revoking.is_subset(&before.revoking);
        if current.revoking.is_empty() {
            if running.is_some() {
                self.note(SessionChange::RevokeBy(member.clone(), None));
            }
        } else if more || running.is_none() {
            let at = self.context.now.monotonic + max_poll_interval;
            self.note(SessionChange::RevokeBy(member.clone(), Some(at)));
        }
    }

    /// A member's stream as it will be, and what it was told there.
    fn stream_of(&self, member: &MemberId) -> Option<(StreamId, Option<Pushed>)> {
        if let Some((attached, stream)) = &self.attached
            && attached == member
        {
            return Some((*stream, None));
        }
        let session = self.session(member)?;
        Some((session.stream?, session.pushed.clone()))
    }

    fn session(&self, member: &MemberId) -> Option<&'a Session> {
        self.context.sessions.get(&self.id, member)
    }

    fn assignment_spec(&self) -> AssignmentSpec {
        let mut topics: BTreeMap<TopicId, u32> = BTreeMap::new();
        let mut members = BTreeMap::new();
        for (id, value) in self.group.members() {
            let resolved = value.subscription.resolve(self.context.topics);
            topics.extend(
                resolved
                    .iter()
                    .map(|topic| (*topic, self.context.topics.partition_count(*topic))),
            );
            let spec = MemberSpec {
                instance_id: value.instance_id.clone(),
                topics: resolved,
                previous: self.group.target(id),
            };
            members.insert(id.clone(), spec);
        }
        AssignmentSpec { members, topics }
    }

    fn emit(&mut self, record: Record) {
        self.group.replay(&record);
        self.decision.records.push(record);
    }
}
