//! One coordinator at work: the log, the time and the streams of a [`Turn`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelog_coordinator::{Leadership, LoadStep, Loading, Machine as _, Now, Refusal, Step, Turn};
use tidelog_group::{
    Command, Coordinator, Effect, GroupConfig, Record, Reply, RequestId, State, StreamId, Topics,
};
use tidelog_history::{Invariant, What};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicIdPartition};

use super::{Process, Timer};
use crate::context::Context;
use crate::message::{Address, Answer, Message};
use crate::network::Handle;
use crate::recorder::{Place, name};

/// Most batches that are read at a time.
const BATCHES_AT_ONCE: usize = 4;
/// Most records of a decision that may be cut in one batch.
const RECORDS_AT_ONCE: u64 = 3;

/// A coordinator of one leadership.
pub(super) struct Shard {
    pub(super) id: TopicIdPartition,
    pub(super) epoch: LeaderEpoch,
    leadership: Leadership,
    pub(super) phase: Phase,
    pub(super) streams: BTreeMap<StreamId, Handle>,
    pub(super) waiters: BTreeMap<RequestId, (Address, u64, Duration)>,
    /// Commands that came while the log had no room for the rest of a decision.
    queue: VecDeque<Command>,
    /// What is appended of members and not replicated.
    members: VecDeque<(Place, What)>,
    is_planned: bool,
}

/// How far a shard is.
pub(super) enum Phase {
    Loading(Box<Load>),
    Serving(Box<Turn<Coordinator>>),
    Ended,
}

/// A replay of the log.
pub(super) struct Load {
    coordinator: Coordinator,
    loading: Loading,
    step: LoadStep,
    /// Up to where the log was replayed.
    next: Offset,
    not_before: Duration,
}

impl Load {
    fn new(leadership: &Leadership, not_before: Duration, topics: Arc<Topics>, context: &Context) -> Self {
        let config = GroupConfig {
            heartbeat_interval: context.config.group_heartbeat,
            session_timeout: context.config.group_session,
            ..GroupConfig::default()
        };
        let loading = leadership.load();
        Self {
            coordinator: Coordinator::new(config, topics),
            step: loading.first(),
            loading,
            next: Offset::ZERO,
            not_before,
        }
    }
}

impl Shard {
    pub(super) fn new(
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        leadership: Leadership,
        topics: Arc<Topics>,
        context: &Context,
    ) -> Self {
        let load = Load::new(&leadership, Duration::ZERO, topics, context);
        Self {
            id,
            epoch,
            leadership,
            phase: Phase::Loading(Box::new(load)),
            streams: BTreeMap::new(),
            waiters: BTreeMap::new(),
            queue: VecDeque::new(),
            members: VecDeque::new(),
            is_planned: false,
        }
    }

    /// Its coordinator, once it serves.
    pub(super) fn turn(&self) -> Result<&Turn<Coordinator>, PartitionError> {
        match &self.phase {
            Phase::Serving(turn) => Ok(turn),
            Phase::Loading(_) => Err(Coordinator::refusal(Refusal::Loading)),
            Phase::Ended => Err(not_here()),
        }
    }

    pub(super) fn set_topics(&mut self, topics: Arc<Topics>) {
        match &mut self.phase {
            Phase::Loading(load) => load.coordinator.set_topics(topics),
            Phase::Serving(turn) => turn.machine_mut().set_topics(topics),
            Phase::Ended => {}
        }
    }
}

/// The refusal of a broker that does not lead.
pub(super) fn not_here() -> PartitionError {
    Coordinator::refusal(Refusal::NotHere)
}

impl Process {
    /// The shard of a partition, if there is one, looks at its log soon.
    pub(super) fn shard_soon(&mut self, id: TopicIdPartition, context: &mut Context) {
        if id.topic_id != context.config.offsets_topic.id {
            return;
        }
        let shard = self.groups.shards.get_mut(&id.partition);
        if let Some(shard) = shard.filter(|shard| !shard.is_planned) {
            shard.is_planned = true;
            let after = context.random.micros(10, 300);
            self.plan(after, Timer::Shard(id.partition), context);
        }
    }

    pub(super) fn shard_turn(&mut self, partition: PartitionIndex, context: &mut Context) {
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        shard.is_planned = false;
        match &shard.phase {
            Phase::Loading(load) => {
                if load.not_before <= context.now {
                    self.load(partition, context);
                }
            }
            Phase::Serving(turn) => {
                if turn.awaits_replication() && !turn.is_appending() {
                    match self.check_shard(partition, context) {
                        Ok(high_watermark) => self.advance_shard(partition, high_watermark, context),
                        Err(error) => return self.shard_refused(partition, error, context),
                    }
                }
                self.work(partition, context);
                self.expire_commits(partition, context);
                self.compare_with_log(partition, context);
            }
            Phase::Ended => {}
        }
    }

    /// Whether this broker still serves as the leader of the shard's epoch, and up to where its log
    /// is committed.
    pub(super) fn check_shard(
        &self,
        partition: PartitionIndex,
        context: &Context,
    ) -> Result<Offset, PartitionError> {
        let shard = self.groups.shards.get(&partition).ok_or_else(not_here)?;
        let replica = &self.target(shard.id)?.replica;
        self.check_serving(context)?;
        let start = replica.earliest_offset(Some(shard.epoch))?.0;
        Ok(replica.consumer_read(Some(shard.epoch), start)?.until)
    }

    /// Replays everything that belongs to the state, once the high watermark is there.
    fn load(&mut self, partition: PartitionIndex, context: &mut Context) {
        let checked = self.check_shard(partition, context);
        let topics = Arc::clone(&self.groups.topics);
        let now = self.group_now(context);
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        let high_watermark = match checked {
            Ok(high_watermark) => high_watermark,
            Err(error) => {
                shard.phase = match shard.leadership.load_failed(&error) {
                    Some(pause) => {
                        let load = Load::new(&shard.leadership, context.now + pause, topics, context);
                        Phase::Loading(Box::new(load))
                    }
                    None => Phase::Ended,
                };
                return;
            }
        };
        let Phase::Loading(load) = &mut shard.phase else {
            return;
        };
        loop {
            let from = match load.step {
                LoadStep::Ready => break,
                LoadStep::Read(from) => from,
                LoadStep::Wait(above) if high_watermark > above => load.next,
                LoadStep::Wait(_) => return,
                LoadStep::Damaged(_) => {
                    shard.phase = Phase::Ended;
                    return;
                }
            };
            let batches = self.disk.read(shard.id, from, high_watermark, BATCHES_AT_ONCE);
            for batch in &batches {
                for (record, at) in batch.records.iter().flat_map(|records| records.iter()).zip(1..) {
                    load.coordinator.replay(record);
                    let place = Place {
                        partition,
                        epoch: batch.info.leader_epoch,
                        end: batch.info.base_offset + at,
                    };
                    if let Some(what) = of_member(record) {
                        context.history.became(context.now, place, what);
                    }
                }
            }
            load.next = batches.last().map_or(from, |last| last.info.end_offset());
            load.step = load.loading.read(load.next, high_watermark);
        }
        context.history.seen.coordinators += 1;
        shard.leadership.loaded();
        let end = shard.leadership.replay_until();
        if let Phase::Loading(load) = std::mem::replace(&mut shard.phase, Phase::Ended) {
            shard.phase = Phase::Serving(Box::new(Turn::new(load.coordinator, end, now)));
        }
        self.work(partition, context);
    }

    /// A command that somebody gave: worked off now, or once there is room for what came before it.
    pub(super) fn shard_takes(&mut self, partition: PartitionIndex, command: Command, context: &mut Context) {
        if let Some(shard) = self.groups.shards.get_mut(&partition)
            && shard.turn().is_ok()
        {
            shard.queue.push_back(command);
            self.work(partition, context);
        }
    }

    fn turn_mut(&mut self, partition: PartitionIndex) -> Option<&mut Turn<Coordinator>> {
        match &mut self.groups.shards.get_mut(&partition)?.phase {
            Phase::Serving(turn) => Some(turn),
            Phase::Loading(_) | Phase::Ended => None,
        }
    }

    /// Performs steps and takes commands, until something has to come first.
    fn work(&mut self, partition: PartitionIndex, context: &mut Context) {
        loop {
            if !self.perform_steps(partition, context) {
                return;
            }
            let shard = self.groups.shards.get_mut(&partition);
            let Some(command) = shard.and_then(|shard| shard.queue.pop_front()) else {
                return;
            };
            let checked = if context.random.per_mille(2) {
                let message = "the broker's session lapsed for a moment";
                Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, message))
            } else {
                self.check_shard(partition, context)
            };
            if let Err(error) = checked {
                return self.shard_refused(partition, error, context);
            }
            let now = self.group_now(context);
            if let Some(turn) = self.turn_mut(partition) {
                turn.take(command, now);
            }
        }
    }

    /// Performs steps. Whether all are done; else the rest of a decision waits for room in the log,
    /// or the shard does not serve.
    fn perform_steps(&mut self, partition: PartitionIndex, context: &mut Context) -> bool {
        loop {
            let now = self.group_now(context);
            let Some(turn) = self.turn_mut(partition) else {
                return false;
            };
            match turn.next(now) {
                None => return true,
                Some(Step::Tell(effect)) => self.tell_effect(partition, effect, context),
                Some(Step::Append { records, as_one }) => {
                    let most = if as_one {
                        records.len()
                    } else {
                        context.random.between(1, RECORDS_AT_ONCE) as usize
                    };
                    let records = records[..most.min(records.len())].to_vec();
                    self.append_some(partition, records, context);
                    let waits = self.turn_mut(partition).is_some_and(|turn| turn.is_appending());
                    if waits && context.random.per_mille(700) {
                        let after = context.random.millis(1, 800);
                        self.plan(after, Timer::Shard(partition), context);
                        return false;
                    }
                }
            }
        }
    }

    fn append_some(&mut self, partition: PartitionIndex, records: Vec<Record>, context: &mut Context) {
        let Some(shard) = self.groups.shards.get(&partition) else {
            return;
        };
        let (id, epoch, count) = (shard.id, shard.epoch, records.len());
        let is_rest = shard.turn().is_ok_and(Turn::has_appended_some);
        let is_full = context.random.per_mille(if is_rest { 100 } else { 2 });
        let appended = if is_full {
            Err(PartitionError::new(
                ErrorCode::DiskFull,
                "the disk is full for a moment",
            ))
        } else {
            self.append_records(id, epoch, records.clone(), context)
        };
        if appended.is_ok() {
            self.note_commit(partition, context);
        }
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        let Phase::Serving(turn) = &mut shard.phase else {
            return;
        };
        let end = match appended {
            Ok(end) => end,
            Err(error) => {
                context.history.seen.cut_decisions += u64::from(is_rest);
                return turn.refused(error);
            }
        };
        let is_expiry = matches!(turn.under_way(), Some(Command::Expire { .. }));
        let first = end - count as u64;
        for (record, at) in records.iter().zip(1..) {
            let place = Place {
                partition,
                epoch,
                end: first + at,
            };
            if is_expiry {
                context.history.was_silent(place);
            }
            shard.members.extend(of_member(record).map(|what| (place, what)));
        }
        turn.appended(count, end);
    }

    fn note_commit(&self, partition: PartitionIndex, context: &mut Context) {
        let Some(turn) = self
            .groups
            .shards
            .get(&partition)
            .and_then(|shard| shard.turn().ok())
        else {
            return;
        };
        let Some(Command::Commit { group, member, .. }) = turn.under_way() else {
            return;
        };
        let known = turn.machine().latest().group(group);
        let held = member.as_ref().and_then(|(member, _)| {
            let known = known.filter(|known| known.member(member).is_some())?;
            Some(known.member_epoch(member).0)
        });
        context.record(What::CommitTaken {
            group: name(group.as_str()),
            member: member
                .as_ref()
                .map(|(member, epoch)| (name(member.as_str()), epoch.0)),
            held,
        });
    }

    fn advance_shard(&mut self, partition: PartitionIndex, high_watermark: Offset, context: &mut Context) {
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        let Phase::Serving(turn) = &mut shard.phase else {
            return;
        };
        turn.advance(high_watermark);
        let covered = turn.high_watermark();
        while let Some((place, what)) = shard.members.pop_front_if(|(place, _)| place.end <= covered) {
            context.history.became(context.now, place, what);
        }
    }

    fn tell_effect(&mut self, partition: PartitionIndex, effect: Effect, context: &mut Context) {
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        match &effect {
            Effect::Reply { request, reply } => {
                // An asker that gave up waiting is not told.
                let Some((asker, id, _)) = shard.waiters.remove(request) else {
                    return;
                };
                let answer = match reply {
                    Reply::Committed(Ok(failures)) => Answer::Committed(failures.clone()),
                    Reply::Committed(Err(error)) | Reply::Deleted(Err(error)) => {
                        Answer::Refused(error.clone())
                    }
                    Reply::Deleted(Ok(())) => Answer::Done,
                };
                self.answer(asker, id, answer, context);
            }
            Effect::End { stream, .. } => {
                if let Some(handle) = shard.streams.remove(stream) {
                    context.say(handle, Message::Coordinator(effect));
                    self.uses.remove(&handle);
                    context.close(handle);
                }
            }
            Effect::Joined { stream, .. }
            | Effect::Assign { stream, .. }
            | Effect::HeartbeatAnswer { stream, .. } => {
                let Some(handle) = shard.streams.get(stream).copied() else {
                    return;
                };
                // Now and then a stream is full: its member does not read it.
                if !context.random.per_mille(2) {
                    return context.say(handle, Message::Coordinator(effect));
                }
                shard.streams.remove(stream);
                if let Phase::Serving(turn) = &mut shard.phase {
                    turn.unheard(&effect);
                }
                context.history.seen.slow_members += 1;
                self.uses.remove(&handle);
                context.close(handle);
            }
        }
    }

    fn expire_commits(&mut self, partition: PartitionIndex, context: &mut Context) {
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        let now = context.now;
        let late: Vec<_> = shard
            .waiters
            .extract_if(.., |_, (.., deadline)| *deadline <= now)
            .collect();
        for (_, (asker, id, _)) in late {
            let error = PartitionError::new(ErrorCode::RequestTimedOut, "not replicated in time");
            self.answer(asker, id, Answer::Refused(error), context);
        }
    }

    /// The log refused: the shard loads anew, or is at its end.
    fn shard_refused(&mut self, partition: PartitionIndex, error: PartitionError, context: &mut Context) {
        let Some(mut shard) = self.groups.shards.remove(&partition) else {
            return;
        };
        let mut leadership = shard.leadership;
        let log_end = shard.turn().map_or(Offset::ZERO, Turn::log_end);
        let loads_anew = leadership.interrupted(&error, log_end);
        context.history.seen.interrupted_coordinators += u64::from(loads_anew);
        self.end_shard(&mut shard, &Coordinator::refusal(Refusal::Log(error)), context);
        let topics = Arc::clone(&self.groups.topics);
        let mut next = Shard::new(shard.id, shard.epoch, leadership, topics, context);
        if !loads_anew {
            next.phase = Phase::Ended;
        }
        self.groups.shards.insert(partition, next);
    }

    /// It serves no more: everybody who waits is told, and may find what it asked for done or not.
    pub(super) fn end_shard(&mut self, shard: &mut Shard, why: &PartitionError, context: &mut Context) {
        for (stream, handle) in std::mem::take(&mut shard.streams) {
            self.end_stream(handle, Some(stream), why.clone(), context);
        }
        for (asker, id, _) in std::mem::take(&mut shard.waiters).into_values() {
            self.answer(asker, id, Answer::Refused(why.clone()), context);
        }
    }

    /// Now and then: what a coordinator holds is what a replay of its log gives.
    fn compare_with_log(&self, partition: PartitionIndex, context: &mut Context) {
        if !context.random.per_mille(10) {
            return;
        }
        let Some(shard) = self.groups.shards.get(&partition) else {
            return;
        };
        let Ok(turn) = shard.turn() else { return };
        let Ok(target) = self.target(shard.id) else { return };
        let log = target.replica.log();
        let is_settled = !turn.is_appending()
            && log.log_end() == turn.log_end()
            && log.written_end() == log.log_end()
            && self.check_shard(partition, context).is_ok();
        if !is_settled {
            return;
        }
        let mut replayed = State::default();
        for batch in self.disk.read(shard.id, Offset::ZERO, log.log_end(), usize::MAX) {
            for record in batch.records.iter().flat_map(|records| records.iter()) {
                replayed.replay(record);
            }
        }
        if replayed != *turn.machine().latest() {
            let (broker, id) = (self.broker, shard.id);
            let why =
                format!("the coordinator of {id} on broker {broker} holds another state than its log gives");
            context.history.fail(Invariant::G12, &why);
        }
    }

    pub(super) fn group_now(&self, context: &Context) -> Now {
        Now {
            monotonic: self.local(context),
            // Every wall clock tells the same: offsets are kept for days, and a run lasts for
            // minutes.
            wall_ms: 1_700_000_000_000 + context.now.as_millis() as i64,
        }
    }
}

/// What a record says of a member, once it is replicated.
fn of_member(record: &Record) -> Option<What> {
    let Record::Member { group, member, value } = record else {
        return None;
    };
    let (group, member) = (name(group.as_str()), name(member.as_str()));
    Some(match value {
        Some(_) => What::MemberJoined { group, member },
        None => What::MemberRemoved { group, member },
    })
}
