//! The 61 bytes before a batch's payload, decoded, and the checks that no reader can do without.

use tidelog_types::{BatchInfo, LeaderEpoch, Offset, ProducerStamp};

use crate::compression::MAX_OPENED_BYTES;
use crate::{BatchError, Compression};

/// Length of the header, bytes.
pub const HEADER_BYTES: usize = 61;
/// The magic number of RecordBatch v2.
pub const MAGIC: u8 = 2;
/// The shortest record there can be, uncompressed: seven one-byte fields, no key, no value, no
/// headers.
pub const MIN_RECORD_BYTES: usize = 7;
/// Most records a batch may claim: as many of the shortest as fit the largest payload that anyone
/// opens.
pub const MAX_RECORDS_PER_BATCH: u32 = (MAX_OPENED_BYTES / MIN_RECORD_BYTES) as u32;

/// Where each field begins.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const LEADER_EPOCH: usize = 12;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const FIRST_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const BASE_SEQUENCE: usize = 53;
    pub(crate) const RECORD_COUNT: usize = 57;
}

/// What the length field does not count: base offset and itself.
pub(crate) const BEFORE_LENGTH: usize = at::LEADER_EPOCH;

const _: () = assert!(at::RECORD_COUNT + 4 == HEADER_BYTES);

/// A batch's attribute bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub u16);

impl Attributes {
    const COMPRESSION: u16 = 0b111;
    const LOG_APPEND_TIME: u16 = 1 << 3;
    const TRANSACTIONAL: u16 = 1 << 4;
    const CONTROL: u16 = 1 << 5;
    const DELETE_HORIZON: u16 = 1 << 6;
    const KNOWN: u16 = 0b111_1111;

    /// How the records are compressed; `None` for a number that Kafka has not given out.
    pub fn compression(self) -> Option<Compression> {
        Compression::from_number(self.compression_number())
    }

    /// The number that says how the records are compressed, known or not.
    pub(crate) const fn compression_number(self) -> u8 {
        (self.0 & Self::COMPRESSION) as u8
    }

    /// Whether every record's timestamp is the batch's max timestamp, set by the broker.
    pub const fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether its records are markers for clients' libraries and not for applications.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether compaction put its delete horizon in the first-timestamp field (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The bits that have no meaning in RecordBatch v2.
    pub const fn unknown_bits(self) -> u16 {
        self.0 & !Self::KNOWN
    }
}

/// A batch's header, decoded. Reading one checks the framing: what a value of this type says of
/// offsets and sizes is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 in a batch that no leader has seen.
    pub base_offset: Offset,
    /// Length of the whole batch, bytes, header included; at least [`HEADER_BYTES`].
    pub size_bytes: u32,
    /// The epoch of the leader that appended it; `None` (-1) if none has. Some clients write 0
    /// instead.
    pub leader_epoch: Option<LeaderEpoch>,
    /// CRC-32C of everything from the attributes on, as the header claims.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// Last offset - base offset. Base offset plus this is at most [`Offset::MAX`].
    pub last_offset_delta: u32,
    /// What the records' timestamps are relative to, milliseconds since 1970; -1 if it has none.
    pub first_timestamp_ms: i64,
    /// The largest timestamp, milliseconds since 1970; -1 if it has none.
    pub max_timestamp_ms: i64,
    /// The idempotent producer's id; -1 if there is none.
    pub producer_id: i64,
    /// The producer's epoch; without meaning if there is none.
    pub producer_epoch: i16,
    /// The sequence of the first record; without meaning without a producer.
    pub base_sequence: i32,
    /// How many records the payload holds; fewer than offsets only in a batch that was compacted or
    /// emptied.
    pub record_count: u32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which may hold less or more than the whole
    /// batch.
    ///
    /// Checks magic, that length, offsets and counts are not negative, that no offset overflows,
    /// and that there are no more records than offsets. Not the CRC, and not whether the payload is
    /// there.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::HeaderTruncated { actual: bytes.len() });
        };
        let magic = raw[at::MAGIC];
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let declared = i32::from_be_bytes(field(raw, at::LENGTH));
        let size_bytes = u32::try_from(declared)
            .ok()
            .map(|length| length + BEFORE_LENGTH as u32)
            .filter(|size| *size as usize >= HEADER_BYTES)
            .ok_or(BatchError::Length { declared })?;
        let header = Self {
            base_offset: not_negative("base offset", i64::from_be_bytes(field(raw, at::BASE_OFFSET)))
                .map(Offset)?,
            size_bytes,
            leader_epoch: u32::try_from(i32::from_be_bytes(field(raw, at::LEADER_EPOCH)))
                .ok()
                .map(LeaderEpoch),
            crc: u32::from_be_bytes(field(raw, at::CRC)),
            attributes: Attributes(u16::from_be_bytes(field(raw, at::ATTRIBUTES))),
            last_offset_delta: count("last offset delta", field(raw, at::LAST_OFFSET_DELTA))?,
            first_timestamp_ms: i64::from_be_bytes(field(raw, at::FIRST_TIMESTAMP)),
            max_timestamp_ms: i64::from_be_bytes(field(raw, at::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(raw, at::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(raw, at::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(raw, at::BASE_SEQUENCE)),
            record_count: count("record count", field(raw, at::RECORD_COUNT))?,
        };
        header.check_counts()?;
        Ok(header)
    }

    fn check_counts(&self) -> Result<(), BatchError> {
        let (base_offset, offsets) = (self.base_offset, u64::from(self.last_offset_delta) + 1);
        if base_offset.0 + (offsets - 1) > Offset::MAX.0 - 1 {
            return Err(BatchError::OffsetOverflow {
                base_offset,
                last_offset_delta: self.last_offset_delta,
            });
        }
        if u64::from(self.record_count) > offsets {
            return Err(BatchError::CountDiffers {
                record_count: self.record_count,
                offsets,
            });
        }
        let payload_bytes = self.size_bytes as usize - HEADER_BYTES;
        let most = match self.attributes.compression() {
            Some(Compression::None) => payload_bytes / MIN_RECORD_BYTES,
            _ if payload_bytes == 0 => 0,
            _ => MAX_RECORDS_PER_BATCH as usize,
        };
        if self.record_count as usize > most {
            return Err(BatchError::CountTooLarge {
                record_count: self.record_count,
                payload_bytes,
            });
        }
        Ok(())
    }

    /// Offset of the last record: base offset + last offset delta.
    pub fn last_offset(&self) -> Offset {
        self.base_offset + u64::from(self.last_offset_delta)
    }

    /// Who produced it, if idempotently and with numbers that make sense.
    pub fn producer(&self) -> Option<ProducerStamp> {
        ProducerStamp::from_wire(self.producer_id, self.producer_epoch, self.base_sequence)
    }

    /// The header in the words that the other crates speak. A batch that no leader has seen reads
    /// as of epoch 0.
    pub fn info(&self) -> BatchInfo {
        BatchInfo {
            base_offset: self.base_offset,
            last_offset: self.last_offset(),
            leader_epoch: self.leader_epoch.unwrap_or_default(),
            max_timestamp_ms: self.max_timestamp_ms,
            size_bytes: self.size_bytes,
            producer: self.producer(),
        }
    }

    /// Encodes it into the first [`HEADER_BYTES`] of `out`, the CRC as it stands.
    pub(crate) fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        let leader_epoch = self.leader_epoch.map_or(-1, |epoch| epoch.0 as i32);
        put(out, at::BASE_OFFSET, self.base_offset.0.to_be_bytes());
        put(
            out,
            at::LENGTH,
            (self.size_bytes - BEFORE_LENGTH as u32).to_be_bytes(),
        );
        put(out, at::LEADER_EPOCH, leader_epoch.to_be_bytes());
        out[at::MAGIC] = MAGIC;
        put(out, at::CRC, self.crc.to_be_bytes());
        put(out, at::ATTRIBUTES, self.attributes.0.to_be_bytes());
        put(out, at::LAST_OFFSET_DELTA, self.last_offset_delta.to_be_bytes());
        put(out, at::FIRST_TIMESTAMP, self.first_timestamp_ms.to_be_bytes());
        put(out, at::MAX_TIMESTAMP, self.max_timestamp_ms.to_be_bytes());
        put(out, at::PRODUCER_ID, self.producer_id.to_be_bytes());
        put(out, at::PRODUCER_EPOCH, self.producer_epoch.to_be_bytes());
        put(out, at::BASE_SEQUENCE, self.base_sequence.to_be_bytes());
        put(out, at::RECORD_COUNT, self.record_count.to_be_bytes());
    }

    /// The same with another producer, or none.
    ///
    /// # Panics
    /// For an id or epoch that no header can hold: it would come out as no producer at all, or as
    /// another epoch.
    pub(crate) fn with_producer(mut self, producer: Option<ProducerStamp>) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = match producer {
            Some(stamp) => stamp
                .to_wire()
                .expect("ids and epochs are checked where they come in"),
            None => (-1, -1, -1),
        };
        self
    }
}

/// The CRC-32C that the header of these bytes, a whole batch, should carry.
pub(crate) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[at::ATTRIBUTES..])
}

/// Writes `header` over the first bytes of a whole batch and then the CRC that fits.
pub(crate) fn seal(batch: &mut [u8], mut header: BatchHeader) -> BatchHeader {
    let room = batch
        .first_chunk_mut::<HEADER_BYTES>()
        .expect("a batch is made with room for its header");
    header.write(room);
    header.crc = checksum(batch);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&header.crc.to_be_bytes());
    header
}

fn field<const N: usize>(raw: &[u8; HEADER_BYTES], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[start..start + N]);
    out
}

fn put<const N: usize>(raw: &mut [u8; HEADER_BYTES], start: usize, value: [u8; N]) {
    raw[start..start + N].copy_from_slice(&value);
}

fn not_negative(field: &'static str, value: i64) -> Result<u64, BatchError> {
    u64::try_from(value).map_err(|_| BatchError::Negative { field, value })
}

fn count(field: &'static str, raw: [u8; 4]) -> Result<u32, BatchError> {
    not_negative(field, i64::from(i32::from_be_bytes(raw))).map(|value| value as u32)
}
