//! Drives a follower's stream to one leader. What is said and when stands in
//! [`tidelog_replica::link`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_proto::internal::v1 as proto;
use tidelog_proto::internal::v1::replication_client::ReplicationClient;
use tidelog_replica::Fetched;
use tidelog_replica::link::{
    Ask, Closing, Link as Machine, LinkWork, MESSAGE_PARTITIONS, Request, Step, Taken,
};
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tidelog_types::{BrokerEpoch, BrokerId, LeaderEpoch, TopicIdPartition};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::Connect;
use super::wire;
use crate::partition::{Partition, ReplicaManager, TakeError};

/// Messages that are on their way into the stream; what comes while it is full is coalesced.
const OUTBOUND_MESSAGES: usize = 2;

type Outbound = mpsc::Sender<proto::ReplicaFetchRequest>;

pub(crate) struct Link {
    leader: BrokerId,
    local: BrokerId,
    manager: Weak<ReplicaManager>,
    broker_epoch: watch::Receiver<Option<BrokerEpoch>>,
    /// Locked by partitions while they hold their own locks: no partition is called with it.
    machine: Mutex<Machine>,
    queued: Notify,
    started: Instant,
}

impl Link {
    pub(crate) fn new(leader: BrokerId, manager: &Arc<ReplicaManager>) -> Self {
        Self {
            leader,
            local: manager.local(),
            manager: Arc::downgrade(manager),
            broker_epoch: manager.watch_broker_epoch(),
            machine: Mutex::new(Machine::new(leader, MESSAGE_PARTITIONS)),
            queued: Notify::new(),
            started: Instant::now(),
        }
    }

    pub(crate) fn queue(&self, partition: TopicIdPartition, work: LinkWork) {
        self.machine.lock().queue(partition, work);
        self.queued.notify_one();
    }

    /// Keeps a stream to the leader while anything follows it.
    pub(crate) async fn run(self: Arc<Self>, connect: Connect, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.keep_connected(connect)).await;
    }

    async fn keep_connected(&self, connect: Connect) {
        let mut registration = self.broker_epoch.clone();
        loop {
            match self.advance() {
                Some(Step::Look(partitions)) => self.look(partitions),
                Some(Step::Open(epoch)) => {
                    let ended = self.stream(&connect, epoch).await;
                    tracing::debug!(leader = %self.leader, status = %ended, "replication stream ended");
                    let jitter_per_mille = rand::random_range(0..1000);
                    self.machine.lock().closed(self.now(), jitter_per_mille);
                }
                Some(Step::Close(_) | Step::Beat) => unreachable!("there is no stream"),
                None => self.changed(&mut registration).await,
            }
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
        let opened = tokio::select! {
            opened = client.fetch(ReceiverStream::new(messages)) => opened,
            closing = self.until_closing(&outbound) => return closing,
        };
        let inbound = match opened {
            Ok(response) => response.into_inner(),
            Err(status) => return status,
        };
        tracing::info!(leader = %self.leader, "replication stream opened");
        self.machine.lock().opened(self.now());
        self.pump(&outbound, inbound).await
    }

    async fn pump(&self, outbound: &Outbound, mut inbound: Streaming<proto::ReplicaFetchResponse>) -> Status {
        let mut registration = self.broker_epoch.clone();
        loop {
            if let Some(closing) = self.advance_stream(outbound) {
                return closing;
            }
            let has_to_say = self.machine.lock().has_to_say();
            tokio::select! {
                room = outbound.reserve(), if has_to_say => {
                    let Ok(room) = room else { return Status::cancelled("the stream was closed") };
                    let request = self.request();
                    if !request.is_empty() {
                        room.send(wire::request(&request));
                    }
                }
                answer = inbound.message() => match answer {
                    Ok(Some(answer)) => self.take(answer),
                    Ok(None) => return Status::unavailable("the leader closed the stream"),
                    Err(status) => return status,
                },
                () = self.changed(&mut registration) => {}
            }
        }
    }

    async fn until_closing(&self, outbound: &Outbound) -> Status {
        let mut registration = self.broker_epoch.clone();
        loop {
            if let Some(closing) = self.advance_stream(outbound) {
                return closing;
            }
            self.changed(&mut registration).await;
        }
    }

    /// Does what is due on a stream. Returns why it is to be closed, if it is.
    fn advance_stream(&self, outbound: &Outbound) -> Option<Status> {
        while let Some(step) = self.advance() {
            match step {
                Step::Close(why @ Closing::NotOpened) => {
                    return Some(Status::deadline_exceeded(why.to_string()));
                }
                Step::Close(why @ Closing::RegisteredAnew) => return Some(Status::aborted(why.to_string())),
                Step::Beat => {
                    let _ = outbound.try_send(proto::ReplicaFetchRequest::default());
                }
                Step::Look(_) | Step::Open(_) => unreachable!("a link with a stream opens no other"),
            }
        }
        None
    }

    fn advance(&self) -> Option<Step> {
        let registration = *self.broker_epoch.borrow();
        self.machine.lock().advance(self.now(), registration)
    }

    /// Waits until there may be something to do: a partition was queued, something is due, or the
    /// broker was registered anew.
    async fn changed(&self, registration: &mut watch::Receiver<Option<BrokerEpoch>>) {
        let wake = self.machine.lock().next_wake();
        let due = self.started + wake.unwrap_or_default();
        tokio::select! {
            () = self.queued.notified() => {}
            () = tokio::time::sleep_until(due), if wake.is_some() => {}
            Ok(()) = registration.changed() => {}
        }
    }

    fn look(&self, partitions: Vec<TopicIdPartition>) {
        let follows = |id| {
            self.partition(id)
                .is_some_and(|partition| partition.follows(self.leader))
        };
        let gone: Vec<_> = partitions.into_iter().filter(|id| !follows(*id)).collect();
        self.machine.lock().gone(&gone);
    }

    /// As much as there is to say, in one message.
    fn request(&self) -> Request {
        let asks = self.machine.lock().ask();
        let reply = |ask: Ask| {
            let partition = self.partition(ask.partition);
            let standing = partition.map(|partition| partition.standing(ask));
            (ask.partition, standing.unwrap_or_default())
        };
        let replies = asks.into_iter().map(reply).collect();
        self.machine.lock().request(replies)
    }

    fn take(&self, response: proto::ReplicaFetchResponse) {
        for answer in response.answers {
            let Some(id) = self.member(&answer.topic_id, answer.partition) else {
                continue;
            };
            let Some(partition) = self.partition(id) else {
                // Deleted here: it is asked once more, has nothing to say, and is forgotten.
                self.machine.lock().taken(id, Taken::Silent, self.now());
                continue;
            };
            let taken = match wire::fetched(answer.result) {
                Ok(fetched) => self.take_one(&partition, LeaderEpoch(answer.leader_epoch), fetched),
                Err(code) => {
                    tracing::debug!(partition = %partition.id(), leader = %self.leader, code, "fetch refused");
                    Taken::Refused
                }
            };
            self.machine.lock().taken(partition.id(), taken, self.now());
        }
        for progress in response.progress {
            let member = self.member(&progress.topic_id, progress.partition);
            let Some(partition) = member.and_then(|id| self.partition(id)) else {
                continue;
            };
            let progress = wire::progressed(&progress);
            // It answers no fetch: whatever comes of it, the one that waits at the leader still
            // does.
            let _ = partition.take_fetched(progress.leader_epoch, progress.into());
        }
    }

    fn take_one(
        &self,
        partition: &Arc<Partition>,
        epoch: LeaderEpoch,
        fetched: Fetched<Vec<Bytes>>,
    ) -> Taken {
        let error = match partition.take_fetched(epoch, fetched) {
            Ok(may_fetch) => return Taken::from(Ok(may_fetch)),
            Err(error) => error,
        };
        let taken = match &error {
            TakeError::Invalid(invalid) => Taken::from(Err(invalid)),
            TakeError::Batch(_) => Taken::Refused,
        };
        if taken == Taken::Refused {
            tracing::warn!(partition = %partition.id(), leader = %self.leader, %error, "answer not taken");
        }
        taken
    }

    /// A partition that follows this leader, by what a message calls it.
    fn member(&self, topic_id: &[u8], partition: u32) -> Option<TopicIdPartition> {
        let id = wire::partition(topic_id, partition)?;
        self.machine.lock().has(id).then_some(id)
    }

    fn partition(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.manager.upgrade()?.partition(id)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use tidelog_replica::feed::Answer;
    use tidelog_types::ErrorCode;

    use super::*;
    use crate::partition::testing::{Rig, broker};

    #[tokio::test]
    async fn a_deleted_partition_is_forgotten_while_the_stream_lives() {
        let mut rig = Rig::new();
        let (kept, deleted) = (rig.topic("kept", 2, 2), rig.topic("deleted", 2, 2));
        let link = Link::new(broker(2), &rig.manager);
        for id in [kept, deleted] {
            link.queue(id, LinkWork::Fetch);
        }
        while let Some(step) = link.advance() {
            if let Step::Look(partitions) = step {
                link.look(partitions);
            }
        }
        link.machine.lock().opened(link.now());
        let fetched = |request: &Request| request.fetches.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(fetched(&link.request()).len(), 2);
        rig.delete(deleted);
        // The leader knows neither of them for now and says so.
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let answers = [kept, deleted].map(|partition| {
            wire::answer(Answer {
                partition,
                leader_epoch: LeaderEpoch(0),
                result: Err(unknown),
            })
        });
        link.take(proto::ReplicaFetchResponse {
            answers: answers.into(),
            progress: Vec::new(),
        });
        link.request();
        assert!(link.machine.lock().has(kept));
        assert!(!link.machine.lock().has(deleted));
    }
}
