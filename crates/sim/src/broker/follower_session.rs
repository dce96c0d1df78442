//! Drives the leader's side of one follower's stream.

use std::time::Duration;

use tidelog_replica::feed::{DiskRead, Feed, Found, Limits};
use tidelog_replica::link::Request;
use tidelog_replica::{FollowerDurable, FollowerFetch, LogRange};
use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, TopicIdPartition};

use super::{Process, Timer};
use crate::context::Context;
use crate::disk::Batch;
use crate::message::Message;
use crate::network::Handle;

/// One follower's stream.
#[derive(Debug)]
pub(super) struct FollowerSession {
    broker: BrokerId,
    epoch: BrokerEpoch,
    feed: Feed<Vec<Batch>>,
    /// When it is looked at next, at the latest.
    planned: Option<Duration>,
}

/// A read of the disk for a follower.
#[derive(Debug)]
pub(crate) struct LateRead {
    handle: Handle,
    read: DiskRead,
}

impl FollowerSession {
    pub(super) fn new(broker: BrokerId, epoch: BrokerEpoch, limits: Limits) -> Self {
        let size = |batches: &Vec<Batch>| batches.iter().map(|batch| batch.info.size_bytes as usize).sum();
        Self {
            broker,
            epoch,
            feed: Feed::new(limits, size),
            planned: None,
        }
    }
}

impl Process {
    /// A follower's message.
    pub(super) fn replica_fetch(&mut self, handle: Handle, request: Request, context: &mut Context) {
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        let (broker, broker_epoch) = (session.broker, session.epoch);
        for (id, position) in request.fetches {
            let fetch = FollowerFetch {
                broker,
                broker_epoch,
                leader_epoch: position.leader_epoch,
                fetch_offset: position.fetch_offset,
                last_fetched_epoch: position.last_fetched_epoch,
                durable_end: position.durable_end,
            };
            session.feed.fetch(id, fetch);
        }
        self.heard_from(broker, context);
        let now = self.local(context);
        for (id, position) in request.durable {
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
        let followers = partition.followers.values_mut();
        let woken: Vec<_> = followers
            .filter_map(|(handle, is_waiting)| std::mem::take(is_waiting).then_some(*handle))
            .collect();
        for handle in woken {
            if let Some(session) = self.followers.get_mut(&handle) {
                session.feed.ready(id);
                self.flush_session_soon(handle, context);
            }
        }
    }

    /// A partition's high watermark moved.
    pub(super) fn progressed(&mut self, handle: Handle, id: TopicIdPartition, context: &mut Context) {
        if let Some(session) = self.followers.get_mut(&handle) {
            session.feed.progressed(id, context.now);
            self.flush_session_soon(handle, context);
        }
    }

    fn flush_session_soon(&mut self, handle: Handle, context: &mut Context) {
        let after = context.random.micros(5, 200);
        if let Some(session) = self.followers.get_mut(&handle)
            && let Some(at) = session.feed.next_wake()
        {
            let at = at.max(context.now + after);
            if session.planned.is_none_or(|planned| planned > at) {
                session.planned = Some(at);
                self.plan(
                    at.saturating_sub(context.now),
                    Timer::FlushSession(handle),
                    context,
                );
            }
        }
    }

    /// Answers what can be answered.
    pub(super) fn flush_session(&mut self, handle: Handle, context: &mut Context) {
        while let Some(session) = self.followers.get_mut(&handle) {
            session.planned = None;
            let Some((id, fetch)) = session.feed.next_fetch() else {
                break;
            };
            self.try_fetch(handle, id, fetch, context);
        }
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        if let Some(message) = session.feed.message(context.now) {
            let progress = |id| Some((id, self.replicas.get(&id)?.replica.progress()?));
            let progress: Vec<_> = message.progressed.into_iter().filter_map(progress).collect();
            let answers = message.answers;
            if !answers.is_empty() || !progress.is_empty() {
                context.say(handle, Message::ReplicaAnswer { answers, progress });
            }
        }
        self.flush_session_soon(handle, context);
    }

    fn try_fetch(
        &mut self,
        handle: Handle,
        id: TopicIdPartition,
        fetch: FollowerFetch,
        context: &mut Context,
    ) {
        let found = self.find(handle, id, &fetch, context);
        let needs_disk = matches!(found, Ok(Found::OnDisk { .. }));
        let Some(session) = self.followers.get_mut(&handle) else {
            return;
        };
        match session.feed.tried(id, fetch, found) {
            Some(read) => {
                let after = context.random.micros(50, 60_000);
                let late = LateRead { handle, read };
                self.plan(after, Timer::FollowerRead(Box::new(late)), context);
            }
            None => context.history.seen.deferred_fetches += u64::from(needs_disk),
        }
    }

    fn find(
        &mut self,
        handle: Handle,
        id: TopicIdPartition,
        fetch: &FollowerFetch,
        context: &mut Context,
    ) -> Result<Found<Vec<Batch>>, ErrorCode> {
        let now = self.local(context);
        let partition = self.replicas.get_mut(&id);
        let replica = &mut partition.ok_or(ErrorCode::UnknownTopicOrPartition)?.replica;
        let fetched = replica.follower_fetch(fetch, now);
        let (answer, effects) = fetched.map_err(|error| error.code)?;
        self.perform(id, effects, context);
        let Some(&range) = answer.batches() else {
            return Ok(Found::Answer(answer.map(|_| Vec::new())));
        };
        if let Some(partition) = self.replicas.get_mut(&id) {
            partition
                .followers
                .insert(fetch.broker, (handle, range.is_empty()));
        }
        Ok(if range.is_empty() {
            Found::Nothing
        } else if context.random.per_mille(context.config.cold_per_mille) {
            Found::OnDisk { range, answer }
        } else {
            Found::Answer(answer.map(|range| self.read_for_follower(id, range, context)))
        })
    }

    fn read_for_follower(&self, id: TopicIdPartition, range: LogRange, context: &mut Context) -> Vec<Batch> {
        let max = context.random.between(1, 12) as usize;
        self.disk.read(id, range.from, range.until, max)
    }

    /// A follower's batches are read from the disk.
    pub(super) fn follower_read(&mut self, late: LateRead, context: &mut Context) {
        let LateRead { handle, read } = late;
        let batches = self.read_for_follower(read.partition, read.range, context);
        if let Some(session) = self.followers.get_mut(&handle) {
            session.feed.read(read, Ok(batches));
            self.flush_session_soon(handle, context);
        }
    }
}
