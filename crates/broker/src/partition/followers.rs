//! Both sides of replication as a partition sees them; the streams between brokers stand in `replication`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tidelog_log::{Append, BatchToAppend, ReadBatches};
use tidelog_record::Batch;
use tidelog_replica::messages::FetchAnswer;
use tidelog_replica::{
    DivergingEpoch, FetchPosition, FetchedFromLeader, FollowerDurable, FollowerFetch, FollowerFetchAnswer,
};
use tidelog_types::{BrokerId, LeaderEpoch, Offset, PartitionError, TopicIdPartition};

use super::context::{DiskUse, LinkWork};
use super::partition::{FollowerSubscription, Partition, State};

/// What an answer may bring a partition, bytes, so that none is asked for without room for it. (A single batch may be larger.)
const ANSWER_BYTES: usize = 1024 * 1024;

/// A follower's stream, told by the partitions that it fetches from. Called under their locks: it only takes notes.
pub trait FollowerWaker: Send + Sync + 'static {
    /// A fetch that waits at this partition can be answered now.
    fn ready(&self, partition: TopicIdPartition);
    /// The partition's high watermark moved.
    fn progressed(&self, partition: TopicIdPartition);
}

/// What a follower's fetch is answered with.
#[derive(Debug, Clone)]
pub enum FollowerAnswer {
    /// Batches from its fetch offset on.
    Batches {
        /// The batches.
        batches: Vec<Bytes>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// The same, but the disk must be read first: [`Partition::read_for_follower`].
    OnDisk {
        /// From where.
        from: Offset,
        /// Up to where.
        until: Offset,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// The logs differ.
    Diverging(DivergingEpoch),
    /// The follower's log ends before this one begins.
    BeforeLogStart(Offset),
    /// There is nothing yet; the waker is told when there is.
    Wait,
}

/// A leader's answer, on its follower.
#[derive(Debug, Clone)]
pub enum TakenFetch {
    /// What moved at the leader; it answers no fetch.
    Progress {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// Batches, perhaps none.
    Batches {
        /// As they came.
        batches: Vec<Bytes>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// The logs differ.
    Diverging(DivergingEpoch),
    /// This log ends before the leader's begins.
    BeforeLogStart(Offset),
}

impl Partition {
    /// Answers a follower's fetch, or remembers whom to wake when it can be answered.
    pub fn follower_fetch(
        self: &Arc<Self>,
        fetch: &FollowerFetch,
        max_bytes: usize,
        waker: &Weak<dyn FollowerWaker>,
    ) -> Result<FollowerAnswer, PartitionError> {
        let mut state = self.state.lock();
        let (answer, effects) = state.replica.follower_fetch(fetch, self.context.now())?;
        self.perform(&mut state, effects);
        match answer {
            FollowerFetchAnswer::Diverging(diverging) => Ok(FollowerAnswer::Diverging(diverging)),
            FollowerFetchAnswer::BeforeLogStart { log_start } => {
                Ok(FollowerAnswer::BeforeLogStart(log_start))
            }
            FollowerFetchAnswer::Read { from, until, .. } if until <= from => {
                state.subscribe(fetch, waker, true);
                Ok(FollowerAnswer::Wait)
            }
            FollowerFetchAnswer::Read {
                from,
                until,
                high_watermark,
                log_start,
            } => {
                state.subscribe(fetch, waker, false);
                drop(state);
                let cached = self.context.store.read_cached(self.local, from, until, max_bytes);
                Ok(match cached {
                    Some(ReadBatches { batches, .. }) if !batches.is_empty() => FollowerAnswer::Batches {
                        batches,
                        high_watermark,
                        log_start,
                    },
                    _ => FollowerAnswer::OnDisk {
                        from,
                        until,
                        high_watermark,
                        log_start,
                    },
                })
            }
        }
    }

    /// Reads for a follower what is no longer in memory.
    pub async fn read_for_follower(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, PartitionError> {
        let read = self.read_batches(from, until, max_bytes).await;
        read.map(|read| read.batches)
            .map_err(|error| self.unreadable(&error))
    }

    /// Takes note of how far a follower's stable storage is. A stale word is no error worth an answer.
    pub fn follower_durable(self: &Arc<Self>, durable: &FollowerDurable) {
        let mut state = self.state.lock();
        if let Ok(effects) = state.replica.follower_durable(durable, self.context.now()) {
            self.perform(&mut state, effects);
        }
    }

    /// On a leader: its epoch, high watermark and log start.
    pub fn leader_progress(&self) -> Option<(LeaderEpoch, Offset, Offset)> {
        let state = self.state.lock();
        let log = state.replica.log();
        state
            .replica
            .is_leader()
            .then(|| (state.replica.leader().1, log.high_watermark(), log.log_start()))
    }

    /// On a follower: what to fetch next. Nothing while a truncation waits, while more than enough is enqueued and not written, or
    /// while the disk has no room for more: then the partition reports itself again.
    pub fn next_fetch(&self) -> Option<FetchPosition> {
        let mut state = self.state.lock();
        if state.deleted {
            return None;
        }
        let log = state.replica.log();
        let has_unwritten = log.written_end() < log.log_end();
        let queued = self.context.store.queued_bytes();
        if has_unwritten && queued > self.context.limits.unwritten_fetched_bytes {
            state.fetch_deferred = true;
            return None;
        }
        if !self.context.hooks.disk.admits(DiskUse::Replication, ANSWER_BYTES) {
            self.pause_fetching(&mut state);
            return None;
        }
        state.replica.next_fetch()
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
        !state.deleted && !state.replica.is_leader() && state.replica.leader().0 == Some(leader)
    }

    /// On a follower: whom it follows, in which epoch, and how far its stable storage is.
    pub fn follower_position(&self) -> Option<FetchPosition> {
        let state = self.state.lock();
        if state.deleted {
            None
        } else {
            state.replica.durable_report()
        }
    }

    /// Takes a leader's answer. Returns whether the follower may fetch on at once; if not, it reports itself when it may, or the
    /// answer was refused and the caller tries again later.
    pub fn take_fetched(
        self: &Arc<Self>,
        leader_epoch: LeaderEpoch,
        answer: TakenFetch,
    ) -> Result<bool, TakeError> {
        let (batches, answer) = match answer {
            TakenFetch::Batches {
                batches,
                high_watermark,
                log_start,
            } => (
                parse(batches)?,
                Shape::Batches {
                    high_watermark,
                    log_start,
                },
            ),
            TakenFetch::Progress {
                high_watermark,
                log_start,
            } => (
                Vec::new(),
                Shape::Progress {
                    high_watermark,
                    log_start,
                },
            ),
            TakenFetch::Diverging(diverging) => (Vec::new(), Shape::Diverging(diverging)),
            TakenFetch::BeforeLogStart(log_start) => (Vec::new(), Shape::BeforeLogStart(log_start)),
        };
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        let infos: Vec<_> = batches.iter().map(|batch| batch.info).collect();
        let answer = match answer {
            Shape::Batches {
                high_watermark,
                log_start,
            } => FetchAnswer::Batches {
                batches: &infos,
                high_watermark,
                log_start,
            },
            Shape::Progress {
                high_watermark,
                log_start,
            } => FetchAnswer::Progress {
                high_watermark,
                log_start,
            },
            Shape::Diverging(diverging) => FetchAnswer::Diverging(diverging),
            Shape::BeforeLogStart(log_start) => FetchAnswer::BeforeLogStart { log_start },
        };
        let mut state = self.state.lock();
        if state.deleted {
            return Ok(false);
        }
        // Asked when there was room, for each of many partitions. What is not taken is fetched again.
        if bytes > 0 && !self.context.hooks.disk.admits(DiskUse::Replication, bytes) {
            self.pause_fetching(&mut state);
            return Ok(false);
        }
        let now = self.context.now();
        let taken = state.replica.fetched(FetchedFromLeader {
            leader_epoch,
            answer,
            now,
        })?;
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
        let reports_itself = taken.effects.contains(&tidelog_replica::Effect::FetchAgain);
        self.perform(&mut state, taken.effects);
        Ok(!reports_itself && state.replica.next_fetch().is_some())
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

enum Shape {
    Progress {
        high_watermark: Offset,
        log_start: Offset,
    },
    Batches {
        high_watermark: Offset,
        log_start: Offset,
    },
    Diverging(DivergingEpoch),
    BeforeLogStart(Offset),
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
