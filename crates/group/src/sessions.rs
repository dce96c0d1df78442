//! Streams and deadlines: what a coordinator knows beside the log. Soft state: a new coordinator
//! grants every member a fresh session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::{GroupId, TopicName};

use crate::ids::{AssignmentVersion, MemberEpoch, MemberId, StreamId};
use crate::record::Partitions;

/// What a member was last told on its stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed {
    /// Which push.
    pub version: AssignmentVersion,
    /// The newest push that took something away: only an acknowledgement of it, or of a later one,
    /// proves that the member has not still to learn of an *earlier* push that gave it the very
    /// same partition.
    pub revoke_version: AssignmentVersion,
    /// The epoch told.
    pub epoch: MemberEpoch,
    /// The assignment told.
    pub assigned: Partitions,
    /// What it was giving up then.
    pub revoking: Partitions,
    /// The unknown topics told.
    pub unknown_topics: Vec<TopicName>,
}

/// A change of soft state, part of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// A member is served by this stream from now on.
    Attach(MemberId, StreamId),
    /// A stream is gone; its member's session goes on.
    Detach(StreamId),
    /// A member gave a sign of life.
    Heard(MemberId),
    /// A member was told.
    Told(MemberId, Pushed),
    /// Until when a member must have given up what it was told to; `None` if there is nothing.
    RevokeBy(MemberId, Option<Duration>),
    /// A member is gone.
    Remove(MemberId),
    /// The group's targets were looked at again after topics changed.
    TopicsSeen,
}

/// One member's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its stream, while it has one.
    pub stream: Option<StreamId>,
    /// What it was last told there.
    pub pushed: Option<Pushed>,
    /// When silence removes it.
    pub expires: Duration,
    /// When slowness in giving partitions up removes it.
    pub revoke_by: Option<Duration>,
}

impl Session {
    fn deadline(&self) -> Duration {
        self.revoke_by
            .map_or(self.expires, |revoke_by| revoke_by.min(self.expires))
    }
}

/// Every member's session, and the earliest deadline of all: a driver needs one timer.
#[derive(Debug, Default)]
pub struct Sessions {
    groups: BTreeMap<GroupId, BTreeMap<MemberId, Session>>,
    streams: BTreeMap<StreamId, (GroupId, MemberId)>,
    deadlines: BTreeSet<(Duration, GroupId, MemberId)>,
}

impl Sessions {
    /// Whose stream this is.
    pub fn stream(&self, stream: StreamId) -> Option<&(GroupId, MemberId)> {
        self.streams.get(&stream)
    }

    /// Every connected stream.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }

    /// A member's session.
    pub fn get(&self, group: &GroupId, member: &MemberId) -> Option<&Session> {
        self.groups.get(group)?.get(member)
    }

    /// The sessions of a group.
    pub fn of_group(&self, group: &GroupId) -> impl Iterator<Item = (&MemberId, &Session)> {
        self.groups.get(group).into_iter().flatten()
    }

    /// The earliest moment at which some member is to be removed.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// The members of one group that are to be removed by now.
    pub fn due(&self, now: Duration) -> Option<(GroupId, Vec<MemberId>)> {
        let (at, group, _) = self.deadlines.first()?;
        if *at > now {
            return None;
        }
        let due = self.deadlines.iter().take_while(|(at, ..)| *at <= now);
        let members = due
            .filter(|(_, of, _)| of == group)
            .map(|(.., member)| member.clone())
            .collect();
        Some((group.clone(), members))
    }

    /// Grants a member a session that it has no stream for yet.
    pub(crate) fn grant(&mut self, group: &GroupId, member: &MemberId, expires: Duration) {
        self.change(group, member, |session| session.expires = expires);
    }

    /// Grants a member that should be removed, but cannot be now, a little longer.
    pub(crate) fn postpone(&mut self, group: &GroupId, member: &MemberId, until: Duration) {
        if self.get(group, member).is_some() {
            self.change(group, member, |session| {
                session.expires = session.expires.max(until);
                session.revoke_by = session.revoke_by.map(|at| at.max(until));
            });
        }
    }

    /// Takes one change in. `expires` is when a session ends that was heard of now.
    pub(crate) fn apply(&mut self, group: &GroupId, change: SessionChange, expires: Duration) {
        match change {
            SessionChange::Attach(member, stream) => self.attach(group, &member, stream, expires),
            SessionChange::Detach(stream) => {
                if let Some((group, member)) = self.streams.remove(&stream) {
                    self.change(&group, &member, |session| {
                        session.stream = None;
                        session.pushed = None;
                    });
                }
            }
            SessionChange::Heard(member) => self.change(group, &member, |session| session.expires = expires),
            SessionChange::Told(member, pushed) => {
                self.change(group, &member, |session| session.pushed = Some(pushed));
            }
            SessionChange::RevokeBy(member, at) => {
                self.change(group, &member, |session| session.revoke_by = at);
            }
            SessionChange::Remove(member) => self.remove(group, &member),
            SessionChange::TopicsSeen => {}
        }
    }

    fn attach(&mut self, group: &GroupId, member: &MemberId, stream: StreamId, expires: Duration) {
        if let Some(older) = self.get(group, member).and_then(|session| session.stream) {
            self.streams.remove(&older);
        }
        self.streams.insert(stream, (group.clone(), member.clone()));
        self.change(group, member, |session| {
            session.stream = Some(stream);
            session.pushed = None;
            session.expires = expires;
        });
    }

    fn remove(&mut self, group: &GroupId, member: &MemberId) {
        let Some(members) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(session) = members.remove(member) {
            self.deadlines
                .remove(&(session.deadline(), group.clone(), member.clone()));
            if let Some(stream) = session.stream {
                self.streams.remove(&stream);
            }
        }
        if members.is_empty() {
            self.groups.remove(group);
        }
    }

    fn change(&mut self, group: &GroupId, member: &MemberId, change: impl FnOnce(&mut Session)) {
        let fresh = || Session {
            stream: None,
            pushed: None,
            expires: Duration::ZERO,
            revoke_by: None,
        };
        let members = self.groups.entry(group.clone()).or_default();
        let session = members.entry(member.clone()).or_insert_with(fresh);
        self.deadlines
            .remove(&(session.deadline(), group.clone(), member.clone()));
        change(session);
        self.deadlines
            .insert((session.deadline(), group.clone(), member.clone()));
    }
}
