//! Drives a follower's stream to one leader.

use std::sync::Arc;

use tidelog_history::What;
use tidelog_replica::feed::Answer;
use tidelog_replica::link::{Ask, Link, LinkWork, Request, Step, Taken};
use tidelog_replica::{Fetched, FetchedFromLeader, InvalidFetch, Progress};
use tidelog_types::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::{Process, Timer, Use};
use crate::context::Context;
use crate::disk::{Batch, Write};
use crate::message::{Lane, Message};
use crate::network::Handle;

/// The stream to a leader.
#[derive(Debug)]
pub(super) struct LeaderStream {
    link: Link,
    handle: Option<Handle>,
    is_flushing: bool,
}

impl Process {
    /// A partition that follows has something for its leader.
    pub(super) fn tell_leader(&mut self, id: TopicIdPartition, work: LinkWork, context: &mut Context) {
        let partition = self.replicas.get(&id);
        let Some(leader) = partition.and_then(|partition| partition.replica.follows()) else {
            return;
        };
        let message_partitions = context.config.link_message_partitions;
        let stream = self.links.entry(leader).or_insert_with(|| LeaderStream {
            link: Link::new(leader, message_partitions),
            handle: None,
            is_flushing: false,
        });
        stream.link.queue(id, work);
        self.advance_link(leader, context);
    }

    /// Does what is due on every stream.
    pub(super) fn advance_links(&mut self, context: &mut Context) {
        let leaders: Vec<_> = self.links.keys().copied().collect();
        for leader in leaders {
            self.advance_link(leader, context);
        }
    }

    fn advance_link(&mut self, leader: BrokerId, context: &mut Context) {
        let registration = self.broker_epoch();
        while let Some(stream) = self.links.get_mut(&leader)
            && let Some(step) = stream.link.advance(context.now, registration)
        {
            match (step, stream.handle) {
                (Step::Look(partitions), _) => {
                    let follows = |id: &_| self.replicas.get(id)?.replica.follows();
                    let gone: Vec<_> = partitions
                        .into_iter()
                        .filter(|id| follows(id) != Some(leader))
                        .collect();
                    stream.link.gone(&gone);
                }
                (Step::Open(epoch), _) => {
                    let handle = context.open(self.address, leader, Lane::Replication(epoch));
                    self.uses.insert(handle, Use::Link(leader));
                    stream.handle = Some(handle);
                }
                (Step::Beat, Some(handle)) => context.say(handle, Message::ReplicaFetch(Request::default())),
                (Step::Close(_), Some(handle)) => {
                    self.uses.remove(&handle);
                    context.close(handle);
                    self.link_closed(leader, context);
                }
                (Step::Beat | Step::Close(_), None) => unreachable!("there is no stream"),
            }
        }
        self.flush_link_soon(leader, context);
    }

    fn flush_link_soon(&mut self, leader: BrokerId, context: &mut Context) {
        if let Some(stream) = self.links.get_mut(&leader)
            && stream.link.has_to_say()
            && !std::mem::replace(&mut stream.is_flushing, true)
        {
            let after = context.random.micros(5, 200);
            self.plan(after, Timer::FlushLink(leader), context);
        }
    }

    /// As much as there is to say, in one message.
    pub(super) fn flush_link(&mut self, leader: BrokerId, context: &mut Context) {
        let Some(stream) = self.links.get_mut(&leader) else {
            return;
        };
        stream.is_flushing = false;
        let replicas = &self.replicas;
        let reply = |ask: Ask| {
            let partition = replicas.get(&ask.partition);
            let standing = partition.map(|partition| partition.replica.standing(ask));
            (ask.partition, standing.unwrap_or_default())
        };
        let replies = stream.link.ask().into_iter().map(reply).collect();
        let request = stream.link.request(replies);
        if let Some(handle) = stream.handle
            && !request.is_empty()
        {
            context.say(handle, Message::ReplicaFetch(request));
        }
        self.flush_link_soon(leader, context);
    }

    pub(super) fn link_opened(&mut self, leader: BrokerId, context: &mut Context) {
        if let Some(stream) = self.links.get_mut(&leader) {
            stream.link.opened(context.now);
        }
        self.advance_link(leader, context);
    }

    pub(super) fn link_closed(&mut self, leader: BrokerId, context: &mut Context) {
        if let Some(stream) = self.links.get_mut(&leader) {
            stream.handle = None;
            let jitter_per_mille = context.random.below(1000) as u32;
            stream.link.closed(context.now, jitter_per_mille);
        }
    }

    /// A leader's answers.
    pub(super) fn take_answers(
        &mut self,
        leader: BrokerId,
        answers: Vec<Answer<Vec<Batch>>>,
        progress: Vec<(TopicIdPartition, Progress)>,
        context: &mut Context,
    ) {
        for answer in answers {
            let id = answer.partition;
            if !self.links.get(&leader).is_some_and(|stream| stream.link.has(id)) {
                continue;
            }
            let taken = match answer.result {
                Ok(fetched) => {
                    let taken = self.take_fetched(id, answer.leader_epoch, fetched, context);
                    Taken::from(taken.as_ref().copied())
                }
                Err(_) => Taken::Refused,
            };
            if let Some(stream) = self.links.get_mut(&leader) {
                stream.link.taken(id, taken, context.now);
            }
        }
        for (id, progress) in progress {
            // It answers no fetch: whatever comes of it, the one that waits at the leader still
            // does.
            let _ = self.take_fetched(id, progress.leader_epoch, progress.into(), context);
        }
        self.flush_link_soon(leader, context);
    }

    fn take_fetched(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        fetched: Fetched<Vec<Batch>>,
        context: &mut Context,
    ) -> Result<bool, InvalidFetch> {
        let now = self.local(context);
        let Some(partition) = self.replicas.get_mut(&id) else {
            return Ok(false);
        };
        let batches = fetched.batches().into_iter().flatten();
        let headers: Vec<_> = batches.map(|batch| batch.info).collect();
        let taken = partition.replica.fetched(FetchedFromLeader {
            leader_epoch,
            answer: fetched.as_ref().map(|_| headers.as_slice()),
            now,
        })?;
        let batches = fetched.into_batches().unwrap_or_default();
        for batch in &batches {
            context.record(What::Appended {
                broker: self.broker,
                partition: id,
                entry: Arc::clone(&batch.entry),
                leading: false,
            });
        }
        if !batches.is_empty() {
            let (epochs, producers) = (taken.epochs, taken.producers);
            let write = Write::Append {
                batches,
                epochs,
                producers,
            };
            self.disk.enqueue(id, write);
        }
        self.perform(id, taken.effects, context);
        Ok(taken.may_fetch_on)
    }
}
