//! A leader's answer to a follower's fetch, on its whole way from one log to the other.

use tidelog_types::{LeaderEpoch, Offset};

/// A leader's answer. `B` is what its batches are at that point of the way: a range of the leader's
/// log ([`LogRange`]), their bytes, or their headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched<B> {
    /// Batches, perhaps none: the follower's log is a prefix of the leader's.
    Batches {
        /// From the fetch offset on, in offset order.
        batches: B,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// What moved at the leader; it answers no fetch. It counts only once a fetch showed that the
    /// follower's log is a prefix of the leader's.
    Progress {
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start.
        log_start: Offset,
    },
    /// The follower's log is not a prefix of the leader's (R5): it truncates.
    Diverging(DivergingEpoch),
    /// The follower's log ends before the leader's begins, or has nothing in common with it: it
    /// begins anew there.
    BeforeLogStart {
        /// Where the leader's log begins.
        log_start: Offset,
    },
}

/// Where the leader's log ends, for the epoch of a follower's last batch (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The leader's largest epoch that is at most the follower's last one.
    pub epoch: LeaderEpoch,
    /// Where that epoch ends in the leader's log.
    pub end_offset: Offset,
}

/// A range of a log: what a follower may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// The fetch offset.
    pub from: Offset,
    /// The leader's written end (R10). Nothing is there yet if it is not past `from`.
    pub until: Offset,
}

impl LogRange {
    /// Whether nothing is there yet.
    pub fn is_empty(self) -> bool {
        self.until <= self.from
    }
}

impl<B> Fetched<B> {
    /// Its batches, if it is an answer with batches.
    pub fn batches(&self) -> Option<&B> {
        self.as_ref().into_batches()
    }

    /// Its batches, taken out of it.
    pub fn into_batches(self) -> Option<B> {
        match self {
            Self::Batches { batches, .. } => Some(batches),
            Self::Progress { .. } | Self::Diverging(_) | Self::BeforeLogStart { .. } => None,
        }
    }

    /// The same answer, its batches borrowed.
    pub fn as_ref(&self) -> Fetched<&B> {
        match self {
            Self::Batches {
                batches,
                high_watermark,
                log_start,
            } => Fetched::Batches {
                batches,
                high_watermark: *high_watermark,
                log_start: *log_start,
            },
            Self::Progress {
                high_watermark,
                log_start,
            } => Fetched::Progress {
                high_watermark: *high_watermark,
                log_start: *log_start,
            },
            Self::Diverging(diverging) => Fetched::Diverging(*diverging),
            Self::BeforeLogStart { log_start } => Fetched::BeforeLogStart {
                log_start: *log_start,
            },
        }
    }

    /// The same answer with other batches.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Fetched<C> {
        let changed = self.try_map(|batches| Ok::<_, std::convert::Infallible>(change(batches)));
        match changed {
            Ok(changed) => changed,
            Err(never) => match never {},
        }
    }

    /// The same answer with other batches, unless they cannot be had.
    pub fn try_map<C, E>(self, change: impl FnOnce(B) -> Result<C, E>) -> Result<Fetched<C>, E> {
        Ok(match self {
            Self::Batches {
                batches,
                high_watermark,
                log_start,
            } => Fetched::Batches {
                batches: change(batches)?,
                high_watermark,
                log_start,
            },
            Self::Progress {
                high_watermark,
                log_start,
            } => Fetched::Progress {
                high_watermark,
                log_start,
            },
            Self::Diverging(diverging) => Fetched::Diverging(diverging),
            Self::BeforeLogStart { log_start } => Fetched::BeforeLogStart { log_start },
        })
    }
}
