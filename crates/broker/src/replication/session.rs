//! Drives the leader's side of one follower's stream. What is answered and when stands in
//! [`tidelog_replica::feed`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_proto::internal::v1 as proto;
use tidelog_replica::FollowerFetch;
use tidelog_replica::feed::{DiskRead, Feed, Limits};
use tidelog_types::{ErrorCode, TopicIdPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::wire::{self, Peer};
use crate::partition::{FollowerWaker, ReplicaManager};

const LIMITS: Limits = Limits::DEFAULT;

type Outbound = mpsc::Sender<Result<proto::ReplicaFetchResponse, Status>>;

pub(crate) struct Session {
    manager: Arc<ReplicaManager>,
    peer: Peer,
    myself: Weak<Self>,
    /// Locked by partitions while they hold their own locks: no partition is called with it.
    feed: Mutex<Feed<Vec<Bytes>>>,
    /// Something can be answered or told.
    woken: Notify,
    started: Instant,
}

impl Session {
    pub(crate) fn new(manager: Arc<ReplicaManager>, peer: Peer) -> Arc<Self> {
        let size = |batches: &Vec<Bytes>| batches.iter().map(Bytes::len).sum();
        Arc::new_cyclic(|myself| Self {
            manager,
            peer,
            myself: Weak::clone(myself),
            feed: Mutex::new(Feed::new(LIMITS, size)),
            woken: Notify::new(),
            started: Instant::now(),
        })
    }

    /// Takes the follower's messages until the stream ends, which ends its other half too.
    pub(crate) async fn read(
        self: Arc<Self>,
        mut inbound: Streaming<proto::ReplicaFetchRequest>,
        stop: CancellationToken,
    ) {
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                () = stop.cancelled() => break,
            };
            match message {
                Ok(Some(message)) => self.receive(message),
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(follower = %self.peer.broker, %status, "replication stream ended");
                    break;
                }
            }
        }
        stop.cancel();
    }

    pub(crate) fn receive(&self, message: proto::ReplicaFetchRequest) {
        self.manager.heard_from(self.peer.broker);
        for durable in &message.durable {
            if let Some(id) = wire::partition(&durable.topic_id, durable.partition)
                && let Some(partition) = self.manager.partition(id)
            {
                partition.follower_durable(&wire::follower_durable(self.peer, durable));
            }
        }
        if message.fetches.is_empty() {
            return;
        }
        {
            let mut feed = self.feed.lock();
            for fetch in &message.fetches {
                if let Some(id) = wire::partition(&fetch.topic_id, fetch.partition) {
                    feed.fetch(id, wire::follower_fetch(self.peer, fetch));
                }
            }
        }
        self.woken.notify_one();
    }

    /// Answers what can be answered, until the stream ends.
    pub(crate) async fn write(self: Arc<Self>, outbound: Outbound, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.answer_all(&outbound)).await;
        stop.cancel();
    }

    async fn answer_all(&self, outbound: &Outbound) {
        loop {
            // Room first: while there is none, answers grow instead of queueing.
            let Ok(room) = outbound.reserve().await else {
                return;
            };
            if let Some(message) = self.next_message() {
                room.send(Ok(message));
                continue;
            }
            drop(room);
            let wake = self.feed.lock().next_wake();
            let due = self.started + wake.unwrap_or_default();
            tokio::select! {
                () = self.woken.notified() => {}
                () = tokio::time::sleep_until(due), if wake.is_some() => {}
                () = outbound.closed() => return,
            }
        }
    }

    fn next_message(&self) -> Option<proto::ReplicaFetchResponse> {
        let waker: Weak<dyn FollowerWaker> = self.myself.clone();
        while let Some((id, fetch)) = self.next_fetch() {
            let found = match self.manager.partition(id) {
                Some(partition) => partition
                    .follower_fetch(&fetch, LIMITS.partition_bytes, &waker)
                    .map_err(|error| error.code),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            let read = self.feed.lock().tried(id, fetch, found);
            if let Some(read) = read {
                self.read_later(read);
            }
        }
        let message = self.feed.lock().message(self.now())?;
        let answers: Vec<_> = message.answers.into_iter().map(wire::answer).collect();
        let progress: Vec<_> = message
            .progressed
            .into_iter()
            .filter_map(|id| self.progress(id))
            .collect();
        (!answers.is_empty() || !progress.is_empty())
            .then_some(proto::ReplicaFetchResponse { answers, progress })
    }

    /// Lets go of the feed before the partition is asked.
    fn next_fetch(&self) -> Option<(TopicIdPartition, FollowerFetch)> {
        self.feed.lock().next_fetch()
    }

    fn read_later(&self, read: DiskRead) {
        let (manager, myself) = (Arc::clone(&self.manager), self.myself.clone());
        tokio::spawn(async move {
            let batches = match manager.partition(read.partition) {
                Some(partition) => partition
                    .read_for_follower(read.range, LIMITS.partition_bytes)
                    .await
                    .map_err(|error| error.code),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            if let Some(session) = myself.upgrade() {
                session.feed.lock().read(read, batches);
                session.woken.notify_one();
            }
        });
    }

    fn progress(&self, id: TopicIdPartition) -> Option<proto::ReplicaProgress> {
        let progress = self.manager.partition(id)?.progress()?;
        Some(wire::progress(id, progress))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl FollowerWaker for Session {
    fn ready(&self, partition: TopicIdPartition) {
        self.feed.lock().ready(partition);
        self.woken.notify_one();
    }

    fn progressed(&self, partition: TopicIdPartition) {
        let is_first = self.feed.lock().progressed(partition, self.now());
        if is_first {
            self.woken.notify_one();
        }
    }
}
