//! A follower's stream to one leader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tidelog_proto::internal::v1 as proto;
use tidelog_proto::internal::v1::replication_client::ReplicationClient;
use tidelog_replica::InvalidFetch;
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tidelog_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::links::Connect;
use super::wire;
use crate::partition::{LinkWork, Partition, TakenFetch};

/// A sign of life, when nothing else is to be said.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// When a partition that was refused is fetched again: mostly the leader has not heard of its leadership yet.
const RETRY: Duration = Duration::from_millis(50);
/// Shortest and longest time between attempts to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Messages that are on their way into the stream; what comes while it is full is coalesced.
const OUTBOUND_MESSAGES: usize = 2;
/// Longest wait for the stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Link {
    leader: BrokerId,
    local: BrokerId,
    broker_epoch: watch::Receiver<Option<BrokerEpoch>>,
    work: Mutex<Work>,
    queued: Notify,
}

/// What is to be said, each partition once.
#[derive(Default)]
struct Work {
    /// Partitions that follow this leader, as far as known; those that no longer do go when they are asked.
    members: HashMap<TopicIdPartition, Member>,
    fetch: Vec<TopicIdPartition>,
    durable: Vec<TopicIdPartition>,
    refused: Vec<TopicIdPartition>,
}

struct Member {
    partition: Arc<Partition>,
    is_fetch_queued: bool,
    is_durable_queued: bool,
}

impl Link {
    pub(crate) fn new(
        leader: BrokerId,
        local: BrokerId,
        broker_epoch: watch::Receiver<Option<BrokerEpoch>>,
    ) -> Self {
        Self {
            leader,
            local,
            broker_epoch,
            work: Mutex::default(),
            queued: Notify::new(),
        }
    }

    pub(crate) fn queue(&self, partition: &Arc<Partition>, work: LinkWork) {
        self.work.lock().add(partition, work);
        self.queued.notify_one();
    }

    /// Keeps a stream to the leader while anything follows it.
    pub(crate) async fn run(self: Arc<Self>, connect: Connect, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.reconnect(connect)).await;
    }

    async fn reconnect(&self, connect: Connect) {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(RECONNECT.0)
            .with_max_delay(RECONNECT.1)
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        let mut broker_epoch = self.broker_epoch.clone();
        loop {
            while !self.has_members() {
                self.queued.notified().await;
            }
            let Ok(epoch) = broker_epoch.wait_for(Option::is_some).await.map(|epoch| *epoch) else {
                return;
            };
            let Some(epoch) = epoch else { continue };
            let opened = Instant::now();
            let ended = self.stream(&connect, epoch).await;
            tracing::debug!(leader = %self.leader, status = %ended, "replication stream ended");
            if opened.elapsed() > RECONNECT.1 {
                delays = backoff.build();
            }
            tokio::time::sleep(delays.next().unwrap_or(RECONNECT.1)).await;
        }
    }

    /// One stream, from its opening to its end.
    async fn stream(&self, connect: &Connect, epoch: BrokerEpoch) -> Status {
        let channel = match connect(self.leader) {
            Ok(channel) => channel,
            Err(status) => return status,
        };
        let mut client = ReplicationClient::new(channel)
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES);
        let (outbound, messages) = mpsc::channel(OUTBOUND_MESSAGES);
        let hello = proto::Hello {
            broker_id: self.local.get(),
            broker_epoch: epoch.0,
            leader_id: self.leader.get(),
        };
        let first = proto::ReplicaFetchRequest {
            hello: Some(hello),
            ..Default::default()
        };
        if outbound.try_send(first).is_err() {
            return Status::internal("a new stream has no room");
        }
        let opening = client.fetch(ReceiverStream::new(messages));
        let inbound = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the replication stream did not open"),
        };
        tracing::info!(leader = %self.leader, "replication stream opened");
        self.work.lock().fetch_all();
        self.pump(outbound, inbound, epoch).await
    }

    async fn pump(
        &self,
        outbound: mpsc::Sender<proto::ReplicaFetchRequest>,
        mut inbound: Streaming<proto::ReplicaFetchResponse>,
        epoch: BrokerEpoch,
    ) -> Status {
        let mut registration = self.broker_epoch.clone();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retry_at: Option<Instant> = None;
        let mut has_work = true;
        loop {
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                room = outbound.reserve(), if has_work => {
                    let Ok(room) = room else { return Status::cancelled("the stream was closed") };
                    has_work = false;
                    if let Some(message) = self.drain() {
                        room.send(message);
                    }
                }
                answer = inbound.message() => match answer {
                    Ok(Some(answer)) => {
                        self.take(answer);
                        has_work = true;
                        if retry_at.is_none() && self.has_refused() {
                            retry_at = Some(Instant::now() + RETRY);
                        }
                    }
                    Ok(None) => return Status::unavailable("the leader closed the stream"),
                    Err(status) => return status,
                },
                () = self.queued.notified() => has_work = true,
                () = retry => {
                    retry_at = None;
                    has_work = true;
                    self.work.lock().fetch_refused();
                }
                _ = heartbeat.tick() => {
                    // A stream with no room is alive with what fills it.
                    let _ = outbound.try_send(proto::ReplicaFetchRequest::default());
                }
                changed = registration.wait_for(|now| *now != Some(epoch)) => {
                    drop(changed);
                    return Status::aborted("this broker was registered anew");
                }
            }
        }
    }

    /// Everything there is to say, in one message.
    fn drain(&self) -> Option<proto::ReplicaFetchRequest> {
        let (fetch, durable) = self.work.lock().take();
        let mut message = proto::ReplicaFetchRequest::default();
        // Asked without the lock: a partition takes it while it holds its own.
        for partition in &fetch {
            match partition.next_fetch() {
                Some(position) if position.leader == self.leader => {
                    message.fetches.push(wire::fetch(partition.id(), &position));
                }
                Some(_) => self.forget(partition),
                None => self.forget_if_gone(partition),
            }
        }
        for partition in &durable {
            if let Some(position) = partition
                .follower_position()
                .filter(|position| position.leader == self.leader)
            {
                message.durable.push(wire::durable(partition.id(), &position));
            }
        }
        let is_empty = message.fetches.is_empty() && message.durable.is_empty();
        (!is_empty).then_some(message)
    }

    fn take(&self, response: proto::ReplicaFetchResponse) {
        for answer in response.answers {
            let Some(partition) = self.member(&answer.topic_id, answer.partition) else {
                continue;
            };
            let epoch = LeaderEpoch(answer.leader_epoch);
            match wire::taken(answer.result) {
                Ok(taken) => self.take_one(&partition, epoch, taken),
                Err(code) => {
                    tracing::debug!(partition = %partition.id(), leader = %self.leader, code, "fetch refused");
                    self.work.lock().refuse(partition.id());
                }
            }
        }
        for progress in response.progress {
            let Some(partition) = self.member(&progress.topic_id, progress.partition) else {
                continue;
            };
            let moved = TakenFetch::Progress {
                high_watermark: Offset(progress.high_watermark),
                log_start: Offset(progress.log_start_offset),
            };
            // It answers no fetch: whatever comes of it, the one that waits at the leader still does.
            let _ = partition.take_fetched(LeaderEpoch(progress.leader_epoch), moved);
        }
    }

    fn take_one(&self, partition: &Arc<Partition>, epoch: LeaderEpoch, taken: TakenFetch) {
        match partition.take_fetched(epoch, taken) {
            Ok(true) => self.work.lock().add(partition, LinkWork::Fetch),
            // It reports itself when it may fetch; an answer to what it no longer asks needs nothing. One that was deleted says
            // nothing more.
            Ok(false) | Err(crate::partition::TakeError::Invalid(InvalidFetch::Stale { .. })) => {
                self.forget_if_gone(partition);
            }
            Err(error) => {
                tracing::warn!(partition = %partition.id(), leader = %self.leader, %error, "answer not taken");
                self.work.lock().refuse(partition.id());
            }
        }
    }

    fn member(&self, topic_id: &[u8], partition: u32) -> Option<Arc<Partition>> {
        let id = wire::partition(topic_id, partition)?;
        self.work
            .lock()
            .members
            .get(&id)
            .map(|member| Arc::clone(&member.partition))
    }

    fn has_members(&self) -> bool {
        let members: Vec<_> = self
            .work
            .lock()
            .members
            .values()
            .map(|member| Arc::clone(&member.partition))
            .collect();
        for partition in &members {
            if !partition.follows(self.leader) {
                self.forget(partition);
            }
        }
        !self.work.lock().members.is_empty()
    }

    /// Forgets a partition that has nothing to fetch here now and never will.
    fn forget_if_gone(&self, partition: &Arc<Partition>) {
        if !partition.follows(self.leader) {
            self.forget(partition);
        }
    }

    fn has_refused(&self) -> bool {
        !self.work.lock().refused.is_empty()
    }

    fn forget(&self, partition: &Arc<Partition>) {
        let mut work = self.work.lock();
        // Unless it was made to follow this leader again meanwhile: then something is queued.
        let is_idle = |member: &Member| !member.is_fetch_queued && Arc::ptr_eq(&member.partition, partition);
        if work.members.get(&partition.id()).is_some_and(is_idle) {
            work.members.remove(&partition.id());
        }
    }
}

impl Work {
    fn add(&mut self, partition: &Arc<Partition>, work: LinkWork) {
        let id = partition.id();
        let new = || Member {
            partition: Arc::clone(partition),
            is_fetch_queued: false,
            is_durable_queued: false,
        };
        let member = self.members.entry(id).or_insert_with(new);
        let (is_queued, queue) = match work {
            LinkWork::Fetch => (&mut member.is_fetch_queued, &mut self.fetch),
            LinkWork::Durable => (&mut member.is_durable_queued, &mut self.durable),
        };
        if !std::mem::replace(is_queued, true) {
            queue.push(id);
        }
    }

    /// Takes what is queued. A fetch says how far the disk is, too.
    fn take(&mut self) -> (Vec<Arc<Partition>>, Vec<Arc<Partition>>) {
        let mut fetch = Vec::with_capacity(self.fetch.len());
        for id in std::mem::take(&mut self.fetch) {
            if let Some(member) = self.members.get_mut(&id) {
                member.is_fetch_queued = false;
                fetch.push(Arc::clone(&member.partition));
            }
        }
        let mut durable = Vec::with_capacity(self.durable.len());
        for id in std::mem::take(&mut self.durable) {
            if let Some(member) = self.members.get_mut(&id) {
                member.is_durable_queued = false;
                durable.push(Arc::clone(&member.partition));
            }
        }
        (fetch, durable)
    }

    fn refuse(&mut self, id: TopicIdPartition) {
        self.refused.push(id);
    }

    fn fetch_refused(&mut self) {
        for id in std::mem::take(&mut self.refused) {
            self.fetch_one(id);
        }
    }

    fn fetch_all(&mut self) {
        self.refused.clear();
        let members: Vec<_> = self.members.keys().copied().collect();
        for id in members {
            self.fetch_one(id);
        }
    }

    fn fetch_one(&mut self, id: TopicIdPartition) {
        if let Some(member) = self.members.get_mut(&id)
            && !std::mem::replace(&mut member.is_fetch_queued, true)
        {
            self.fetch.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::testing::{Rig, broker};

    #[tokio::test]
    async fn a_deleted_partition_is_forgotten_while_the_stream_lives() {
        let mut rig = Rig::new();
        let (kept, deleted) = (rig.topic("kept", 2, 2), rig.topic("deleted", 2, 2));
        let link = Link::new(broker(2), broker(1), rig.manager.watch_broker_epoch());
        for id in [kept, deleted] {
            link.queue(&rig.partition(id), LinkWork::Fetch);
        }
        assert_eq!(link.drain().unwrap().fetches.len(), 2);
        rig.delete(deleted);
        // The leader knows it no more either and says so; or the stream is opened anew.
        link.work.lock().fetch_all();
        assert_eq!(link.drain().unwrap().fetches.len(), 1);
        assert_eq!(link.work.lock().members.keys().collect::<Vec<_>>(), [&kept]);
    }
}
