//! The leader's side of one follower's stream.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_proto::internal::v1 as proto;
use tidelog_replica::FollowerFetch;
use tidelog_types::limits::{MAX_GRPC_MESSAGE_BYTES, MAX_MAX_MESSAGE_BYTES};
use tidelog_types::{ErrorCode, PartitionError, TopicIdPartition};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::wire::{self, Peer};
use crate::partition::{FollowerAnswer, FollowerWaker, Partition, ReplicaManager, TakenFetch};

/// Most bytes of one partition in an answer; at least one batch.
const PARTITION_BYTES: usize = 1024 * 1024;
/// Most bytes of a message, give or take the last partition's.
const MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes that one follower's reads of the disk may hold, finished or under way. Further fetches wait their turn.
const READ_BYTES: usize = 16 * 1024 * 1024;
const _: () = assert!(
    MESSAGE_BYTES + 2 * MAX_MAX_MESSAGE_BYTES as usize <= MAX_GRPC_MESSAGE_BYTES,
    "a message with a largest batch at its end must fit"
);
/// How long a high watermark that moved may wait for an answer to ride along with.
const PROGRESS_DELAY: Duration = Duration::from_millis(20);

type Outbound = mpsc::Sender<Result<proto::ReplicaFetchResponse, Status>>;

pub(crate) struct Session {
    manager: Arc<ReplicaManager>,
    peer: Peer,
    myself: Weak<Self>,
    state: Mutex<State>,
    /// Something can be answered.
    woken: Notify,
    /// The first high watermark after a while moved.
    progressed: Notify,
}

#[derive(Default)]
struct State {
    /// Fetches that wait, one a partition.
    pending: HashMap<TopicIdPartition, FollowerFetch>,
    /// Partitions whose fetch may be answerable.
    ready: VecDeque<TopicIdPartition>,
    is_ready: HashSet<TopicIdPartition>,
    /// Partitions whose fetch needs the disk, while enough is read from it.
    deferred: VecDeque<TopicIdPartition>,
    /// Answers that were read from the disk.
    finished: VecDeque<proto::ReplicaFetched>,
    /// What `finished` holds, and what is being read will at most.
    reading_bytes: usize,
    /// Partitions whose high watermark the follower does not know.
    progressed: HashSet<TopicIdPartition>,
}

/// What came of trying to answer a fetch.
enum Tried {
    Answer(proto::ReplicaFetched),
    Later,
}

impl Session {
    pub(crate) fn new(manager: Arc<ReplicaManager>, peer: Peer) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            manager,
            peer,
            myself: Weak::clone(myself),
            state: Mutex::default(),
            woken: Notify::new(),
            progressed: Notify::new(),
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
            let mut state = self.state.lock();
            for fetch in &message.fetches {
                if let Some(id) = wire::partition(&fetch.topic_id, fetch.partition) {
                    state.pending.insert(id, wire::follower_fetch(self.peer, fetch));
                    state.mark_ready(id);
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
        let mut flush_at: Option<Instant> = None;
        loop {
            // Room first: while there is none, answers grow instead of queueing.
            let Ok(room) = outbound.reserve().await else {
                return;
            };
            let is_due = flush_at.is_some_and(|at| at <= Instant::now());
            if let Some(message) = self.next_message(is_due) {
                flush_at = None;
                room.send(Ok(message));
                continue;
            }
            drop(room);
            let flush = async {
                match flush_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.woken.notified() => {}
                () = self.progressed.notified() => {
                    flush_at.get_or_insert_with(|| Instant::now() + PROGRESS_DELAY);
                }
                () = flush => {}
                () = outbound.closed() => return,
            }
        }
    }

    fn next_message(&self, with_progress_alone: bool) -> Option<proto::ReplicaFetchResponse> {
        let (mut answers, mut total) = self.state.lock().take_finished();
        while total < MESSAGE_BYTES {
            let Some((id, fetch)) = self.state.lock().next_ready() else {
                break;
            };
            if let Tried::Answer(answer) = self.try_answer(id, fetch) {
                total += size(&answer);
                answers.push(answer);
            }
        }
        if answers.is_empty() && !with_progress_alone {
            return None;
        }
        let progress = self.progress(&answers);
        (!answers.is_empty() || !progress.is_empty())
            .then_some(proto::ReplicaFetchResponse { answers, progress })
    }

    fn try_answer(&self, id: TopicIdPartition, fetch: FollowerFetch) -> Tried {
        let waker: Weak<dyn FollowerWaker> = self.myself.clone();
        let result = match self.manager.partition(id) {
            Some(partition) => partition
                .follower_fetch(&fetch, PARTITION_BYTES, &waker)
                .map(|answer| (partition, answer)),
            None => {
                let message = "this broker has no replica of the partition";
                Err(PartitionError::new(ErrorCode::UnknownTopicOrPartition, message))
            }
        };
        let result = match result {
            Err(error) => Err(error.code),
            Ok((_, FollowerAnswer::Wait)) => {
                // Unless the follower fetched anew meanwhile.
                self.state.lock().pending.entry(id).or_insert(fetch);
                return Tried::Later;
            }
            Ok((
                partition,
                FollowerAnswer::OnDisk {
                    from,
                    until,
                    high_watermark,
                    log_start,
                },
            )) => {
                let read = TakenFetch::Batches {
                    batches: Vec::new(),
                    high_watermark,
                    log_start,
                };
                {
                    let mut state = self.state.lock();
                    if !state.begin_read() {
                        state.defer(id, fetch);
                        return Tried::Later;
                    }
                }
                self.read_later(partition, fetch, (from, until), read);
                return Tried::Later;
            }
            Ok((
                _,
                FollowerAnswer::Batches {
                    batches,
                    high_watermark,
                    log_start,
                },
            )) => Ok(TakenFetch::Batches {
                batches,
                high_watermark,
                log_start,
            }),
            Ok((_, FollowerAnswer::Diverging(diverging))) => Ok(TakenFetch::Diverging(diverging)),
            Ok((_, FollowerAnswer::BeforeLogStart(log_start))) => Ok(TakenFetch::BeforeLogStart(log_start)),
        };
        Tried::Answer(wire::answer(id, fetch.leader_epoch, result))
    }

    /// Reads from the disk beside the stream, so that a follower that catches up holds nobody back.
    fn read_later(
        &self,
        partition: Arc<Partition>,
        fetch: FollowerFetch,
        range: (tidelog_types::Offset, tidelog_types::Offset),
        answer: TakenFetch,
    ) {
        let myself = self.myself.clone();
        tokio::spawn(async move {
            let read = partition
                .read_for_follower(range.0, range.1, PARTITION_BYTES)
                .await;
            let result = match (read, answer) {
                (
                    Ok(batches),
                    TakenFetch::Batches {
                        high_watermark,
                        log_start,
                        ..
                    },
                ) => Ok(TakenFetch::Batches {
                    batches,
                    high_watermark,
                    log_start,
                }),
                (Ok(_), other) => Ok(other),
                (Err(error), _) => Err(error.code),
            };
            if let Some(session) = myself.upgrade() {
                let answer = wire::answer(partition.id(), fetch.leader_epoch, result);
                session.state.lock().end_read(answer);
                session.woken.notify_one();
            }
        });
    }

    fn progress(&self, answers: &[proto::ReplicaFetched]) -> Vec<proto::ReplicaProgress> {
        let mut moved = std::mem::take(&mut self.state.lock().progressed);
        for answer in answers {
            if let Some(id) = wire::partition(&answer.topic_id, answer.partition) {
                moved.remove(&id);
            }
        }
        let one = |id: TopicIdPartition| {
            let (epoch, high_watermark, log_start) = self.manager.partition(id)?.leader_progress()?;
            Some(proto::ReplicaProgress {
                topic_id: wire::topic_bytes(id),
                partition: id.partition.0,
                leader_epoch: epoch.0,
                high_watermark: high_watermark.0,
                log_start_offset: log_start.0,
            })
        };
        moved.into_iter().filter_map(one).collect()
    }
}

impl FollowerWaker for Session {
    fn ready(&self, partition: TopicIdPartition) {
        self.state.lock().mark_ready(partition);
        self.woken.notify_one();
    }

    fn progressed(&self, partition: TopicIdPartition) {
        let is_first = {
            let mut state = self.state.lock();
            let was_empty = state.progressed.is_empty();
            state.progressed.insert(partition);
            was_empty
        };
        if is_first {
            self.progressed.notify_one();
        }
    }
}

impl State {
    fn mark_ready(&mut self, id: TopicIdPartition) {
        if self.is_ready.insert(id) {
            self.ready.push_back(id);
        }
    }

    /// Takes a fetch that may be answerable.
    fn next_ready(&mut self) -> Option<(TopicIdPartition, FollowerFetch)> {
        while let Some(id) = self.ready.pop_front() {
            self.is_ready.remove(&id);
            if let Some(fetch) = self.pending.remove(&id) {
                return Some((id, fetch));
            }
        }
        while self.may_read()
            && let Some(id) = self.deferred.pop_front()
        {
            // It may have been answered, or asked anew, since it was put aside.
            if let Some(fetch) = self.pending.remove(&id) {
                return Some((id, fetch));
            }
        }
        None
    }

    /// Puts a fetch aside until there is room to read for it, unless the follower fetched anew meanwhile.
    fn defer(&mut self, id: TopicIdPartition, fetch: FollowerFetch) {
        self.pending.entry(id).or_insert(fetch);
        self.deferred.push_back(id);
    }

    fn may_read(&self) -> bool {
        self.reading_bytes + PARTITION_BYTES <= READ_BYTES
    }

    /// Takes room for a read, if there is any.
    fn begin_read(&mut self) -> bool {
        let may_read = self.may_read();
        if may_read {
            self.reading_bytes += PARTITION_BYTES;
        }
        may_read
    }

    /// A read that was begun has its answer.
    fn end_read(&mut self, answer: proto::ReplicaFetched) {
        self.reading_bytes = self.reading_bytes - PARTITION_BYTES + size(&answer);
        self.finished.push_back(answer);
    }

    /// As many finished answers as make a message, with their bytes.
    fn take_finished(&mut self) -> (Vec<proto::ReplicaFetched>, usize) {
        let (mut answers, mut total) = (Vec::new(), 0);
        while total < MESSAGE_BYTES
            && let Some(answer) = self.finished.pop_front()
        {
            total += size(&answer);
            answers.push(answer);
        }
        self.reading_bytes -= total;
        (answers, total)
    }
}

fn size(answer: &proto::ReplicaFetched) -> usize {
    match &answer.result {
        Some(proto::replica_fetched::Result::Batches(found)) => found.batches.iter().map(Bytes::len).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

    use super::*;

    fn id(partition: u32) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
            partition: PartitionIndex(partition),
        }
    }

    fn fetch() -> FollowerFetch {
        FollowerFetch {
            broker: BrokerId::new(2).unwrap(),
            broker_epoch: BrokerEpoch(1),
            leader_epoch: LeaderEpoch(0),
            fetch_offset: Offset::ZERO,
            last_fetched_epoch: None,
            durable_end: Offset::ZERO,
        }
    }

    fn answer(partition: u32, size_bytes: usize) -> proto::ReplicaFetched {
        let read = TakenFetch::Batches {
            batches: vec![Bytes::from(vec![0; size_bytes])],
            high_watermark: Offset::ZERO,
            log_start: Offset::ZERO,
        };
        wire::answer(id(partition), LeaderEpoch(0), Ok(read))
    }

    #[test]
    fn finished_reads_go_into_as_many_messages_as_they_fill() {
        let mut state = State::default();
        let count = (READ_BYTES / PARTITION_BYTES) as u32;
        for partition in 0..count {
            assert!(state.begin_read());
            state.end_read(answer(partition, PARTITION_BYTES));
        }
        let (first, total) = state.take_finished();
        assert_eq!(total, MESSAGE_BYTES);
        let (second, total) = state.take_finished();
        assert_eq!(total, MESSAGE_BYTES);
        assert_eq!(first.len() + second.len(), count as usize);
        assert_eq!(state.reading_bytes, 0);
        assert!(state.take_finished().0.is_empty());
    }

    #[test]
    fn fetches_beyond_the_room_for_reads_wait_until_answers_are_sent() {
        let mut state = State::default();
        while state.begin_read() {}
        state.defer(id(7), fetch());
        assert!(state.next_ready().is_none());
        // A batch larger than a read counts in full.
        state.end_read(answer(0, 2 * PARTITION_BYTES));
        assert!(state.next_ready().is_none());
        state.take_finished();
        assert_eq!(state.next_ready().map(|(id, _)| id), Some(id(7)));
        assert!(state.next_ready().is_none());
    }
}
