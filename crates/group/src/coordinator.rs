//! The coordinator as a whole: two replays of one log, and what waits between them.
//!
//! ```text
//!      committed                     latest
//!          │  pending: records + effects │
//!   ───────┼─────────────────────────────┤  __consumer_offsets-N
//!     high watermark                 log end
//! ```
//!
//! *Latest* has everything that was appended, and is what decisions build on; so appends are
//! pipelined and a slow one holds nobody up. *Committed* has what the high watermark covers, and is
//! all that reads answer from. Effects wait in order until the high watermark covers whatever they
//! build on, an empty decision's too: a refusal may rest on a record that is not replicated yet.
//!
//! Nothing is ever rolled back in place. A decision that could not be appended was never replayed:
//! it is dropped. A record that was appended is either covered one day or lost with this broker's
//! leadership, and then the whole coordinator is dropped and the next one replays the log. The
//! price is that state is held twice; large values are shared by `Arc` between the two.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelog_coordinator::{Machine, Now, Refusal, Refused};
use tidelog_types::{GroupId, Offset, PartitionError, TopicId, TopicIdPartition, TopicPartition};

use crate::command::{Command, Decision, Effect, Reply};
use crate::config::GroupConfig;
use crate::decide::{self, Context};
use crate::errors;
use crate::ids::{GroupEpoch, MemberEpoch, MemberId, RequestId};
use crate::limits::{EXPIRY_CHECK_INTERVAL, RETRY_AFTER};
use crate::record::{CommittedOffset, MemberValue, Partitions, Record};
use crate::refusals;
use crate::sessions::{SessionChange, Sessions};
use crate::state::{GroupPhase, State};
use crate::topics::Topics;

/// The coordinator of one partition of `__consumer_offsets`, for one leadership.
///
/// It is a [`Machine`], and [`tidelog_coordinator::Turn`] drives it.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
    topics: Arc<Topics>,
    latest: State,
    committed: State,
    pending: VecDeque<Pending>,
    end: Offset,
    high_watermark: Offset,
    sessions: Sessions,
    upkeep: Upkeep,
}

#[derive(Debug)]
struct Pending {
    end: Offset,
    records: Vec<Record>,
    effects: Vec<Effect>,
}

/// Work that no client asked for.
#[derive(Debug, Default)]
struct Upkeep {
    topics_changed: BTreeSet<GroupId>,
    topics_not_before: Duration,
    to_expire: BTreeSet<GroupId>,
    next_check: Duration,
}

impl Coordinator {
    /// An empty coordinator. `topics` must be at least as new as the leadership it is for.
    pub fn new(config: GroupConfig, topics: Arc<Topics>) -> Self {
        Self {
            config,
            topics,
            latest: State::default(),
            committed: State::default(),
            pending: VecDeque::new(),
            end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            sessions: Sessions::default(),
            upkeep: Upkeep::default(),
        }
    }

    /// Topics changed. What follows for groups comes from [`Self::due`].
    pub fn set_topics(&mut self, topics: Arc<Topics>) {
        let before = std::mem::replace(&mut self.topics, topics);
        let changed = self.topics.changed_since(&before);
        if changed.is_empty() {
            return;
        }
        let covers = |value: &MemberValue| changed.iter().any(|name| value.subscription.covers(name));
        let concerned = self
            .latest
            .groups()
            .filter(|(_, group)| group.members().any(|(_, value)| covers(value)))
            .map(|(id, _)| id.clone());
        self.upkeep.topics_changed.extend(concerned);
        let lost = |id: &&GroupId| self.latest.offsets(id).any(|(p, _)| !self.topics.contains(*p));
        let bereft: Vec<GroupId> = self.latest.groups_with_offsets().filter(lost).cloned().collect();
        self.upkeep.topics_changed.extend(bereft);
    }

    /// The replicated state.
    pub fn committed(&self) -> &State {
        &self.committed
    }

    /// The state with everything appended.
    pub fn latest(&self) -> &State {
        &self.latest
    }

    /// Streams, sessions and deadlines.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The topics it assigns.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Committed offsets of a group: of these partitions, or all. For a member fenced as a commit
    /// is.
    pub fn offsets(
        &self,
        group: &GroupId,
        member: Option<&(MemberId, MemberEpoch)>,
        partitions: Option<&[TopicIdPartition]>,
    ) -> Result<Vec<NamedOffset>, PartitionError> {
        if member.is_some() {
            decide::check_committer(&self.committed, group, member)?;
        }
        let named = |partition: &TopicIdPartition, offset: &CommittedOffset| {
            let topic = self.topics.name(partition.topic_id)?.clone();
            Some(NamedOffset {
                partition: TopicPartition {
                    topic,
                    partition: partition.partition,
                },
                topic_id: partition.topic_id,
                committed: offset.clone(),
            })
        };
        Ok(match partitions {
            None => self
                .committed
                .offsets(group)
                .filter_map(|(p, offset)| named(p, offset))
                .collect(),
            Some(wanted) => wanted
                .iter()
                .filter_map(|p| named(p, self.committed.offset(group, *p)?))
                .collect(),
        })
    }

    /// At most `max` groups whose ids follow `after`, by id.
    pub fn list(&self, after: Option<&GroupId>, max: usize) -> Vec<GroupSummary> {
        self.committed
            .groups_after(after)
            .take(max)
            .map(|(id, group)| GroupSummary {
                group: id.clone(),
                phase: group.phase(),
                member_count: group.member_count(),
            })
            .collect()
    }

    /// A group in full. GROUP_ID_NOT_FOUND if there is none.
    pub fn describe(&self, id: &GroupId) -> Result<GroupDescription, PartitionError> {
        let group = self
            .committed
            .group(id)
            .ok_or_else(|| errors::group_not_found(id))?;
        let member = |(member, value): (&MemberId, &Arc<MemberValue>)| {
            let current = group.current(member);
            MemberDescription {
                member: member.clone(),
                value: Arc::clone(value),
                epoch: current.epoch,
                owned: Arc::new(current.assigned.union(&current.revoking).copied().collect()),
                target: group.target(member),
            }
        };
        Ok(GroupDescription {
            phase: group.phase(),
            epoch: group.value().epoch,
            assignor: group.value().assignor,
            members: group.members().map(member).collect(),
            offsets: self.offsets(id, None, None)?,
        })
    }

    fn expired_groups(&self, now: Now) -> BTreeSet<GroupId> {
        let known = self
            .latest
            .groups()
            .map(|(id, _)| id)
            .chain(self.latest.groups_with_offsets());
        known
            .filter(|id| decide::has_anything_expired(self.context(now), id))
            .cloned()
            .collect()
    }

    fn context(&self, now: Now) -> Context<'_> {
        Context {
            config: &self.config,
            topics: &self.topics,
            state: &self.latest,
            sessions: &self.sessions,
            now,
        }
    }
}

impl Machine for Coordinator {
    type Command = Command;
    type Record = Record;
    type Decision = Decision;
    type Effect = Effect;

    fn replay(&mut self, record: &Record) {
        self.committed.replay(record);
    }

    fn start(&mut self, end: Offset, now: Now) {
        self.latest = self.committed.clone();
        (self.end, self.high_watermark) = (end, end);
        let expires = now.monotonic + self.config.session_timeout;
        for (id, group) in self.latest.groups() {
            for (member, value) in group.members() {
                self.sessions.grant(id, member, expires);
                if !group.current(member).revoking.is_empty() {
                    let by = Some(now.monotonic + value.max_poll_interval);
                    self.sessions
                        .apply(id, SessionChange::RevokeBy(member.clone(), by), expires);
                }
            }
            self.upkeep.topics_changed.insert(id.clone());
        }
        self.upkeep
            .topics_changed
            .extend(self.latest.groups_with_offsets().cloned());
        self.upkeep.next_check = now.monotonic + EXPIRY_CHECK_INTERVAL;
    }

    fn decide(&self, command: &Command, now: Now) -> Decision {
        decide::decide(self.context(now), command)
    }

    fn records(decision: &Decision) -> &[Record] {
        &decision.records
    }

    fn may_be_cut(decision: &Decision) -> bool {
        decision.may_be_cut
    }

    fn first_records(decision: Decision, count: usize) -> Decision {
        decision.first_records(count)
    }

    fn apply(&mut self, decision: Decision, end: Option<Offset>, now: Now) {
        assert_eq!(
            decision.records.is_empty(),
            end.is_none(),
            "an end offset belongs to appended records"
        );
        if let Some(end) = end {
            assert!(
                end > self.end,
                "appended records end at {end}, not after {}",
                self.end
            );
            self.end = end;
        }
        for record in &decision.records {
            self.latest.replay(record);
        }
        if let Some(group) = decision.group {
            let expires = now.monotonic + self.config.session_timeout;
            for change in decision.sessions {
                if change == SessionChange::TopicsSeen {
                    self.upkeep.topics_changed.remove(&group);
                }
                self.sessions.apply(&group, change, expires);
            }
        }
        if !decision.records.is_empty() || !decision.effects.is_empty() {
            let (records, effects) = (decision.records, decision.effects);
            self.pending.push_back(Pending {
                end: self.end,
                records,
                effects,
            });
        }
    }

    fn advance(&mut self, high_watermark: Offset) -> Vec<Effect> {
        self.high_watermark = self.high_watermark.max(high_watermark);
        let mut effects = Vec::new();
        while let Some(pending) = self
            .pending
            .pop_front_if(|pending| pending.end <= self.high_watermark)
        {
            for record in &pending.records {
                self.committed.replay(record);
            }
            effects.extend(pending.effects);
        }
        effects
    }

    fn pending_count(&self) -> usize {
        self.pending.len()
    }

    fn due(&mut self, now: Now) -> Option<Command> {
        if let Some((group, members)) = self.sessions.due(now.monotonic) {
            return Some(Command::Expire { group, members });
        }
        if now.monotonic >= self.upkeep.topics_not_before
            && let Some(group) = self.upkeep.topics_changed.first()
        {
            return Some(Command::TopicsChanged { group: group.clone() });
        }
        if now.monotonic >= self.upkeep.next_check {
            self.upkeep.next_check = now.monotonic + EXPIRY_CHECK_INTERVAL;
            self.upkeep.to_expire = self.expired_groups(now);
        }
        self.upkeep
            .to_expire
            .pop_first()
            .map(|group| Command::ExpireOffsets { group })
    }

    fn postpone(&mut self, command: &Command, now: Now) {
        let until = now.monotonic + RETRY_AFTER;
        match command {
            Command::Expire { group, members } => {
                for member in members {
                    self.sessions.postpone(group, member, until);
                }
            }
            Command::TopicsChanged { .. } => self.upkeep.topics_not_before = until,
            // Age waits for the next check.
            _ => {}
        }
    }

    fn next_deadline(&self) -> Duration {
        let topics = (!self.upkeep.topics_changed.is_empty()).then_some(self.upkeep.topics_not_before);
        let check = if self.upkeep.to_expire.is_empty() {
            self.upkeep.next_check
        } else {
            Duration::ZERO
        };
        [self.sessions.next_deadline(), topics]
            .into_iter()
            .flatten()
            .fold(check, Duration::min)
    }

    fn refused(command: &Command, error: PartitionError) -> Refused<Self> {
        let stream = match command {
            Command::Commit { request, .. } => return reply(*request, Reply::Committed(Err(error))),
            Command::Delete { request, .. } => return reply(*request, Reply::Deleted(Err(error))),
            Command::Join { stream, .. }
            | Command::Heartbeat { stream, .. }
            | Command::Revoked { stream, .. }
            | Command::Subscribe { stream, .. }
            | Command::Leave { stream, .. }
            | Command::Disconnected { stream } => *stream,
            Command::Expire { .. } | Command::TopicsChanged { .. } | Command::ExpireOffsets { .. } => {
                return Refused {
                    effects: Vec::new(),
                    then: None,
                };
            }
        };
        // The member resumes with what it owns, which says again what was lost here.
        let error = Some(error);
        Refused {
            effects: vec![Effect::End { stream, error }],
            then: Some(Command::Disconnected { stream }),
        }
    }

    fn unheard(effect: &Effect) -> Option<Command> {
        match effect {
            Effect::Joined { stream, .. }
            | Effect::Assign { stream, .. }
            | Effect::HeartbeatAnswer { stream, .. } => Some(Command::Disconnected { stream: *stream }),
            // A stream that ends is known to; a request whose asker is gone leaves nothing behind.
            Effect::End { .. } | Effect::Reply { .. } => None,
        }
    }

    fn refusal(why: Refusal) -> PartitionError {
        refusals::refusal(why)
    }
}

fn reply(request: RequestId, reply: Reply) -> Refused<Coordinator> {
    Refused {
        effects: vec![Effect::Reply { request, reply }],
        then: None,
    }
}

/// A group in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its id.
    pub group: GroupId,
    /// What Kafka calls its state.
    pub phase: GroupPhase,
    /// How many members it has.
    pub member_count: usize,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// What Kafka calls its state.
    pub phase: GroupPhase,
    /// Counts target assignments.
    pub epoch: GroupEpoch,
    /// The assignor in use.
    pub assignor: crate::AssignorName,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
    /// Everything it committed, by partition.
    pub offsets: Vec<NamedOffset>,
}

/// A committed offset with its partition's names: the present one, and the id, which no other topic
/// ever has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// Its topic's id.
    pub topic_id: TopicId,
    /// What was committed for it.
    pub committed: CommittedOffset,
}

/// A member in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member: MemberId,
    /// What it said of itself.
    pub value: Arc<MemberValue>,
    /// How far it has reconciled.
    pub epoch: MemberEpoch,
    /// What it owns, with what it has not given up yet.
    pub owned: Partitions,
    /// What it shall own.
    pub target: Partitions,
}
