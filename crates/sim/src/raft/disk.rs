//! The metadata database of a broker: vote, log and snapshots of the state, each durable only once
//! it is synced.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelog_cluster::Change;

use super::{LogEntry, NodeId};
use crate::random::Random;

/// The state after an index, as the changes that build it from nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) index: u64,
    pub(crate) changes: Vec<Change>,
}

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    pub(crate) term: u64,
    pub(crate) vote: Option<NodeId>,
    /// The entry of index 1 first.
    pub(crate) log: Vec<Arc<LogEntry>>,
    /// Up to where the log was known to be committed, some time.
    pub(crate) commit: u64,
    pub(crate) snapshot: Snapshot,
}

/// A write to the metadata database.
#[derive(Debug)]
pub(crate) enum Save {
    Vote(u64, Option<NodeId>),
    /// Entries from an index on; what stood there goes.
    Entries(u64, Vec<Arc<LogEntry>>),
    Commit(u64),
    Snapshot(Snapshot),
}

/// The metadata database of one node.
#[derive(Debug, Default)]
pub(crate) struct MetadataDisk {
    pub(crate) saved: Saved,
    pending: VecDeque<Save>,
    enqueued: u64,
    syncing: Option<usize>,
}

impl MetadataDisk {
    /// One that a formed cluster has left.
    pub(crate) fn formed(log: Vec<Arc<LogEntry>>) -> Self {
        Self {
            saved: Saved {
                log,
                ..Saved::default()
            },
            ..Self::default()
        }
    }

    /// Enqueues a write.
    pub(crate) fn save(&mut self, save: Save) {
        self.pending.push_back(save);
        self.enqueued += 1;
    }

    /// How many writes were ever enqueued.
    pub(crate) fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// How many of them are durable.
    pub(crate) fn synced(&self) -> u64 {
        self.enqueued - self.pending.len() as u64
    }

    /// Begins a sync of everything that is enqueued, unless one is under way or there is nothing.
    /// Says whether it did.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let begins = self.syncing.is_none() && !self.pending.is_empty();
        if begins {
            self.syncing = Some(self.pending.len());
        }
        begins
    }

    /// A sync is done.
    pub(crate) fn end_sync(&mut self) {
        let count = self.syncing.take().unwrap_or(0);
        self.harden(count);
    }

    /// Loses what was not synced, except for a prefix of it.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.pending.len() as u64 + 1) as usize;
        self.harden(kept);
        self.pending.clear();
        self.syncing = None;
    }

    /// Syncs all that was written.
    pub(crate) fn close(&mut self) {
        self.harden(self.pending.len());
        self.syncing = None;
    }

    fn harden(&mut self, count: usize) {
        for save in self.pending.drain(..count) {
            match save {
                Save::Vote(term, vote) => (self.saved.term, self.saved.vote) = (term, vote),
                Save::Entries(from, entries) => {
                    self.saved.log.truncate(from as usize - 1);
                    self.saved.log.extend(entries);
                }
                Save::Commit(index) => self.saved.commit = index,
                Save::Snapshot(snapshot) => self.saved.snapshot = snapshot,
            }
        }
    }
}
