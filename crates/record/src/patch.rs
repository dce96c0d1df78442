//! Filling in what is known only later, and batches that stand for records that are gone.

use bytes::{Bytes, BytesMut};
use tidelog_types::{BatchInfo, LeaderEpoch, Offset, ProducerStamp};

use crate::header::{at, seal};
use crate::validate::NO_TIMESTAMP;
use crate::{Attributes, Batch, BatchHeader, BuildError, HEADER_BYTES};

impl Batch {
    /// Fills in what the leader decides: base offset and leader epoch. Both lie outside the CRC,
    /// which stays right.
    ///
    /// Costs twelve bytes written in place if this handle is the only one to its buffer and the
    /// batch fills half of that; else one copy of the batch: others may be reading those bytes, or
    /// a small batch would hold a large buffer for as long as it is cached. A batch cut out of a
    /// gRPC frame that is still being read shares the frame's buffer and is copied, which also lets
    /// go of the frame: the tail cache then holds 256 KiB for a batch of that size, not the frame
    /// around it.
    ///
    /// # Panics
    /// If the last offset would exceed [`Offset::MAX`]: a log that long does not exist.
    #[must_use]
    pub fn assign(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        let header = BatchHeader {
            base_offset,
            leader_epoch: Some(leader_epoch),
            ..*self.header()
        };
        assert!(
            header.last_offset() < Offset::MAX,
            "offsets of a log stay below {}",
            Offset::MAX
        );
        let mut bytes = writable(self.into_bytes());
        bytes[at::BASE_OFFSET..at::LENGTH].copy_from_slice(&base_offset.0.to_be_bytes());
        bytes[at::LEADER_EPOCH..at::MAGIC].copy_from_slice(&leader_epoch.0.to_be_bytes());
        Self::sealed(header, bytes.freeze())
    }

    /// Fills in what the producer decides when it sends: its id, epoch and sequence. They lie
    /// within the CRC, so this is one pass over the batch, and a copy if its buffer is shared (see
    /// [`Batch::assign`]).
    #[must_use]
    pub fn stamped(self, producer: Option<ProducerStamp>) -> Self {
        let header = self.header().with_producer(producer);
        let mut bytes = writable(self.into_bytes());
        let header = seal(&mut bytes, header);
        Self::sealed(header, bytes.freeze())
    }

    /// A batch of no records that keeps a range of offsets explained: what compaction leaves where
    /// nothing survived, so that a log has no holes between batches.
    pub fn header_only(range: EmptiedRange) -> Result<Self, BuildError> {
        let delta = range.last_offset.distance_from(range.base_offset);
        let last_offset_delta = i32::try_from(delta)
            .ok()
            .filter(|_| range.base_offset <= range.last_offset && range.last_offset < Offset::MAX)
            .ok_or(BuildError::Range {
                base_offset: range.base_offset,
                last_offset: range.last_offset,
            })?;
        let header = BatchHeader {
            base_offset: range.base_offset,
            size_bytes: HEADER_BYTES as u32,
            leader_epoch: Some(range.leader_epoch),
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: last_offset_delta as u32,
            // As Kafka's own empty batches: no base for timestamps that are not there.
            first_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_ms: range.max_timestamp_ms,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        }
        .with_producer(range.producer);
        let mut bytes = vec![0; HEADER_BYTES];
        let header = seal(&mut bytes, header);
        Ok(Self::sealed(header, bytes.into()))
    }
}

/// Offsets whose records are gone, and what is still to be known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmptiedRange {
    /// The first of the offsets.
    pub base_offset: Offset,
    /// The last of them: at most `i32::MAX` further on.
    pub last_offset: Offset,
    /// The epoch that the log had there.
    pub leader_epoch: LeaderEpoch,
    /// The largest timestamp there was, milliseconds since 1970; -1 if there was none.
    pub max_timestamp_ms: i64,
    /// Whose records they were: a producer's newest batch is kept so that its sequence is not
    /// forgotten.
    pub producer: Option<ProducerStamp>,
}

impl From<BatchInfo> for EmptiedRange {
    fn from(info: BatchInfo) -> Self {
        Self {
            base_offset: info.base_offset,
            last_offset: info.last_offset,
            leader_epoch: info.leader_epoch,
            max_timestamp_ms: info.max_timestamp_ms,
            producer: info.producer,
        }
    }
}

/// The same bytes in a buffer of their own, which is at most twice as large.
fn writable(bytes: Bytes) -> BytesMut {
    match bytes.try_into_mut() {
        Ok(own) if own.capacity() <= 2 * own.len() => own,
        Ok(roomy) => BytesMut::from(&roomy[..]),
        Err(shared) => BytesMut::from(&shared[..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_batch_lets_go_of_the_large_buffer_that_it_came_in() {
        let small = [7; 100];
        let mut frame = BytesMut::with_capacity(8192);
        frame.extend_from_slice(&small);
        let alone = frame.freeze();
        let kept = writable(alone);
        assert_eq!(kept[..], small);
        assert!(kept.capacity() <= 200, "{} bytes", kept.capacity());
    }

    #[test]
    fn a_batch_that_fills_its_buffer_is_written_in_place_and_a_shared_one_is_copied() {
        let own = Bytes::from(vec![7; 1000]);
        let at = own.as_ptr();
        let mut written = writable(own);
        assert_eq!(written.as_ptr(), at);
        written[0] = 8;
        let shared = written.freeze();
        let other = writable(shared.clone());
        assert_ne!(other.as_ptr(), shared.as_ptr());
        assert_eq!(other[..], shared[..]);
    }
}
