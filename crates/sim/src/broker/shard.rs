//! One coordinator at work: loading, serving, and ending with the leadership.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelog_group::leadership::{may_pass, not_coordinator, refused};
use tidelog_group::{
    Command, Coordinator, Decision, Effect, GroupConfig, LoadStep, Loading, Now, Record, Reply, RequestId,
    StreamId, Topics,
};
use tidelog_history::What;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicIdPartition};

use super::{Process, Timer};
use crate::context::Context;
use crate::message::{Address, Answer, Message};
use crate::network::Handle;
use crate::recorder::{Place, name};

/// Shortest and longest time between attempts to load.
const LOAD_RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Most batches that are read at a time.
const BATCHES_AT_ONCE: usize = 64;

/// How far a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Loading,
    Serving,
    Ended,
}

/// A coordinator of one leadership.
pub(super) struct Shard {
    id: TopicIdPartition,
    pub(super) epoch: LeaderEpoch,
    /// Where the log ended when the leadership, or the coordinator before this one, began.
    start: Offset,
    pub(super) phase: Phase,
    pub(super) coordinator: Coordinator,
    loading: Loading,
    step: LoadStep,
    /// Up to where the log was replayed.
    next: Offset,
    high_watermark: Offset,
    log_end: Offset,
    pub(super) streams: BTreeMap<StreamId, Handle>,
    pub(super) waiters: BTreeMap<RequestId, (Address, u64, Duration)>,
    /// What is appended of members and not replicated.
    members: VecDeque<(Place, What)>,
    retry_at: Duration,
    backoff: Duration,
    is_planned: bool,
}

impl Shard {
    pub(super) fn new(
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        start: Offset,
        topics: Arc<Topics>,
        context: &Context,
    ) -> Self {
        Self {
            id,
            epoch,
            start,
            phase: Phase::Loading,
            coordinator: fresh(topics, context),
            loading: Loading::new(start),
            step: Loading::new(start).first(),
            next: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end: Offset::ZERO,
            streams: BTreeMap::new(),
            waiters: BTreeMap::new(),
            members: VecDeque::new(),
            retry_at: Duration::ZERO,
            backoff: LOAD_RETRY.0,
            is_planned: false,
        }
    }
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
        match shard.phase {
            Phase::Loading => {
                if shard.retry_at <= context.now {
                    self.load(partition, context);
                }
            }
            Phase::Serving => {
                if shard.coordinator.pending_count() > 0 {
                    match self.check_shard(partition, context) {
                        Ok(high_watermark) => self.advance_shard(partition, high_watermark, context),
                        Err(error) => return self.shard_refused(partition, error, context),
                    }
                }
                self.run_due(partition, context);
                self.expire_commits(partition, context);
            }
            Phase::Ended => {}
        }
    }

    /// Whether this broker still serves as the leader of the shard's epoch, and up to where its log is committed.
    pub(super) fn check_shard(
        &self,
        partition: PartitionIndex,
        context: &Context,
    ) -> Result<Offset, PartitionError> {
        let shard = self.groups.shards.get(&partition).ok_or_else(not_coordinator)?;
        let replica = &self.target(shard.id)?.replica;
        self.check_serving(context)?;
        let start = replica.earliest_offset(Some(shard.epoch))?.0;
        Ok(replica.consumer_read(Some(shard.epoch), start)?.until)
    }

    /// Replays everything below where the leadership began, once the high watermark is there.
    fn load(&mut self, partition: PartitionIndex, context: &mut Context) {
        let high_watermark = match self.check_shard(partition, context) {
            Ok(high_watermark) => high_watermark,
            Err(error) => {
                let topics = Arc::clone(&self.groups.topics);
                let Some(shard) = self.groups.shards.get_mut(&partition) else {
                    return;
                };
                if may_pass(&error) {
                    shard.coordinator = fresh(topics, context);
                    shard.loading = Loading::new(shard.start);
                    shard.step = shard.loading.first();
                    shard.retry_at = context.now + shard.backoff;
                    shard.backoff = (shard.backoff * 2).min(LOAD_RETRY.1);
                } else {
                    shard.phase = Phase::Ended;
                }
                return;
            }
        };
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        loop {
            let from = match shard.step {
                LoadStep::Ready => break,
                LoadStep::Read(from) => from,
                LoadStep::Wait(above) if high_watermark > above => shard.next,
                LoadStep::Wait(_) => return,
                LoadStep::Damaged(_) => {
                    shard.phase = Phase::Ended;
                    return;
                }
            };
            let batches = self.disk.read(shard.id, from, high_watermark, BATCHES_AT_ONCE);
            for batch in &batches {
                for (record, at) in batch.records.iter().flat_map(|records| records.iter()).zip(1..) {
                    shard.coordinator.replay(record);
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
            shard.next = batches.last().map_or(from, |last| last.info.end_offset());
            shard.step = shard.loading.read(shard.next, high_watermark);
        }
        let now = self.group_now(context);
        if let Some(shard) = self.groups.shards.get_mut(&partition) {
            context.history.seen.coordinators += 1;
            shard.phase = Phase::Serving;
            shard.coordinator.start(shard.start, now);
            (shard.high_watermark, shard.log_end) = (shard.start, shard.start);
            shard.backoff = LOAD_RETRY.0;
            self.run_due(partition, context);
        }
    }

    /// A command of somebody: decided, appended, applied; or refused, and nothing of it happened.
    pub(super) fn shard_takes(
        &mut self,
        partition: PartitionIndex,
        command: &Command,
        context: &mut Context,
    ) {
        if self
            .groups
            .shards
            .get(&partition)
            .is_none_or(|shard| shard.phase != Phase::Serving)
        {
            return;
        }
        if let Err(error) = self.check_shard(partition, context) {
            self.shard_refused(partition, error, context);
            return;
        }
        if let Err(error) = self.run(partition, command, context) {
            self.refuse_command(partition, command, error, context);
        }
        self.run_due(partition, context);
    }

    fn run(
        &mut self,
        partition: PartitionIndex,
        command: &Command,
        context: &mut Context,
    ) -> Result<(), PartitionError> {
        let now = self.group_now(context);
        let shard = self.groups.shards.get(&partition).ok_or_else(not_coordinator)?;
        let decision = shard.coordinator.decide(command, now);
        let (id, epoch) = (shard.id, shard.epoch);
        let mut end = None;
        if !decision.records.is_empty() {
            let records = decision.records.clone();
            let appended = self.append_records(id, epoch, records, context);
            end = Some(appended.map_err(refused)?);
            self.note_commit(partition, command, &decision, context);
        }
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return Err(not_coordinator());
        };
        if let Some(end) = end {
            let first = end - decision.records.len() as u64;
            for (record, at) in decision.records.iter().zip(1..) {
                let end = first + at;
                let place = Place {
                    partition,
                    epoch,
                    end,
                };
                if matches!(command, Command::Expire { .. }) {
                    context.history.was_silent(place);
                }
                shard.members.extend(of_member(record).map(|what| (place, what)));
            }
            shard.log_end = end;
        }
        shard.coordinator.apply(decision, end, now);
        let high_watermark = shard.high_watermark;
        self.advance_shard(partition, high_watermark, context);
        Ok(())
    }

    fn note_commit(
        &self,
        partition: PartitionIndex,
        command: &Command,
        decision: &Decision,
        context: &mut Context,
    ) {
        let Command::Commit { group, member, .. } = command else {
            return;
        };
        let takes = decision
            .records
            .iter()
            .any(|record| matches!(record, Record::Offset { .. }));
        let Some(shard) = self.groups.shards.get(&partition).filter(|_| takes) else {
            return;
        };
        let known = shard.coordinator.latest().group(group);
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
        shard.high_watermark = shard.high_watermark.max(high_watermark);
        let covered = shard.high_watermark;
        while let Some((place, what)) = shard.members.pop_front_if(|(place, _)| place.end <= covered) {
            context.history.became(context.now, place, what);
        }
        for effect in shard.coordinator.advance(covered) {
            self.perform_group(partition, effect, context);
        }
    }

    fn perform_group(&mut self, partition: PartitionIndex, effect: Effect, context: &mut Context) {
        let Some(shard) = self.groups.shards.get_mut(&partition) else {
            return;
        };
        match &effect {
            Effect::Reply { request, reply } => {
                // Whoever gave up waiting is not told.
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
                if let Some(handle) = shard.streams.get(stream) {
                    context.say(*handle, Message::Coordinator(effect));
                }
            }
        }
    }

    fn run_due(&mut self, partition: PartitionIndex, context: &mut Context) {
        // Bounded: what is due is applied or put off.
        loop {
            let now = self.group_now(context);
            let shard = self.groups.shards.get_mut(&partition);
            let Some(shard) = shard.filter(|shard| shard.phase == Phase::Serving) else {
                return;
            };
            let Some(command) = shard.coordinator.due(now) else {
                return;
            };
            if self.run(partition, &command, context).is_err()
                && let Some(shard) = self.groups.shards.get_mut(&partition)
            {
                shard.coordinator.postpone(&command, now);
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

    /// A command whose records were not taken: whoever sent it may try again.
    fn refuse_command(
        &mut self,
        partition: PartitionIndex,
        command: &Command,
        error: PartitionError,
        context: &mut Context,
    ) {
        match command {
            Command::Commit { request, .. } | Command::Delete { request, .. } => {
                let waiter = self
                    .groups
                    .shards
                    .get_mut(&partition)
                    .and_then(|shard| shard.waiters.remove(request));
                if let Some((asker, id, _)) = waiter {
                    self.answer(asker, id, Answer::Refused(error), context);
                }
            }
            Command::Join { stream, .. }
            | Command::Heartbeat { stream, .. }
            | Command::Revoked { stream, .. }
            | Command::Subscribe { stream, .. }
            | Command::Leave { stream, .. }
            | Command::Disconnected { stream } => {
                // The member resumes with what it owns, which says again what was lost here.
                let stream = *stream;
                let error = Some(error);
                self.perform_group(partition, Effect::End { stream, error }, context);
                let _ = self.run(partition, &Command::Disconnected { stream }, context);
            }
            Command::Expire { .. } | Command::TopicsChanged { .. } | Command::ExpireOffsets { .. } => {}
        }
    }

    /// The log refused: the shard loads anew, or is at its end.
    fn shard_refused(&mut self, partition: PartitionIndex, error: PartitionError, context: &mut Context) {
        let Some(mut shard) = self.groups.shards.remove(&partition) else {
            return;
        };
        let passes = may_pass(&error);
        self.end_shard(&mut shard, &refused(error), context);
        // What was appended in this epoch is to be replayed as well, and replicated first.
        let topics = Arc::clone(&self.groups.topics);
        let mut next = Shard::new(shard.id, shard.epoch, shard.log_end, topics, context);
        next.phase = if passes { Phase::Loading } else { Phase::Ended };
        next.retry_at = context.now + LOAD_RETRY.0;
        self.groups.shards.insert(partition, next);
    }

    /// It serves no more: everybody is told, and may find what it asked for done or not.
    pub(super) fn end_shard(&mut self, shard: &mut Shard, why: &PartitionError, context: &mut Context) {
        for (stream, handle) in std::mem::take(&mut shard.streams) {
            self.end_stream(handle, Some(stream), why.clone(), context);
        }
        for (asker, id, _) in std::mem::take(&mut shard.waiters).into_values() {
            self.answer(asker, id, Answer::Refused(why.clone()), context);
        }
    }

    fn group_now(&self, context: &Context) -> Now {
        Now {
            monotonic: self.local(context),
            // Every wall clock tells the same: offsets are kept for days, and a run lasts for minutes.
            wall_ms: 1_700_000_000_000 + context.now.as_millis() as i64,
        }
    }
}

fn fresh(topics: Arc<Topics>, context: &Context) -> Coordinator {
    let config = GroupConfig {
        heartbeat_interval: context.config.group_heartbeat,
        session_timeout: context.config.group_session,
        ..GroupConfig::default()
    };
    Coordinator::new(config, topics)
}

/// What a record says that became of a member, once it is replicated.
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
