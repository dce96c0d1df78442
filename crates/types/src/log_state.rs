//! What a partition's log remembers beside its batches. The rules that change it stand in the
//! `replica` crate; `storage` keeps it, in the same write as the batches it follows from.

use std::collections::VecDeque;

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Where a leader epoch begins in a log. The list of them, rising in both fields, is the
/// leader-epoch cache (KIP-101).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochEntry {
    /// The leader epoch that begins.
    pub epoch: LeaderEpoch,
    /// The first offset that was appended in it.
    pub start_offset: Offset,
}

/// What a log remembers of one idempotent producer (R9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer's id.
    pub id: ProducerId,
    /// Its newest epoch seen in the log.
    pub epoch: ProducerEpoch,
    /// Its newest batches of that epoch, oldest first; at least one and at most
    /// [`ProducerState::REMEMBERED_BATCHES`].
    pub batches: VecDeque<RememberedBatch>,
    /// Largest timestamp of its newest batch, milliseconds since 1970: when the state may expire.
    pub last_timestamp_ms: i64,
}

impl ProducerState {
    /// How many batches of a producer are remembered, as in Kafka: the most an idempotent producer
    /// has in flight.
    pub const REMEMBERED_BATCHES: usize = 5;
}

/// One batch that a duplicate can be recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Largest timestamp in it, milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl RememberedBatch {
    /// Sequence of its last record.
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence
            .advanced_by(self.last_offset.distance_from(self.base_offset))
    }
}
