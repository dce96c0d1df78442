//! What the broker knows of a record batch without opening its payload.

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// The header of a record batch (RecordBatch v2), in domain types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record: base offset + last offset delta. In a compacted batch the record
    /// itself may be gone.
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
    /// The producer's epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record; the following ones count on, wrapping after
    /// `i32::MAX`.
    pub base_sequence: Sequence,
}

impl ProducerStamp {
    /// The stamp of a batch header's three fields; `None` unless each lies in its range, which ends
    /// where its field becomes negative.
    pub fn from_wire(id: i64, epoch: i16, base_sequence: i32) -> Option<Self> {
        Some(Self {
            id: ProducerId(u64::try_from(id).ok()?),
            epoch: ProducerEpoch(u16::try_from(epoch).ok()?),
            base_sequence: Sequence::from_wire(base_sequence)?,
        })
    }

    /// The fields of a batch header; `None` for an id or epoch that no header can hold.
    pub fn to_wire(self) -> Option<(i64, i16, i32)> {
        let id = i64::try_from(self.id.0).ok()?;
        let epoch = i16::try_from(self.epoch.0).ok()?;
        Some((id, epoch, self.base_sequence.to_wire()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_what_a_header_can_hold() {
        for fields in [(0, 0, 0), (i64::MAX, i16::MAX, i32::MAX)] {
            let (id, epoch, sequence) = fields;
            let stamp = ProducerStamp::from_wire(id, epoch, sequence).unwrap();
            assert_eq!(stamp.to_wire(), Some(fields));
        }
        for (id, epoch, sequence) in [(-1, 0, 0), (i64::MIN, 0, 0), (0, -1, 0), (0, 0, -1)] {
            assert_eq!(ProducerStamp::from_wire(id, epoch, sequence), None);
        }
        let zero = ProducerStamp::from_wire(0, 0, 0).unwrap();
        let beyond = ProducerId(i64::MAX as u64 + 1);
        assert_eq!(ProducerStamp { id: beyond, ..zero }.to_wire(), None);
        let beyond = ProducerEpoch(i16::MAX as u16 + 1);
        assert_eq!(
            ProducerStamp {
                epoch: beyond,
                ..zero
            }
            .to_wire(),
            None
        );
    }
}
