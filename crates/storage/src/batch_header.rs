//! The few header fields of a stored RecordBatch v2 that the storage itself looks at.

use tidelog_types::{LeaderEpoch, Offset};

/// A batch without any record, bytes.
const HEADER_BYTES: usize = 61;
/// What the length field does not count: base offset and the field itself, bytes.
const LENGTH_EXCLUDES_BYTES: usize = 12;
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;

/// What the storage reads of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) max_timestamp_ms: i64,
}

impl BatchHeader {
    /// Reads and verifies a whole stored batch: length, base offset as its key has it, and the
    /// checksum over everything from the attributes on. The error says what does not fit.
    pub(crate) fn verify(bytes: &[u8], base_offset: Offset) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("{} bytes are too few for a batch", bytes.len()));
        }
        let length = i32::from_be_bytes(field(bytes, 8));
        if usize::try_from(length) != Ok(bytes.len() - LENGTH_EXCLUDES_BYTES) {
            return Err(format!(
                "its header gives {length} bytes after the length, there are {}",
                bytes.len() - 12
            ));
        }
        let found = u64::from_be_bytes(field(bytes, 0));
        if found != base_offset.0 {
            return Err(format!("its header says base offset {found}"));
        }
        let expected = u32::from_be_bytes(field(bytes, CRC_AT));
        let actual = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        if expected != actual {
            return Err(format!(
                "its checksum is {actual:#010x} and should be {expected:#010x}"
            ));
        }
        let last_delta = u32::try_from(i32::from_be_bytes(field(bytes, 23)))
            .map_err(|_| "its last offset delta is negative".to_owned())?;
        let last_offset = base_offset
            .0
            .checked_add(last_delta.into())
            .filter(|last| *last < Offset::MAX.0)
            .ok_or("its last offset is above the largest")?;
        Ok(Self {
            base_offset,
            last_offset: Offset(last_offset),
            leader_epoch: LeaderEpoch(u32::from_be_bytes(field(bytes, 12))),
            max_timestamp_ms: i64::from_be_bytes(field(bytes, 35)),
        })
    }

    /// The offset after its last one.
    pub(crate) const fn end_offset(&self) -> Offset {
        self.last_offset.next()
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the slice has the array's length")
}
