//! Both sides of replication as a partition sees them; the streams between brokers stand in
//! `replication`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tidelog_log::{Append, BatchToAppend, ReadBatches};
use tidelog_record::Batch;
use tidelog_replica::feed::Found;
use tidelog_replica::link::{Ask, LinkWork, Standing};
use tidelog_replica::{Fetched, FetchedFromLeader, FollowerDurable, FollowerFetch, LogRange, Progress};
use tidelog_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionError, TopicIdPartition};

use super::context::DiskUse;
use super::partition::{FollowerSubscription, Partition, State};

/// What an answer may bring a partition, bytes, so that none is asked for without room for it. (A
/// single batch may be larger.)
const ANSWER_BYTES: usize = 1024 * 1024;

/// A follower's stream, told by the partitions that it fetches from. Called under their locks: it
/// only takes notes.
pub trait FollowerWaker: Send + Sync + 'static {
    /// A fetch that waits at this partition can be answered now.
    fn ready(&self, partition: TopicIdPartition);
    /// The partition's high watermark moved.
    fn progressed(&self, partition: TopicIdPartition);
}

impl Partition {
    /// What it has for a follower's fetch. With nothing yet it remembers whom to wake when there is
    /// something.
    pub fn follower_fetch(
        self: &Arc<Self>,
        fetch: &FollowerFetch,
        max_bytes: usize,
        waker: &Weak<dyn FollowerWaker>,
    ) -> Result<Found<Vec<Bytes>>, PartitionError> {
        let mut state = self.state.lock();
        if state.deleted {
            let message = format!("partition {} was deleted", self.id);
            return Err(PartitionError::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let (answer, effects) = state.replica.follower_fetch(fetch, self.context.now())?;
        self.perform(&mut state, effects);
        let Some(&range) = answer.batches() else {
            return Ok(Found::Answer(answer.map(|_| Vec::new())));
        };
        state.subscribe(fetch, waker, range.is_empty());
        drop(state);
        if range.is_empty() {
            return Ok(Found::Nothing);
        }
        let store = &self.context.store;
        let cached = store.read_cached(self.local, range.from, range.until, max_bytes);
        Ok(match cached {
            Some(ReadBatches { batches, .. }) if !batches.is_empty() => {
                Found::Answer(answer.map(|_| batches))
            }
            _ => Found::OnDisk { range, answer },
        })
    }

    /// Reads for a follower what is no longer in memory.
    pub async fn read_for_follower(
        &self,
        range: LogRange,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, PartitionError> {
        let read = self.read_batches(range.from, range.until, max_bytes).await;
        read.map(|read| read.batches)
            .map_err(|error| self.unreadable(&error))
    }

    /// Takes note of how far a follower's stable storage is. A stale word is no error worth an
    /// answer.
    pub fn follower_durable(self: &Arc<Self>, durable: &FollowerDurable) {
        let mut state = self.state.lock();
        if let Ok(effects) = state.replica.follower_durable(durable, self.context.now()) {
            self.perform(&mut state, effects);
        }
    }

    /// On a leader: how far it is.
    pub fn progress(&self) -> Option<Progress> {
        self.state.lock().replica.progress()
    }

    /// What it replies when the stream to its leader asks it.
    pub fn standing(&self, ask: Ask) -> Standing {
        let mut state = self.state.lock();
        if state.deleted {
            return Standing::default();
        }
        let may_fetch = ask.fetch && self.may_fetch(&mut state);
        let standing = state.replica.standing(ask);
        Standing {
            fetch: standing.fetch.filter(|_| may_fetch),
            ..standing
        }
    }

    /// Whether a follower may fetch. Not while more than enough is enqueued and not written, or
    /// while the disk has no room for more: then the partition reports itself again.
    fn may_fetch(&self, state: &mut State) -> bool {
        let log = state.replica.log();
        let has_unwritten = log.written_end() < log.log_end();
        let queued = self.context.store.queued_bytes();
        if has_unwritten && queued > self.context.limits.unwritten_fetched_bytes {
            state.fetch_deferred = true;
            return false;
        }
        if !self.context.hooks.disk.admits(DiskUse::Replication, ANSWER_BYTES) {
            self.pause_fetching(state);
            return false;
        }
        true
    }

    /// The disk has no room: the timer looks when it has.
    fn pause_fetching(&self, state: &mut State) {
        state.fetch_deferred = true;
        self.context.fetching_paused.store(true, Ordering::Release);
    }

    /// On a follower that stopped fetching for want of room: fetches on.
    pub(crate) fn resume_fetching(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.fetch_deferred) {
            self.tell_leader(&state, LinkWork::Fetch);
        }
    }

    /// Whether it follows that broker.
    pub fn follows(&self, leader: BrokerId) -> bool {
        let state = self.state.lock();
        !state.deleted && state.replica.follows() == Some(leader)
    }

    /// Takes a leader's answer. Returns whether the follower may fetch on at once; if not, it
    /// reports itself when it may, or the answer was refused and the caller tries again later.
    pub fn take_fetched(
        self: &Arc<Self>,
        leader_epoch: LeaderEpoch,
        answer: Fetched<Vec<Bytes>>,
    ) -> Result<bool, TakeError> {
        let answer = answer.try_map(parse)?;
        let batches = answer.batches().map_or(&[][..], Vec::as_slice);
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let headers: Vec<_> = batches.iter().map(|batch| batch.info).collect();
        let mut state = self.state.lock();
        if state.deleted {
            return Ok(false);
        }
        // Asked when there was room, for each of many partitions. What is not taken is fetched
        // again.
        if bytes > 0 && !self.context.hooks.disk.admits(DiskUse::Replication, bytes) {
            self.pause_fetching(&mut state);
            return Ok(false);
        }
        let taken = state.replica.fetched(FetchedFromLeader {
            leader_epoch,
            answer: answer.as_ref().map(|_| headers.as_slice()),
            now: self.context.now(),
        })?;
        let batches = answer.into_batches().unwrap_or_default();
        if !batches.is_empty() {
            let (epochs, producers) = (taken.epochs, taken.producers);
            self.context.hooks.disk.taken(bytes);
            self.context.store.append(Append {
                partition: self.local,
                batches,
                epochs,
                producers,
            });
        }
        self.perform(&mut state, taken.effects);
        Ok(taken.may_fetch_on)
    }
}

/// Why a leader's answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A batch is damaged, or not from a log.
    #[error("a replicated batch is refused: {0}")]
    Batch(#[from] tidelog_record::BatchError),
    /// The answer does not fit the follower's log or epoch.
    #[error(transparent)]
    Invalid(#[from] tidelog_replica::InvalidFetch),
}

fn parse(batches: Vec<Bytes>) -> Result<Vec<BatchToAppend>, TakeError> {
    let one = |bytes| {
        let batch = Batch::from_log(bytes)?;
        Ok(BatchToAppend {
            info: batch.info(),
            bytes: batch.into_bytes(),
        })
    };
    batches.into_iter().map(one).collect()
}

impl State {
    fn subscribe(&mut self, fetch: &FollowerFetch, waker: &Weak<dyn FollowerWaker>, is_waiting: bool) {
        let broker = fetch.broker;
        match self
            .followers
            .iter_mut()
            .find(|follower| follower.broker == broker)
        {
            Some(follower) => {
                follower.is_waiting = is_waiting;
                if !Weak::ptr_eq(&follower.waker, waker) {
                    follower.waker = Weak::clone(waker);
                }
            }
            None => {
                self.followers.push(FollowerSubscription {
                    broker,
                    waker: Weak::clone(waker),
                    is_waiting,
                });
            }
        }
    }
}
