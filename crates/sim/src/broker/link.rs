//! A follower's stream to one leader.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_history::What;
use tidelog_replica::messages::FetchAnswer;
use tidelog_replica::{Effect, FetchedFromLeader, InvalidFetch};
use tidelog_types::{BrokerId, ErrorCode, LeaderEpoch, TopicIdPartition};

use super::{Process, Timer, Use};
use crate::context::Context;
use crate::disk::{Batch, Write};
use crate::message::{Lane, Message, Taken};
use crate::network::Handle;

/// A sign of life, when nothing else is to be said.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// When a partition that was refused is fetched again.
const RETRY: Duration = Duration::from_millis(50);
/// Shortest and longest time between attempts to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Longest wait for the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Something to tell a partition's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkWork {
    Fetch,
    Durable,
}

/// The stream to a leader, while anything follows it.
#[derive(Debug, Default)]
pub(super) struct Link {
    stream: Option<Stream>,
    reconnect_at: Duration,
    backoff: Duration,
    /// Partitions that follow this leader, as far as known, with what is to be said of each: fetch, durable.
    members: BTreeMap<TopicIdPartition, (bool, bool)>,
    refused: Vec<TopicIdPartition>,
    retry_at: Option<Duration>,
    is_flushing: bool,
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    is_open: bool,
    opened: Duration,
    beat_at: Duration,
}

impl Process {
    /// A partition that follows has something for its leader.
    pub(super) fn tell_leader(&mut self, id: TopicIdPartition, work: LinkWork, context: &mut Context) {
        let Some(partition) = self.replicas.get(&id) else {
            return;
        };
        let (Some(leader), false) = (partition.replica.leader().0, partition.replica.is_leader()) else {
            return;
        };
        self.queue(leader, id, work, context);
    }

    fn queue(&mut self, leader: BrokerId, id: TopicIdPartition, work: LinkWork, context: &mut Context) {
        let link = self.links.entry(leader).or_default();
        let member = link.members.entry(id).or_default();
        match work {
            LinkWork::Fetch => member.0 = true,
            LinkWork::Durable => member.1 = true,
        }
        if link.stream.is_none() {
            self.keep_link(leader, context);
        }
        self.flush_soon(leader, context);
    }

    fn flush_soon(&mut self, leader: BrokerId, context: &mut Context) {
        let Some(link) = self.links.get_mut(&leader) else {
            return;
        };
        let is_open = link.stream.as_ref().is_some_and(|stream| stream.is_open);
        if is_open && !link.is_flushing {
            link.is_flushing = true;
            let after = context.random.micros(5, 200);
            self.plan(after, Timer::FlushLink(leader), context);
        }
    }

    /// Everything there is to say, in one message.
    pub(super) fn flush_link(&mut self, leader: BrokerId, context: &mut Context) {
        let Some(link) = self.links.get_mut(&leader) else {
            return;
        };
        link.is_flushing = false;
        let Some(handle) = link
            .stream
            .as_ref()
            .filter(|stream| stream.is_open)
            .map(|stream| stream.handle)
        else {
            return;
        };
        let (mut fetches, mut durable) = (Vec::new(), Vec::new());
        let replicas = &self.replicas;
        link.members.retain(|id, (to_fetch, to_report)| {
            let Some(replica) = replicas.get(id).map(|partition| &partition.replica) else {
                return false;
            };
            if std::mem::take(to_fetch)
                && let Some(position) = replica.next_fetch().filter(|position| position.leader == leader)
            {
                fetches.push((*id, position));
            }
            if std::mem::take(to_report)
                && let Some(position) = replica
                    .durable_report()
                    .filter(|position| position.leader == leader)
            {
                durable.push((*id, position));
            }
            !replica.is_leader() && replica.leader().0 == Some(leader)
        });
        if !fetches.is_empty() || !durable.is_empty() {
            context.say(handle, Message::ReplicaFetch { fetches, durable });
        }
    }

    pub(super) fn tick_links(&mut self, context: &mut Context) {
        let now = context.now;
        let leaders: Vec<_> = self.links.keys().copied().collect();
        for leader in leaders {
            let Some(link) = self.links.get_mut(&leader) else {
                continue;
            };
            if link.retry_at.is_some_and(|at| at <= now) {
                link.retry_at = None;
                for id in std::mem::take(&mut link.refused) {
                    if let Some(member) = link.members.get_mut(&id) {
                        member.0 = true;
                    }
                }
                self.flush_soon(leader, context);
            }
            self.keep_link(leader, context);
        }
    }

    fn keep_link(&mut self, leader: BrokerId, context: &mut Context) {
        let now = context.now;
        let Some(link) = self.links.get_mut(&leader) else {
            return;
        };
        match &mut link.stream {
            Some(stream) if stream.is_open => {
                if stream.beat_at <= now {
                    stream.beat_at = now + HEARTBEAT;
                    let message = Message::ReplicaFetch {
                        fetches: Vec::new(),
                        durable: Vec::new(),
                    };
                    context.say(stream.handle, message);
                }
            }
            Some(stream) => {
                if now.saturating_sub(stream.opened) > OPEN_TIMEOUT {
                    let handle = stream.handle;
                    self.uses.remove(&handle);
                    context.close(handle);
                    self.link_closed(leader, context);
                }
            }
            None => {
                let replicas = &self.replicas;
                link.members.retain(|id, _| {
                    let replica = replicas.get(id).map(|partition| &partition.replica);
                    replica.is_some_and(|replica| !replica.is_leader() && replica.leader().0 == Some(leader))
                });
                if link.members.is_empty() || link.reconnect_at > now {
                    return;
                }
                let Some(epoch) = self.manager.broker_epoch else {
                    return;
                };
                let handle = context.open(self.address, leader, Lane::Replication(epoch));
                self.uses.insert(handle, Use::Link(leader));
                link.stream = Some(Stream {
                    handle,
                    is_open: false,
                    opened: now,
                    beat_at: now,
                });
            }
        }
    }

    pub(super) fn link_opened(&mut self, leader: BrokerId, context: &mut Context) {
        let Some(link) = self.links.get_mut(&leader) else {
            return;
        };
        if let Some(stream) = &mut link.stream {
            stream.is_open = true;
            stream.opened = context.now;
        }
        link.refused.clear();
        for member in link.members.values_mut() {
            member.0 = true;
        }
        link.is_flushing = true;
        self.flush_link(leader, context);
    }

    pub(super) fn link_closed(&mut self, leader: BrokerId, context: &mut Context) {
        let Some(link) = self.links.get_mut(&leader) else {
            return;
        };
        if let Some(stream) = link.stream.take() {
            let lasted = stream.is_open && context.now.saturating_sub(stream.opened) > RECONNECT.1;
            link.backoff = if lasted {
                RECONNECT.0
            } else {
                (link.backoff * 2).clamp(RECONNECT.0, RECONNECT.1)
            };
            link.reconnect_at = context.now + link.backoff;
        }
    }

    /// This broker was registered anew: its streams were of its former life.
    pub(super) fn close_links(&mut self, context: &mut Context) {
        let leaders: Vec<_> = self.links.keys().copied().collect();
        for leader in leaders {
            let handle = self
                .links
                .get(&leader)
                .and_then(|link| link.stream.as_ref())
                .map(|stream| stream.handle);
            if let Some(handle) = handle {
                self.uses.remove(&handle);
                context.close(handle);
                self.link_closed(leader, context);
            }
        }
    }

    /// A leader's answers.
    pub(super) fn take_answers(
        &mut self,
        leader: BrokerId,
        answers: Vec<(TopicIdPartition, LeaderEpoch, Result<Taken, ErrorCode>)>,
        progress: Vec<(TopicIdPartition, LeaderEpoch, Taken)>,
        context: &mut Context,
    ) {
        for (id, epoch, answer) in answers {
            let is_member = self
                .links
                .get(&leader)
                .is_some_and(|link| link.members.contains_key(&id));
            if !is_member {
                continue;
            }
            match answer.map(|taken| self.take_fetched(id, epoch, taken, context)) {
                Ok(Ok(true)) => self.queue(leader, id, LinkWork::Fetch, context),
                Ok(Ok(false) | Err(InvalidFetch::Stale { .. })) => {}
                Ok(Err(_)) | Err(_) => self.refuse(leader, id, context),
            }
        }
        for (id, epoch, taken) in progress {
            // It answers no fetch: whatever comes of it, the one that waits at the leader still does.
            let _ = self.take_fetched(id, epoch, taken, context);
        }
    }

    fn refuse(&mut self, leader: BrokerId, id: TopicIdPartition, context: &Context) {
        if let Some(link) = self.links.get_mut(&leader) {
            link.refused.push(id);
            link.retry_at.get_or_insert(context.now + RETRY);
        }
    }

    fn take_fetched(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: LeaderEpoch,
        taken: Taken,
        context: &mut Context,
    ) -> Result<bool, InvalidFetch> {
        let now = self.local(context);
        let Some(partition) = self.replicas.get_mut(&id) else {
            return Ok(false);
        };
        let batches = match &taken {
            Taken::Batches { batches, .. } => batches.clone(),
            _ => Vec::new(),
        };
        let infos: Vec<_> = batches.iter().map(|batch| batch.info).collect();
        let answer = match taken {
            Taken::Batches {
                high_watermark,
                log_start,
                ..
            } => FetchAnswer::Batches {
                batches: &infos,
                high_watermark,
                log_start,
            },
            Taken::Progress {
                high_watermark,
                log_start,
            } => FetchAnswer::Progress {
                high_watermark,
                log_start,
            },
            Taken::Diverging(diverging) => FetchAnswer::Diverging(diverging),
            Taken::BeforeLogStart(log_start) => FetchAnswer::BeforeLogStart { log_start },
        };
        let taken = partition.replica.fetched(FetchedFromLeader {
            leader_epoch,
            answer,
            now,
        })?;
        if !batches.is_empty() {
            self.store_fetched(id, batches, &taken, context);
        }
        let reports_itself = taken.effects.contains(&Effect::FetchAgain);
        self.perform(id, taken.effects, context);
        let may_fetch = self
            .replicas
            .get(&id)
            .is_some_and(|partition| partition.replica.next_fetch().is_some());
        Ok(!reports_itself && may_fetch)
    }

    fn store_fetched(
        &mut self,
        id: TopicIdPartition,
        batches: Vec<Batch>,
        taken: &tidelog_replica::messages::TakenFromLeader,
        context: &mut Context,
    ) {
        for batch in &batches {
            context.record(What::Appended {
                broker: self.broker,
                partition: id,
                entry: std::sync::Arc::clone(&batch.entry),
                leading: false,
            });
        }
        let write = Write::Append {
            batches,
            epochs: taken.epochs.clone(),
            producers: taken.producers.clone(),
        };
        self.disk.enqueue(id, write);
    }
}
