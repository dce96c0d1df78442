//! What can be wrong with a batch. Each error maps to the code that a client is answered with.

use thiserror::Error;
use tidelog_types::{ErrorCode, Offset, PartitionError};

use crate::Compression;

/// Why bytes are not a batch, or not one that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Too short to be a batch at all.
    #[error("a record batch has a header of 61 bytes, and these are {actual}: send whole batches")]
    HeaderTruncated {
        /// Bytes there are.
        actual: usize,
    },
    #[error(
        "record batch of magic {magic}: only RecordBatch v2 (magic 2) is taken; use a client of Kafka 0.11 or later"
    )]
    Magic {
        /// The number found.
        magic: u8,
    },
    /// The length field cannot be right.
    #[error(
        "record batch claims a length of {declared} bytes after the length field, at least 49 follow: the batch is damaged"
    )]
    Length {
        /// The field's value.
        declared: i32,
    },
    /// The end is missing.
    #[error("record batch of {declared} bytes, but only {actual} are there: it was cut short on its way")]
    Truncated {
        /// Bytes that its header announces, header included.
        declared: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// Something follows the batch.
    #[error("record batch of {declared} bytes, but {actual} were sent: send exactly one batch a partition")]
    Trailing {
        /// Bytes that its header announces, header included.
        declared: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A field that counts is negative.
    #[error("record batch with a {field} of {value}: the batch is damaged, or its producer is broken")]
    Negative { field: &'static str, value: i64 },
    /// Its offsets run past the largest one.
    #[error(
        "record batch from offset {base_offset} on runs {last_offset_delta} offsets further, past the largest: it is damaged"
    )]
    OffsetOverflow {
        /// Its base offset.
        base_offset: Offset,
        /// Its last offset delta.
        last_offset_delta: u32,
    },
    /// Records and offsets do not agree.
    #[error(
        "record batch of {record_count} records over {offsets} offsets: its producer must count both alike"
    )]
    CountDiffers {
        /// Records it claims.
        record_count: u32,
        /// Offsets it covers.
        offsets: u64,
    },
    /// More records than its payload can hold.
    #[error(
        "record batch claims {record_count} records in {payload_bytes} bytes: it is damaged, or its producer is broken"
    )]
    CountTooLarge {
        /// Records it claims.
        record_count: u32,
        /// Bytes of its payload.
        payload_bytes: usize,
    },
    /// The checksum is wrong.
    #[error(
        "record batch with CRC-32C {computed:#010x}, but its header says {stored:#010x}: it was damaged on its way; send it again"
    )]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Larger than the topic takes.
    #[error(
        "record batch of {size_bytes} bytes, and max.message.bytes is {max_bytes}: raise it, or send smaller records or batches"
    )]
    TooLarge {
        /// Its size, header included.
        size_bytes: usize,
        /// The topic's limit.
        max_bytes: u32,
    },
    /// A producer does not know offsets.
    #[error("record batch with base offset {base_offset}: a producer leaves it 0, the broker fills it in")]
    BaseOffset {
        /// The one it has.
        base_offset: Offset,
    },
    /// A compression that Kafka does not define.
    #[error("record batch with compression {number}: use none, gzip, snappy, lz4 or zstd (0 to 4)")]
    Compression {
        /// The number found.
        number: u8,
    },
    /// Attribute bits without a meaning.
    #[error("record batch with unknown attribute bits {bits:#06x}: its producer is too new, or broken")]
    Attributes { bits: u16 },
    /// Something that producers may not send, or may not yet.
    #[error("record batch with {what}: this is not taken from a producer")]
    NotForProducers { what: &'static str },
    /// Timestamps out of order or before 1970.
    #[error(
        "record batch with timestamps from {first_ms} to {max_ms}: use milliseconds since 1970, or -1 for none"
    )]
    Timestamps {
        /// The first record's.
        first_ms: i64,
        max_ms: i64,
    },
    /// Producer fields that do not fit each other.
    #[error(
        "record batch of producer id {id}, epoch {epoch}, sequence {base_sequence}: all three are needed, or id -1 for none"
    )]
    Producer {
        /// The id field.
        id: i64,
        /// The epoch field.
        epoch: i16,
        /// The sequence field.
        base_sequence: i32,
    },
    /// A stored batch that no leader filled in.
    #[error(
        "record batch at offset {base_offset} without a leader epoch: no leader appended it; verify the log it comes from"
    )]
    NoLeaderEpoch {
        /// Its base offset.
        base_offset: Offset,
    },
}

impl BatchError {
    /// The code a client is answered with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::HeaderTruncated { .. }
            | Self::Magic { .. }
            | Self::Length { .. }
            | Self::Truncated { .. }
            | Self::Negative { .. }
            | Self::OffsetOverflow { .. }
            | Self::CountDiffers { .. }
            | Self::CountTooLarge { .. }
            | Self::Crc { .. }
            | Self::NoLeaderEpoch { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Trailing { .. }
            | Self::BaseOffset { .. }
            | Self::Compression { .. }
            | Self::Attributes { .. }
            | Self::NotForProducers { .. }
            | Self::Timestamps { .. }
            | Self::Producer { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// Why a payload could not be decompressed, or compressed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompressionError {
    /// Not what the codec writes.
    #[error("payload is not {codec}: {what}; its producer is broken")]
    Malformed {
        /// The codec that the batch names.
        codec: Compression,
        /// What does not fit.
        what: String,
    },
    /// Larger than what was allowed: perhaps a bomb.
    #[error(
        "{codec} payload becomes larger than the limit of {limit_bytes} bytes: make smaller batches or raise the limit"
    )]
    TooLarge {
        codec: Compression,
        /// What was allowed.
        limit_bytes: usize,
    },
    /// This program was built without the codec.
    #[error("{codec} is not built into this program: build it with the cargo feature `{codec}`")]
    NotBuiltIn { codec: Compression },
    /// The codec failed at compressing.
    #[error("compressing with {codec} failed: {what}; use another compression")]
    Failed {
        codec: Compression,
        /// What it said.
        what: String,
    },
}

impl CompressionError {
    /// The code a client is answered with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::NotBuiltIn { .. } => ErrorCode::InvalidRecord,
            Self::Failed { .. } => ErrorCode::UnknownServerError,
        }
    }
}

/// What is wrong with a record in a payload. `index` counts the batch's records from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A field that does not end, does not fit, or runs past the record.
    #[error("record {index} of the batch: malformed {field}; the batch's producer is broken")]
    Malformed { index: u32, field: &'static str },
    /// A record's length goes past the payload, or the payload ends before the last record.
    #[error(
        "record {index} of the batch ends past its payload of which {remaining} bytes are left: the batch's producer is broken"
    )]
    PastEnd { index: u32, remaining: usize },
    /// Bytes follow the fields of a record.
    #[error("record {index} of the batch has {extra} bytes too many: the batch's producer is broken")]
    Oversized { index: u32, extra: usize },
    /// Offsets that do not rise, or leave the batch.
    #[error(
        "record {index} of the batch has offset delta {delta}, which does not follow the one before or leaves the batch"
    )]
    OffsetDelta { index: u32, delta: i32 },
    /// Bytes follow the last record.
    #[error("{extra} bytes follow the last record of the batch: the batch's producer is broken")]
    Trailing { extra: usize },
    #[error(
        "record {index} of the batch has timestamp {timestamp_ms}: use milliseconds since 1970, or -1 for none"
    )]
    Timestamp { index: u32, timestamp_ms: i64 },
    /// No key, and the topic is compacted.
    #[error("record {index} of the batch has no key: a compacted topic takes only records with one")]
    NoKey { index: u32 },
}

impl RecordError {
    /// The code a client is answered with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoKey { .. } | Self::Timestamp { .. } => ErrorCode::InvalidRecord,
            _ => ErrorCode::CorruptMessage,
        }
    }
}

/// Why a batch could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The batch itself.
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// One of its records.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl OpenError {
    /// The code a client is answered with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            Self::Compression(error) => error.code(),
            Self::Record(error) => error.code(),
        }
    }
}

/// Why the records of a produced batch are refused. Its checksum is right, so they are as their
/// producer made them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProducedError {
    /// The batch itself.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Its payload does not open.
    #[error("{0}; nothing of the batch was stored")]
    Compression(#[from] CompressionError),
    /// One of its records is not readable, or may not be stored.
    #[error("{0}; nothing of the batch was stored")]
    Record(#[from] RecordError),
    /// The header says something else than the records: offsets by time would be wrong.
    #[error(
        "record batch whose header says that its largest timestamp is {claimed_ms}, and that of its records is {actual_ms}: \
         the batch's producer is broken; nothing of the batch was stored"
    )]
    MaxTimestamp {
        /// The header's, milliseconds since 1970.
        claimed_ms: i64,
        /// The largest of the records.
        actual_ms: i64,
    },
}

impl ProducedError {
    /// The code a client is answered with. A payload under a right checksum was not damaged on its
    /// way: it is no CORRUPT_MESSAGE.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Batch(error) => error.code(),
            Self::Compression(CompressionError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
            Self::Compression(_) | Self::Record(_) | Self::MaxTimestamp { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// Why a batch could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A batch holds at least one record.
    #[error("a batch of no records was to be built: append one first")]
    Empty,
    /// A batch or a record past what its length fields can hold.
    #[error(
        "a batch of {size_bytes} bytes was to be built, and the most are {max_bytes}: use smaller records or batches"
    )]
    TooLarge {
        /// What it would take.
        size_bytes: usize,
        /// The most there can be.
        max_bytes: usize,
    },
    /// More records than a batch may hold.
    #[error("a batch holds at most {max} records: close it and begin another")]
    TooManyRecords { max: u32 },
    /// A timestamp that a record cannot have.
    #[error("record with timestamp {timestamp_ms}: use milliseconds since 1970, or -1 for none")]
    Timestamp { timestamp_ms: i64 },
    /// Offsets that no batch can cover.
    #[error(
        "no batch covers the offsets from {base_offset} to {last_offset}: at most 2147483648, the first first"
    )]
    Range {
        base_offset: Offset,
        last_offset: Offset,
    },
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

impl BuildError {
    /// The code a client is answered with, where a broker builds the batch for it.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } | Self::TooManyRecords { .. } => ErrorCode::MessageTooLarge,
            Self::Empty | Self::Timestamp { .. } => ErrorCode::InvalidRecord,
            Self::Range { .. } => ErrorCode::UnknownServerError,
            Self::Compression(error) => error.code(),
        }
    }
}

macro_rules! into_partition_error {
    ($($error:ty),*) => {
        $(impl From<$error> for PartitionError {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error.to_string())
            }
        })*
    };
}

into_partition_error!(
    BatchError,
    CompressionError,
    RecordError,
    OpenError,
    ProducedError,
    BuildError
);
