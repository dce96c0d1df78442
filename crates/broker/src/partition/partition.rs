//! One replica with everybody who waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidelog_replica::link::LinkWork;
use tidelog_replica::{Assignment, PartitionStatus, Replica};
use tidelog_types::{BrokerId, ErrorCode, LocalPartition, Offset, PartitionError, TopicIdPartition};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::context::Context;
use super::followers::FollowerWaker;

/// One partition replica of this broker.
pub struct Partition {
    pub(crate) id: TopicIdPartition,
    pub(crate) local: LocalPartition,
    pub(crate) context: Arc<Context>,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) replica: Replica,
    /// Produces that wait for the high watermark, by end.
    pub(crate) committed: Waiters,
    /// Produces that wait for the leader's own stable storage, by end.
    pub(crate) stored: Waiters,
    /// What produced bytes take of the budget until they are written, by end.
    pub(crate) unwritten: VecDeque<(Offset, OwnedSemaphorePermit)>,
    /// Consumers' fetches that wait for the high watermark to move.
    pub(crate) consumers: Vec<Arc<Notify>>,
    /// The streams of the followers.
    pub(crate) followers: Vec<FollowerSubscription>,
    /// Whether it is on the list of those to be ticked, or to be checkpointed.
    pub(crate) is_ticking: bool,
    pub(crate) to_checkpoint: bool,
    /// As a follower, whether it has stopped fetching until something is written.
    pub(crate) fetch_deferred: bool,
    pub(crate) deleted: bool,
}

/// Produces in the order of the offsets they wait for.
#[derive(Default)]
pub(crate) struct Waiters {
    queue: VecDeque<Waiter>,
}

pub(crate) struct Waiter {
    pub(crate) end: Offset,
    pub(crate) done: oneshot::Sender<Result<(), PartitionError>>,
}

pub(crate) struct FollowerSubscription {
    pub(crate) broker: BrokerId,
    pub(crate) waker: Weak<dyn FollowerWaker>,
    /// Whether a fetch of it waits here.
    pub(crate) is_waiting: bool,
}

impl Waiters {
    pub(crate) fn push(&mut self, waiter: Waiter) {
        // Nearly always the last: only a duplicate waits for an offset before others.
        let at = self.queue.partition_point(|other| other.end <= waiter.end);
        self.queue.insert(at, waiter);
    }

    pub(crate) fn reached(&mut self, end: Offset) {
        while let Some(waiter) = self.queue.pop_front_if(|waiter| waiter.end <= end) {
            // Whoever gave up waiting is not told.
            let _ = waiter.done.send(Ok(()));
        }
    }

    pub(crate) fn fail(&mut self, error: &PartitionError) {
        for waiter in self.queue.drain(..) {
            let _ = waiter.done.send(Err(error.clone()));
        }
    }
}

impl Partition {
    pub(crate) fn new(
        id: TopicIdPartition,
        local: LocalPartition,
        replica: Replica,
        context: Arc<Context>,
    ) -> Arc<Self> {
        let state = State {
            replica,
            committed: Waiters::default(),
            stored: Waiters::default(),
            unwritten: VecDeque::new(),
            consumers: Vec::new(),
            followers: Vec::new(),
            is_ticking: false,
            to_checkpoint: false,
            fetch_deferred: false,
            deleted: false,
        };
        Arc::new(Self {
            id,
            local,
            context,
            state: Mutex::new(state),
        })
    }

    /// What it is a replica of.
    pub fn id(&self) -> TopicIdPartition {
        self.id
    }

    /// What an operator sees of it.
    pub fn status(&self) -> PartitionStatus {
        self.state.lock().replica.status()
    }

    pub(crate) fn apply(self: &Arc<Self>, assignment: &Assignment<'_>) {
        let mut state = self.state.lock();
        let effects = state.replica.apply(assignment, self.context.now());
        self.perform(&mut state, effects);
    }

    pub(crate) fn written(self: &Arc<Self>, end: Offset) {
        let mut state = self.state.lock();
        let effects = state.replica.written(end);
        self.perform(&mut state, effects);
    }

    pub(crate) fn durable(self: &Arc<Self>, end: Offset) {
        let mut state = self.state.lock();
        let effects = state.replica.durable(end, self.context.now());
        self.perform(&mut state, effects);
    }

    pub(crate) fn tick(self: &Arc<Self>) -> bool {
        let context = &self.context;
        let heard = |broker: BrokerId| context.heard.read().get(&broker).copied().unwrap_or_default();
        let mut state = self.state.lock();
        let effects = state.replica.tick(context.now(), &heard);
        self.perform(&mut state, effects);
        state.is_ticking = !state.deleted && state.replica.needs_tick();
        state.is_ticking
    }

    pub(crate) fn checkpoint(&self) {
        let mut state = self.state.lock();
        state.to_checkpoint = false;
        if !state.deleted {
            self.context
                .store
                .checkpoint(self.local, state.replica.log().high_watermark());
        }
    }

    pub(crate) fn expire_producers(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let effects = state.replica.expire_producers(self.context.now());
        self.perform(&mut state, effects);
    }

    /// Answers everybody who waits and takes part in nothing from now on.
    pub(crate) fn retire(&self) {
        let mut state = self.state.lock();
        // The link to its leader asks it once more, and forgets it.
        self.tell_leader(&state, LinkWork::Fetch);
        state.deleted = true;
        // Nobody hears any more what of it is written: the room for it is free now.
        state.unwritten.clear();
        let message = "the topic was deleted while the produce was under way";
        state.fail_produces(&PartitionError::new(ErrorCode::UnknownTopicOrPartition, message));
        state.wake_readers(self.id);
    }

    /// Answers every produce that waits as one of unknown fate: the broker is cut off (R3).
    pub(crate) fn fence(&self) {
        let mut state = self.state.lock();
        state.fail_produces(&indeterminate(
            "this broker was cut off from the cluster before the answer",
        ));
        state.wake_readers(self.id);
    }

    pub(crate) fn check(&self, state: &State) -> Result<(), PartitionError> {
        self.context.check_serving()?;
        if state.deleted {
            let message = format!("partition {} was deleted", self.id);
            return Err(PartitionError::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        Ok(())
    }
}

impl State {
    pub(crate) fn fail_produces(&mut self, error: &PartitionError) {
        self.committed.fail(error);
        self.stored.fail(error);
    }

    pub(crate) fn wake_readers(&mut self, id: TopicIdPartition) {
        for consumer in &self.consumers {
            consumer.notify_one();
        }
        self.wake_followers(id);
    }

    pub(crate) fn wake_followers(&mut self, id: TopicIdPartition) {
        for follower in self.followers.iter_mut().filter(|follower| follower.is_waiting) {
            follower.is_waiting = false;
            if let Some(waker) = follower.waker.upgrade() {
                waker.ready(id);
            }
        }
    }
}

/// An answer to a produce that was appended and may or may not stay.
pub(crate) fn indeterminate(what: &str) -> PartitionError {
    let message = format!("{what}; the records may or may not have been written");
    PartitionError::new(ErrorCode::NotEnoughReplicasAfterAppend, message)
}
