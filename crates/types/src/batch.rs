//! What the broker knows of a record batch without opening its payload.

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// The header of a record batch (RecordBatch v2), in domain types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record: base offset + last offset delta. In a compacted batch the record itself may be gone.
    pub last_offset: Offset,
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// Largest timestamp of its records, milliseconds since 1970; -1 if it has none.
    pub max_timestamp_ms: i64,
    /// Length of the whole batch on disk and on the wire, bytes, header included.
    pub size_bytes: u32,
    /// Who produced it, if idempotently.
    pub producer: Option<ProducerStamp>,
}

impl BatchInfo {
    /// The offset after its last one.
    pub const fn end_offset(&self) -> Offset {
        self.last_offset.next()
    }

    /// How many offsets it covers: at least 1.
    pub const fn offset_count(&self) -> u64 {
        self.last_offset.0 - self.base_offset.0 + 1
    }
}

/// Who produced a batch, and where it stands among that producer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record; the following ones count on, wrapping after `i32::MAX`.
    pub base_sequence: Sequence,
}
