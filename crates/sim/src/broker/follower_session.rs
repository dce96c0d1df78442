//! The leader's side of one follower's stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_replica::{FetchPosition, FollowerDurable, FollowerFetch, FollowerFetchAnswer};
use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, TopicIdPartition};

use super::{Process, Timer};
use crate::context::Context;
use crate::message::{Message, Taken};
use crate::network::Handle;

/// Most batches of one partition in an answer.
const BATCHES_AT_ONCE: u64 = 12;

type Answers = Vec<(TopicIdPartition, LeaderEpoch, Result<Taken, ErrorCode>)>;

/// One follower's stream.
#[derive(Debug)]
pub(super) struct FollowerSession {
    broker: BrokerId,
    epoch: BrokerEpoch,
    /// Fetches that wait, one a partition.
    pending: BTreeMap<TopicIdPartition, FollowerFetch>,
    /// Partitions whose fetch may be answerable.
    ready: BTreeSet<TopicIdPartition>,
    /// Answers that were read from the disk.
    finished: Answers,
    /// Partitions whose high watermark the follower does not know.
    progressed: BTreeSet<TopicIdPartition>,
    progress_at: Option<Duration>,
    is_flushing: bool,
}

/// A follower's fetch whose batches are read later.
#[derive(Debug)]
pub(crate) struct LateRead {
    handle: Handle,
    partition: TopicIdPartition,
    leader_epoch: LeaderEpoch,
    from: Offset,
    until: Offset,
    high_watermark: Offset,
    log_start: Offset,
}

impl FollowerSession {
    pub(super) fn new(broker: BrokerId, epoch: BrokerEpoch) -> Self {
        Self {
            broker,
            epoch,
            pending: BTreeMap::new(),
            ready: BTreeSet::new(),
            finished: Vec::new(),
            progressed: BTreeSet::new(),
            progress_at: None,
            is_flushing: false,
        }
    }
}

impl Process {
    /// A follower's message.
    pub(super) fn replica_fetch(
        &mut self,
        handle: Handle,
        fetches: Vec<(TopicIdPartition, FetchPosition)>,
        durable: Vec<(TopicIdPartition, FetchPosition)>,
        context: &mut Context,
    ) {
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        let (broker, broker_epoch) = (session.broker, session.epoch);
        for (id, position) in fetches {
            session.pending.insert(
                id,
                FollowerFetch {
                    broker,
                    broker_epoch,
                    leader_epoch: position.leader_epoch,
                    fetch_offset: position.fetch_offset,
                    last_fetched_epoch: position.last_fetched_epoch,
                    durable_end: position.durable_end,
                },
            );
            session.ready.insert(id);
        }
        self.heard_from(broker, context);
        let now = self.local(context);
        for (id, position) in durable {
            let durable = FollowerDurable {
                broker,
                broker_epoch,
                leader_epoch: position.leader_epoch,
                durable_end: position.durable_end,
            };
            let Some(partition) = self.replicas.get_mut(&id) else {
                continue;
            };
            // A stale word is no error worth an answer.
            if let Ok(effects) = partition.replica.follower_durable(&durable, now) {
                self.perform(id, effects, context);
            }
        }
        self.flush_session_soon(handle, context);
    }

    /// Followers whose fetches wait at a partition can be answered.
    pub(super) fn wake_followers(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        let mut woken = Vec::new();
        for (handle, is_waiting) in partition.followers.values_mut() {
            if std::mem::take(is_waiting) {
                woken.push(*handle);
            }
        }
        for handle in woken {
            if let Some(session) = self.followers.get_mut(&handle) {
                session.ready.insert(id);
                self.flush_session_soon(handle, context);
            }
        }
    }

    /// A partition's high watermark moved.
    pub(super) fn progressed(&mut self, handle: Handle, id: TopicIdPartition, context: &mut Context) {
        let delay = context.random.millis(1, 20);
        if let Some(session) = self.followers.get_mut(&handle) {
            session.progressed.insert(id);
            session.progress_at.get_or_insert(context.now + delay);
        }
    }

    pub(super) fn tick_sessions(&mut self, context: &mut Context) {
        let now = context.now;
        let due: Vec<_> = self
            .followers
            .iter()
            .filter(|(_, session)| session.progress_at.is_some_and(|at| at <= now))
            .map(|(handle, _)| *handle)
            .collect();
        for handle in due {
            self.flush_session(handle, context);
        }
    }

    fn flush_session_soon(&mut self, handle: Handle, context: &mut Context) {
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        if !session.is_flushing && (!session.ready.is_empty() || !session.finished.is_empty()) {
            session.is_flushing = true;
            let after = context.random.micros(5, 200);
            self.plan(after, Timer::FlushSession(handle), context);
        }
    }

    /// Answers what can be answered.
    pub(super) fn flush_session(&mut self, handle: Handle, context: &mut Context) {
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        session.is_flushing = false;
        let mut answers = std::mem::take(&mut session.finished);
        for id in std::mem::take(&mut session.ready) {
            let fetch = self
                .followers
                .get_mut(&handle)
                .and_then(|session| session.pending.remove(&id));
            if let Some(fetch) = fetch {
                answers.extend(self.try_answer(handle, id, fetch, context));
            }
        }
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        let is_due = session.progress_at.is_some_and(|at| at <= context.now);
        if answers.is_empty() && !is_due {
            return;
        }
        session.progress_at = None;
        let mut moved = std::mem::take(&mut session.progressed);
        for (id, ..) in &answers {
            moved.remove(id);
        }
        let progress: Vec<_> = moved.into_iter().filter_map(|id| self.progress(id)).collect();
        if !answers.is_empty() || !progress.is_empty() {
            context.say(handle, Message::ReplicaAnswer { answers, progress });
        }
    }

    fn progress(&self, id: TopicIdPartition) -> Option<(TopicIdPartition, LeaderEpoch, Taken)> {
        let replica = &self.replicas.get(&id)?.replica;
        let taken = Taken::Progress {
            high_watermark: replica.log().high_watermark(),
            log_start: replica.log().log_start(),
        };
        replica.is_leader().then(|| (id, replica.leader().1, taken))
    }

    fn try_answer(
        &mut self,
        handle: Handle,
        id: TopicIdPartition,
        fetch: FollowerFetch,
        context: &mut Context,
    ) -> Option<(TopicIdPartition, LeaderEpoch, Result<Taken, ErrorCode>)> {
        let now = self.local(context);
        let answered = |result| Some((id, fetch.leader_epoch, result));
        let Some(partition) = self.replicas.get_mut(&id) else {
            return answered(Err(ErrorCode::UnknownTopicOrPartition));
        };
        let answer = match partition.replica.follower_fetch(&fetch, now) {
            Ok((answer, effects)) => {
                self.perform(id, effects, context);
                answer
            }
            Err(error) => return answered(Err(error.code)),
        };
        let (from, until, high_watermark, log_start) = match answer {
            FollowerFetchAnswer::Diverging(diverging) => return answered(Ok(Taken::Diverging(diverging))),
            FollowerFetchAnswer::BeforeLogStart { log_start } => {
                return answered(Ok(Taken::BeforeLogStart(log_start)));
            }
            FollowerFetchAnswer::Read {
                from,
                until,
                high_watermark,
                log_start,
            } => (from, until, high_watermark, log_start),
        };
        if let Some(partition) = self.replicas.get_mut(&id) {
            partition.followers.insert(fetch.broker, (handle, until <= from));
        }
        if until <= from {
            if let Some(session) = self.followers.get_mut(&handle) {
                // Unless the follower fetched anew meanwhile.
                session.pending.entry(id).or_insert(fetch);
            }
            return None;
        }
        let late = LateRead {
            handle,
            partition: id,
            leader_epoch: fetch.leader_epoch,
            from,
            until,
            high_watermark,
            log_start,
        };
        if context.random.per_mille(60) {
            let after = context.random.micros(50, 60_000);
            self.plan(after, Timer::FollowerRead(Box::new(late)), context);
            return None;
        }
        answered(Ok(self.read_for_follower(&late, context)))
    }

    fn read_for_follower(&self, late: &LateRead, context: &mut Context) -> Taken {
        let max = context.random.between(1, BATCHES_AT_ONCE) as usize;
        Taken::Batches {
            batches: self.disk.read(late.partition, late.from, late.until, max),
            high_watermark: late.high_watermark,
            log_start: late.log_start,
        }
    }

    /// A follower's batches were read from the disk.
    pub(super) fn follower_read(&mut self, late: LateRead, context: &mut Context) {
        let taken = self.read_for_follower(&late, context);
        if let Some(session) = self.followers.get_mut(&late.handle) {
            session
                .finished
                .push((late.partition, late.leader_epoch, Ok(taken)));
            self.flush_session_soon(late.handle, context);
        }
    }
}
