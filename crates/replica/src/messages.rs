//! What goes into a replica and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{
    BatchInfo, BrokerEpoch, BrokerId, EpochEntry, LeaderEpoch, Offset, PartitionRegistration, ProducerStamp,
    ProducerState,
};

use crate::fetched::Fetched;

/// A partition's registration, and as much of the image it stands in as a replica acts upon.
#[derive(Debug, Clone, Copy)]
pub struct Assignment<'a> {
    /// The registration.
    pub registration: &'a PartitionRegistration,
    /// This broker's current epoch: the metadata-log index of its registration.
    pub broker_epoch: BrokerEpoch,
    /// Up to which index of the metadata log the image was applied.
    pub metadata_index: u64,
    /// The brokers that are registered and unfenced, with their epochs.
    pub alive: &'a BTreeMap<BrokerId, BrokerEpoch>,
}

/// A batch that a client wishes to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewBatch {
    /// How many offsets it takes: at least 1.
    pub offset_count: u64,
    /// Largest timestamp of its records, milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// Its length, bytes.
    pub size_bytes: u32,
    /// Who produced it, if idempotently.
    pub producer: Option<ProducerStamp>,
}

impl From<&BatchInfo> for NewBatch {
    fn from(info: &BatchInfo) -> Self {
        Self {
            offset_count: info.offset_count(),
            max_timestamp_ms: info.max_timestamp_ms,
            size_bytes: info.size_bytes,
            producer: info.producer,
        }
    }
}

/// A client's append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendRequest {
    /// The leader epoch the client believes in; `None` skips the check (R6).
    pub leader_epoch: Option<LeaderEpoch>,
    /// What to append.
    pub batch: NewBatch,
    /// Whether the ISR must be large enough for it (`acks=all`, R2).
    pub acks_all: bool,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It has its place: fill base offset and leader epoch into the bytes and write them, with what
    /// else changed.
    New {
        /// Its header as it is in the log.
        info: BatchInfo,
        /// The leader epoch that begins with it, if one does.
        epoch: Option<EpochEntry>,
        /// Its producer as it is then.
        producer: Option<ProducerState>,
    },
    /// It stands in the log already. Answered like the original: when the high watermark (or, for
    /// `acks=1`, the durable end) reaches `end` (R9).
    Duplicate {
        /// The original's first offset.
        base_offset: Offset,
        /// The offset after the original.
        end: Offset,
        /// The epoch in which this leader answers.
        leader_epoch: LeaderEpoch,
    },
}

/// Where a consumer may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerRead {
    /// From where.
    pub from: Offset,
    /// Up to where: the high watermark (R10). Nothing is there if it is not past `from`.
    pub until: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// The epoch of the answering leader.
    pub leader_epoch: LeaderEpoch,
}

/// A follower's fetch, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who fetches.
    pub broker: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub fetch_offset: Offset,
    /// The epoch of its last batch; `None` if it never had one.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
}

/// A follower's word about its stable storage, apart from a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerDurable {
    /// Who speaks.
    pub broker: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch it follows.
    pub leader_epoch: LeaderEpoch,
    /// Up to where its log is on stable storage.
    pub durable_end: Offset,
}

/// What a follower fetches next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPosition {
    /// From whom.
    pub leader: BrokerId,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where the log ends.
    pub fetch_offset: Offset,
    /// The epoch of the last batch.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Up to where the log is on stable storage.
    pub durable_end: Offset,
}

/// A leader's answer, as its follower sees it.
#[derive(Debug, Clone, Copy)]
pub struct FetchedFromLeader<'a> {
    /// The leader epoch of the fetch that this answers.
    pub leader_epoch: LeaderEpoch,
    /// What is in it, with the headers of its batches.
    pub answer: Fetched<&'a [BatchInfo]>,
    /// When it arrived.
    pub now: Duration,
}

/// How far a leader is, as its followers are told apart from answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its high watermark.
    pub high_watermark: Offset,
    /// Its log start.
    pub log_start: Offset,
}

impl<B> From<Progress> for Fetched<B> {
    fn from(progress: Progress) -> Self {
        Self::Progress {
            high_watermark: progress.high_watermark,
            log_start: progress.log_start,
        }
    }
}

/// What a follower takes from an answer: the batches, with what changes by them, are to be written
/// in one step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TakenFromLeader {
    /// Leader epochs that begin with these batches.
    pub epochs: Vec<EpochEntry>,
    /// Producers as they are after these batches; only the changed ones, by id.
    pub producers: Vec<ProducerState>,
    /// What else to do, after the batches were enqueued.
    pub effects: Vec<crate::Effect>,
    /// Whether the follower may fetch on at once; if not, an effect says when it may.
    pub may_fetch_on: bool,
}

/// Why a leader's answer was not taken. The follower's log is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFetch {
    /// It answers a fetch of another leader epoch, or arrived while a truncation is under way: drop
    /// it.
    #[error("the answer is for leader epoch {answered}, which is no longer followed")]
    Stale {
        /// The answer's.
        answered: LeaderEpoch,
    },
    /// Its batches do not continue the log.
    #[error("a batch at offset {base_offset} does not continue a log that ends at {log_end}")]
    Gap {
        /// Where the batch begins.
        base_offset: Offset,
        /// Where the log ends.
        log_end: Offset,
    },
    /// A batch's leader epoch is lower than the one before it, or higher than the leader's (P21).
    #[error("a batch at offset {base_offset} has leader epoch {epoch}, which cannot follow {after:?}")]
    EpochOutOfOrder {
        /// Where the batch begins.
        base_offset: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// The epoch before it.
        after: Option<LeaderEpoch>,
    },
}
