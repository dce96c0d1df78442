//! What the driver of a replica has to do.

use tidelog_types::{BrokerId, LeaderEpoch, Offset, ProducerId, ProducerState};

use crate::IsrProposal;

/// One thing to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The replica leads from now on. What it reads and answers carries this epoch.
    BecameLeader {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// Where its log ended when it began (R4).
        start_offset: Offset,
    },
    /// The replica follows from now on: fetch from that leader, beginning at
    /// [`crate::Replica::next_fetch`].
    BecameFollower {
        /// Whom.
        leader: BrokerId,
        /// The leader's epoch.
        epoch: LeaderEpoch,
    },
    /// The replica neither leads nor follows.
    WentOffline,
    /// More can be read by followers.
    Written(Offset),
    /// More is on this broker's stable storage: on a leader it answers `acks=1`, a follower tells
    /// its leader.
    Durable(Offset),
    /// More is committed: it answers `acks=all`, and consumers read on.
    HighWatermark(Offset),
    /// Every produce that waits is answered with an indeterminate error.
    FailProduces(LostProduces),
    /// Ask the metadata log for this ISR change, and report what became of it to
    /// [`crate::Replica::isr_changed`].
    ProposeIsr(IsrProposal),
    /// Remove the log's tail.
    Truncate {
        /// The new log end.
        to: Offset,
        /// Producers whose state changes by it, as they are afterwards.
        producers: Vec<ProducerState>,
        /// Producers of whom nothing is left.
        forgotten: Vec<ProducerId>,
    },
    /// Move the log start. Past the log end it empties the log.
    Trim {
        /// The new log start.
        log_start: Offset,
    },
    /// A truncation waits for the producers' state as of an offset: replay the log's batches in
    /// this range into a [`crate::ProducerTable`] and hand its states to
    /// [`crate::Replica::producers_rebuilt`] (R9, P25).
    RebuildProducers {
        /// The log start.
        from: Offset,
        /// Where the truncated log will end.
        until: Offset,
    },
    /// Fetch again: a truncation that kept the follower from fetching is done, or what the fetch
    /// said of this log's stable storage is no longer all.
    FetchAgain,
    /// Committed records were cut off. It cannot happen (P23) unless an unclean election was
    /// allowed: log it loudly and count it.
    TruncatedCommitted {
        /// The new log end.
        from: Offset,
        /// The high watermark there was.
        to: Offset,
    },
}

/// Why produces that were appended cannot be answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostProduces {
    /// Another replica leads now, or none.
    LeadershipLost,
    /// The committed ISR is smaller than min.insync.replicas (R2).
    NotEnoughReplicas,
}
