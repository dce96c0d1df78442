//! A member of a group: it joins, takes partitions on, delivers, commits, gives up, leaves, dies,
//! stalls, and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_group::{
    AssignmentVersion, AssignorName, Effect, Join, MemberEpoch, MemberId, OffsetToCommit, Subscription,
};
use tidelog_history::What;
use tidelog_history::event::{CommitResult, Name, Request};
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Offset, PartitionError, TopicIdPartition};

use super::leaders::{Leaders, Question};
use super::reader::records_of;
use crate::broker::partition_of;
use crate::context::Context;
use crate::message::{Address, Answer, Ask, Lane, MemberSays, Message};
use crate::network::{Handle, Heard};
use crate::recorder::name;

/// How long finding the coordinator may take, and it taking a member in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// A member of the consumer group.
pub(super) struct Member {
    address: Address,
    group: GroupId,
    leaders: Leaders,
    base: String,
    lives: u32,
    id: MemberId,
    epoch: MemberEpoch,
    stream: Option<Stream>,
    owned: BTreeMap<TopicIdPartition, Owned>,
    /// An assignment that is to be acted on, and when.
    directive: Option<(Duration, AssignmentVersion, BTreeSet<TopicIdPartition>)>,
    /// When the coordinator last heard of this member for certain.
    heard: Option<Duration>,
    connect_at: Duration,
    /// It was stalled: what it does first, it does as what it took itself for.
    was_stalled: bool,
    pub(super) is_calm: bool,
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    is_open: bool,
    by: Duration,
    /// When what is not answered yet was sent.
    unanswered: Vec<Duration>,
    beat_at: Duration,
}

/// A partition that a member owns.
#[derive(Debug, Default)]
struct Owned {
    position: Option<Offset>,
    epoch: Option<LeaderEpoch>,
    committed: Option<Offset>,
    reading: Option<Question<()>>,
    asking: Option<Question<Request>>,
    committing: Option<Question<(Request, Offset)>>,
    commit_at: Duration,
    read_at: Duration,
}

impl Member {
    pub(super) fn new(address: Address, number: u32) -> Self {
        let base = format!("member-{number}");
        Self {
            address,
            group: "group".parse().expect("a group's id"),
            leaders: Leaders::default(),
            id: format!("{base}-1").parse().expect("a member's id"),
            base,
            lives: 1,
            epoch: MemberEpoch::NONE,
            stream: None,
            owned: BTreeMap::new(),
            directive: None,
            heard: None,
            connect_at: Duration::from_secs(2),
            was_stalled: false,
            is_calm: false,
        }
    }

    /// The group's name.
    pub(super) fn group() -> Name {
        name("group")
    }

    /// What it owns, and up to where it has delivered each.
    pub(super) fn positions(&self) -> impl Iterator<Item = (TopicIdPartition, Option<Offset>)> {
        self.owned.iter().map(|(id, owned)| (*id, owned.position))
    }

    /// It did nothing for a while and goes on as if it knew better.
    pub(super) fn wake(&mut self) {
        self.was_stalled = true;
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        self.leaders.refresh(self.address, context);
        if std::mem::take(&mut self.was_stalled) {
            // A zombie's work: what it still holds it commits, before it looks at the time.
            for id in self.partitions() {
                self.commit(id, context);
            }
        }
        let session = context.config.group_session;
        if self.heard.is_some_and(|heard| heard + session <= context.now) {
            self.lose(context);
        }
        self.behave(context);
        self.act(context);
        self.keep_stream(context);
        for id in self.partitions() {
            self.work(id, context);
        }
    }

    pub(super) fn hear(&mut self, heard: Heard, context: &mut Context) {
        match heard {
            Heard::Opened(handle) => self.opened(handle, context),
            Heard::Closed(handle) if self.is_on(handle) => self.broken(context),
            Heard::Said(handle, Message::Coordinator(effect)) if self.is_on(handle) => {
                self.told(effect, context);
            }
            Heard::Datagram(_, Message::Answer { id, answer }) if !self.leaders.take(id, &answer) => {
                context.history.seen.operations += 1;
                self.answered(id, answer, context);
            }
            _ => {}
        }
    }

    fn is_on(&self, handle: Handle) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.handle == handle)
    }

    fn partitions(&self) -> Vec<TopicIdPartition> {
        self.owned.keys().copied().collect()
    }

    fn name(&self) -> Name {
        name(self.id.as_str())
    }

    fn coordinator(&self, context: &Context) -> TopicIdPartition {
        let topic = &context.config.offsets_topic;
        TopicIdPartition {
            topic_id: topic.id,
            partition: partition_of(&self.group, topic.partitions),
        }
    }

    /// Now and then it leaves in order, or its process dies.
    fn behave(&mut self, context: &mut Context) {
        if self.is_calm || self.epoch == MemberEpoch::NONE || !context.random.per_mille(2) {
            return;
        }
        if context.random.per_mille(500) {
            self.give_up(&self.owned.keys().copied().collect(), context);
            if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_open) {
                context.say(stream.handle, Message::Member(MemberSays::Leave));
            }
        }
        self.end(context);
    }

    /// This member is no more. Another one comes in its place.
    fn end(&mut self, context: &mut Context) {
        context.record(What::MemberEnded {
            group: Self::group(),
            member: self.name(),
        });
        self.forget(context);
        self.lives += 1;
        self.id = format!("{}-{}", self.base, self.lives)
            .parse()
            .expect("a member's id");
        self.connect_at = context.now + context.random.millis(50, 4000);
    }

    /// It was thrown out, or must take itself for thrown out.
    fn lose(&mut self, context: &mut Context) {
        if context.random.per_mille(500) {
            return self.end(context);
        }
        // The same member joins again, owning nothing.
        context.record(What::MemberEnded {
            group: Self::group(),
            member: self.name(),
        });
        self.forget(context);
        self.connect_at = context.now + context.random.millis(10, 300);
    }

    fn forget(&mut self, context: &mut Context) {
        for id in self.partitions() {
            self.settle_questions(id, context);
        }
        self.owned.clear();
        self.directive = None;
        self.epoch = MemberEpoch::NONE;
        self.heard = None;
        if let Some(stream) = self.stream.take() {
            context.close(stream.handle);
        }
    }

    /// A commit that nobody waits for any more has an unknown fate.
    fn settle_questions(&mut self, id: TopicIdPartition, context: &mut Context) {
        let committing = self.owned.get_mut(&id).and_then(|owned| owned.committing.take());
        if let Some(asked) = committing {
            context.record(What::CommitEnded {
                request: asked.about.0,
                result: CommitResult::Unknown,
            });
        }
    }

    fn broken(&mut self, context: &mut Context) {
        if let Some(stream) = self.stream.take() {
            context.close(stream.handle);
        }
        self.directive = None;
        let coordinator = self.coordinator(context);
        self.leaders.refused(coordinator, None);
        self.connect_at = context.now + context.random.millis(20, 300);
    }

    fn keep_stream(&mut self, context: &mut Context) {
        let now = context.now;
        let patience = context.config.group_session / 3;
        let Some(stream) = &mut self.stream else {
            if self.connect_at <= now
                && let Some((leader, _)) = self.leaders.of(self.coordinator(context))
            {
                self.stream = Some(Stream {
                    handle: context.open(self.address, leader, Lane::Group),
                    is_open: false,
                    by: now + JOIN_TIMEOUT,
                    unanswered: Vec::new(),
                    beat_at: now + context.config.group_heartbeat,
                });
            }
            return;
        };
        let is_late = !stream.is_open && stream.by <= now;
        let is_silent = stream
            .unanswered
            .first()
            .is_some_and(|sent| *sent + patience <= now);
        if is_late || is_silent {
            self.broken(context);
        } else if stream.is_open && stream.beat_at <= now && self.epoch != MemberEpoch::NONE {
            stream.beat_at = now + context.config.group_heartbeat;
            stream.unanswered.push(now);
            context.say(stream.handle, Message::Member(MemberSays::Heartbeat(self.epoch)));
        }
    }

    fn opened(&mut self, handle: Handle, context: &mut Context) {
        let topics = context.config.topics.iter().map(|topic| topic.name.clone());
        let subscription = Subscription::new(topics.collect(), None, AssignorName::Uniform);
        let owned = match self.epoch {
            MemberEpoch::NONE => BTreeSet::new(),
            _ => self.owned.keys().copied().collect(),
        };
        let join = Join {
            group: self.group.clone(),
            member: self.id.clone(),
            epoch: self.epoch,
            instance_id: None,
            subscription: subscription.expect("topics were named"),
            owned,
            client_id: String::new(),
            client_host: String::new(),
            max_poll_interval: Duration::from_secs(20),
        };
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.handle == handle) else {
            return;
        };
        stream.is_open = true;
        stream.unanswered.push(context.now);
        context.say(handle, Message::Member(MemberSays::Join(Box::new(join))));
    }

    fn told(&mut self, effect: Effect, context: &mut Context) {
        match effect {
            Effect::Joined { epoch, .. } => {
                self.hears();
                self.epoch = epoch;
            }
            Effect::HeartbeatAnswer { epoch, .. } => {
                self.hears();
                self.epoch = self.epoch.max(epoch);
            }
            Effect::Assign {
                version,
                epoch,
                partitions,
                ..
            } => {
                self.epoch = self.epoch.max(epoch);
                let after = match context.random.below(10) {
                    0..5 => Duration::ZERO,
                    5..9 => context.random.millis(1, 400),
                    _ => context.random.millis(400, 2500),
                };
                self.directive = Some((context.now + after, version, Arc::unwrap_or_clone(partitions)));
            }
            Effect::End { error, .. } => {
                let code = error.map(|error| error.code);
                if matches!(
                    code,
                    Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId)
                ) {
                    self.lose(context);
                } else {
                    self.broken(context);
                }
            }
            Effect::Reply { .. } => {}
        }
    }

    fn hears(&mut self) {
        if let Some(stream) = &mut self.stream
            && !stream.unanswered.is_empty()
        {
            self.heard = Some(stream.unanswered.remove(0));
        }
    }

    /// Gives up first, then takes on, then says so.
    fn act(&mut self, context: &mut Context) {
        let Some((_, version, target)) = self.directive.take_if(|(at, ..)| *at <= context.now) else {
            return;
        };
        let excess = self
            .owned
            .keys()
            .filter(|id| !target.contains(id))
            .copied()
            .collect();
        self.give_up(&excess, context);
        let new: Vec<_> = target
            .iter()
            .filter(|id| !self.owned.contains_key(id))
            .copied()
            .collect();
        if !new.is_empty() {
            context.record(What::Assigned {
                group: Self::group(),
                member: self.name(),
                partitions: new.clone(),
            });
        }
        for id in new {
            self.owned.insert(id, Owned::default());
        }
        if let Some(stream) = &self.stream {
            let owned = self.owned.keys().copied().collect();
            let says = MemberSays::Revoked { version, owned };
            context.say(stream.handle, Message::Member(says));
        }
    }

    fn give_up(&mut self, partitions: &BTreeSet<TopicIdPartition>, context: &mut Context) {
        if partitions.is_empty() {
            return;
        }
        for id in partitions {
            self.settle_questions(*id, context);
            self.owned.remove(id);
        }
        context.record(What::GaveUp {
            group: Self::group(),
            member: self.name(),
            partitions: partitions.iter().copied().collect(),
        });
    }

    fn work(&mut self, id: TopicIdPartition, context: &mut Context) {
        let now = context.now;
        let is_late = |owned: &Owned| {
            owned
                .committing
                .as_ref()
                .is_some_and(|asked| asked.is_over(context))
        };
        if self.owned.get(&id).is_some_and(is_late) {
            self.settle_questions(id, context);
        }
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        if owned.reading.take_if(|asked| asked.is_over(context)).is_some() {
            self.leaders.refused(id, None);
        }
        if owned.asking.take_if(|asked| asked.is_over(context)).is_some() {
            let coordinator = self.coordinator(context);
            self.leaders.refused(coordinator, None);
        }
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        if owned.read_at > now || owned.reading.is_some() || owned.asking.is_some() {
            return self.commit_if_due(id, context);
        }
        match owned.position {
            None => self.ask_committed(id, context),
            Some(offset) => self.fetch(id, offset, context),
        }
        self.commit_if_due(id, context);
    }

    fn fetch(&mut self, id: TopicIdPartition, offset: Offset, context: &mut Context) {
        let Some((leader, epoch)) = self.leaders.of(id) else {
            return;
        };
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        let max_wait = Duration::from_millis(300);
        let ask = Ask::Fetch {
            partition: id,
            leader_epoch: Some(owned.epoch.map_or(epoch, |seen| seen.max(epoch))),
            offset,
            max_batches: context.random.between(1, 16) as usize,
            max_wait,
        };
        owned.reading = Some(Question::ask(self.address, leader, ask, max_wait, (), context));
    }

    fn ask_committed(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some((leader, _)) = self.leaders.of(self.coordinator(context)) else {
            return;
        };
        let request = Request(context.fresh());
        context.record(What::OffsetAsked {
            request,
            group: Self::group(),
            partition: id,
        });
        let ask = Ask::Offsets {
            group: self.group.clone(),
            member: Some((self.id.clone(), self.epoch)),
            partition: id,
        };
        let question = Question::ask(self.address, leader, ask, Duration::ZERO, request, context);
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.asking = Some(question);
        }
    }

    fn commit_if_due(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        if owned.commit_at <= context.now {
            owned.commit_at = context.now + context.random.millis(100, 1200);
            self.commit(id, context);
        }
    }

    fn commit(&mut self, id: TopicIdPartition, context: &mut Context) {
        let coordinator = self.coordinator(context);
        let Some((leader, _)) = self.leaders.of(coordinator) else {
            return;
        };
        let topic = context.config.topics.iter().find(|topic| topic.id == id.topic_id);
        let Some(topic) = topic.map(|topic| topic.name.clone()) else {
            return;
        };
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        let (Some(offset), true) = (owned.position, owned.committing.is_none()) else {
            return;
        };
        if owned.committed == Some(offset) {
            return;
        }
        let request = Request(context.fresh());
        context.record(What::CommitBegan {
            request,
            group: Self::group(),
            partition: id,
            offset: Some(offset),
        });
        let ask = Ask::Commit {
            group: self.group.clone(),
            member: Some((self.id.clone(), self.epoch)),
            offsets: vec![OffsetToCommit {
                topic,
                topic_id: Some(id.topic_id),
                partition: id.partition,
                offset,
                leader_epoch: None,
                metadata: String::new(),
            }],
        };
        let wait = Duration::from_secs(3);
        owned.committing = Some(Question::ask(
            self.address,
            leader,
            ask,
            wait,
            (request, offset),
            context,
        ));
    }

    fn answered(&mut self, id: u64, answer: Answer, context: &mut Context) {
        for partition in self.partitions() {
            let Some(owned) = self.owned.get_mut(&partition) else {
                continue;
            };
            if owned.reading.take_if(|asked| asked.is_answered_by(id)).is_some() {
                return self.fetched(partition, answer, context);
            }
            if let Some(asked) = owned.asking.take_if(|asked| asked.is_answered_by(id)) {
                return self.found_committed(partition, asked.about, answer, context);
            }
            if let Some(asked) = owned.committing.take_if(|asked| asked.is_answered_by(id)) {
                return self.committed(partition, asked.about, answer, context);
            }
        }
    }

    fn fetched(&mut self, id: TopicIdPartition, answer: Answer, context: &mut Context) {
        let pause = context.random.millis(1, 80);
        let Some(owned) = self.owned.get_mut(&id) else {
            return;
        };
        owned.read_at = context.now + pause;
        match answer {
            Answer::Fetched {
                batches,
                leader_epoch,
                next,
                ..
            } => {
                owned.epoch = owned.epoch.max(Some(leader_epoch));
                let from = owned.position.unwrap_or(next);
                for record in records_of(&batches).filter(|record| record.offset >= from) {
                    context.record(What::Delivered {
                        group: Self::group(),
                        partition: id,
                        offset: record.offset,
                    });
                }
                owned.position = Some(next);
            }
            Answer::Ends { start, .. } => owned.position = owned.position.max(Some(start)),
            Answer::Refused(error) => {
                self.leaders.refused(id, Some(&error));
                if error.code == ErrorCode::OffsetOutOfRange {
                    self.find_start(id, context);
                }
            }
            _ => {}
        }
    }

    /// What it would read next was trimmed: it goes on where the log begins.
    fn find_start(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some((leader, _)) = self.leaders.of(id) else {
            return;
        };
        let ask = Ask::Ends {
            partition: id,
            leader_epoch: None,
        };
        let question = Question::ask(self.address, leader, ask, Duration::ZERO, (), context);
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.reading = Some(question);
        }
    }

    fn found_committed(
        &mut self,
        id: TopicIdPartition,
        request: Request,
        answer: Answer,
        context: &mut Context,
    ) {
        match answer {
            Answer::Offset(offset) => {
                context.record(What::OffsetAnswered { request, offset });
                if let Some(owned) = self.owned.get_mut(&id) {
                    owned.position = Some(offset.unwrap_or(Offset::ZERO));
                    owned.committed = offset;
                }
            }
            Answer::Refused(error) => self.refused(id, &error, context),
            _ => {}
        }
    }

    fn committed(
        &mut self,
        id: TopicIdPartition,
        (request, offset): (Request, Offset),
        answer: Answer,
        context: &mut Context,
    ) {
        let result = match &answer {
            Answer::Committed(failures) if failures.is_empty() => CommitResult::Acknowledged,
            Answer::Committed(_) => CommitResult::Refused,
            Answer::Refused(error) if is_definite(error) => CommitResult::Refused,
            _ => CommitResult::Unknown,
        };
        context.record(What::CommitEnded { request, result });
        let seen = &mut context.history.seen;
        match result {
            CommitResult::Acknowledged => {
                seen.commits += 1;
                if let Some(owned) = self.owned.get_mut(&id) {
                    owned.committed = Some(offset);
                }
            }
            CommitResult::Refused => seen.zombie_commits += 1,
            CommitResult::Unknown => {}
        }
        if let Answer::Refused(error) = answer {
            self.refused(id, &error, context);
        }
    }

    fn refused(&mut self, id: TopicIdPartition, error: &PartitionError, context: &mut Context) {
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.read_at = context.now + context.random.millis(20, 150);
        }
        if matches!(error.code, ErrorCode::UnknownMemberId) {
            self.lose(context);
        } else if !is_definite(error) {
            let coordinator = self.coordinator(context);
            self.leaders.refused(coordinator, Some(error));
        }
    }
}

/// A refusal that says that nothing happened.
fn is_definite(error: &PartitionError) -> bool {
    matches!(
        error.code,
        ErrorCode::StaleMemberEpoch
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::UnknownTopicOrPartition
    )
}
