//! One replica with everybody who waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_replica::Replica;
use tidelog_types::{BrokerId, LeaderEpoch, Offset};

use crate::message::{Address, Payload};
use crate::network::Handle;

/// A replica of this broker.
pub(super) struct Partition {
    pub(super) replica: Replica,
    /// Produces that wait for the high watermark, by end.
    pub(super) waiters: Vec<Waiter>,
    /// Consumers' fetches that wait for it to move.
    pub(super) parked: Vec<ParkedFetch>,
    /// The followers' streams, and whether a fetch of each waits here.
    pub(super) followers: BTreeMap<BrokerId, (Handle, bool)>,
    /// Whether it is on the list of those that time must look after.
    pub(super) is_ticking: bool,
    pub(super) to_checkpoint: bool,
    /// The members that the history last says it counts.
    pub(super) counts: Vec<BrokerId>,
    pub(super) is_waking: bool,
}

/// A produce that was appended and is not answered.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) end: Offset,
    pub(super) handle: Handle,
    pub(super) attempt: u64,
    pub(super) base_offset: Offset,
    /// What its producer asked to store.
    pub(super) payload: Arc<Payload>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) deadline: Duration,
}

/// A consumer's fetch that found nothing.
#[derive(Debug, Clone)]
pub(super) struct ParkedFetch {
    pub(super) asker: Address,
    pub(super) id: u64,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    pub(super) offset: Offset,
    pub(super) max_batches: usize,
    pub(super) deadline: Duration,
}

impl Partition {
    pub(super) fn new(replica: Replica) -> Self {
        Self {
            replica,
            waiters: Vec::new(),
            parked: Vec::new(),
            followers: BTreeMap::new(),
            is_ticking: false,
            to_checkpoint: false,
            counts: Vec::new(),
            is_waking: false,
        }
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        let at = self.waiters.partition_point(|other| other.end <= waiter.end);
        self.waiters.insert(at, waiter);
    }

    /// The produces that the high watermark covers.
    pub(super) fn reached(&mut self, end: Offset) -> Vec<Waiter> {
        let count = self.waiters.partition_point(|waiter| waiter.end <= end);
        self.waiters.drain(..count).collect()
    }
}
