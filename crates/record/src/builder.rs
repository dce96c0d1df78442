//! Making a batch: records go one after another into one buffer that already has room for the
//! header.

use std::fmt;

use tidelog_types::{Offset, ProducerStamp};

use crate::compress::compress;
use crate::compression::Compression;
use crate::header::seal;
use crate::validate::NO_TIMESTAMP;
use crate::varint::{len_i64, put_i64};
use crate::{
    Attributes, Batch, BatchHeader, BuildError, HEADER_BYTES, MAX_OPENED_BYTES, MAX_RECORDS_PER_BATCH,
};

/// A record to append, borrowed. Headers are anything that can be walked twice: a slice's
/// `iter().copied()`, or a `map` over whatever the caller keeps them in, so that no list of them
/// need be made.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a, H = [HeaderRef<'a>; 0]> {
    /// Milliseconds since 1970, or -1 for none.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    pub headers: H,
}

/// A header of a record to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    pub key: &'a str,
    /// The value; may be null.
    pub value: Option<&'a [u8]>,
}

impl<'a> NewRecord<'a> {
    /// A record without headers.
    pub const fn new(timestamp_ms: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self {
            timestamp_ms,
            key,
            value,
            headers: [],
        }
    }

    /// The same with headers.
    pub fn with_headers<H>(self, headers: H) -> NewRecord<'a, H>
    where
        H: IntoIterator<Item = HeaderRef<'a>> + Clone,
    {
        NewRecord {
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            value: self.value,
            headers,
        }
    }
}

impl<'a, H> NewRecord<'a, H>
where
    H: IntoIterator<Item = HeaderRef<'a>> + Clone,
{
    /// The most bytes it takes in a batch, wherever in it it stands: for accounting before there is
    /// a batch.
    pub fn max_size(&self) -> usize {
        let fields = self.fields();
        framed(1 + crate::varint::MAX_I64_BYTES + crate::varint::MAX_I32_BYTES + fields.bytes)
    }

    /// What of its size does not depend on its place in a batch.
    fn fields(&self) -> Fields {
        let mut header_count = 0;
        let mut bytes = nullable_len(self.key) + nullable_len(self.value);
        for header in self.headers.clone() {
            header_count += 1;
            bytes += nullable_len(Some(header.key.as_bytes())) + nullable_len(header.value);
        }
        Fields {
            header_count,
            bytes: bytes + len_i64(header_count as i64),
        }
    }
}

struct Fields {
    header_count: usize,
    bytes: usize,
}

/// Builds one batch. Base offset 0 and no leader epoch: the broker fills them in.
#[derive(Clone)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for the header, then the records so far.
    buffer: Vec<u8>,
    record_count: u32,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty batch. Allocates with the first record.
    pub const fn new(compression: Compression) -> Self {
        Self {
            compression,
            buffer: Vec::new(),
            record_count: 0,
            first_timestamp_ms: NO_TIMESTAMP,
            max_timestamp_ms: NO_TIMESTAMP,
        }
    }

    /// An empty batch with a buffer for `capacity_bytes`, header included: a batch that stays
    /// within it is made in one allocation.
    pub fn with_capacity(compression: Compression, capacity_bytes: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(capacity_bytes.min(MAX_OPENED_BYTES)),
            ..Self::new(compression)
        }
    }

    /// Appends a record; answers its offset delta, which counts from 0. On an error the batch stays
    /// as it was.
    pub fn append<'a, H>(&mut self, record: NewRecord<'a, H>) -> Result<u32, BuildError>
    where
        H: IntoIterator<Item = HeaderRef<'a>> + Clone,
    {
        let delta = self.record_count;
        if delta == MAX_RECORDS_PER_BATCH {
            return Err(BuildError::TooManyRecords {
                max: MAX_RECORDS_PER_BATCH,
            });
        }
        if !(NO_TIMESTAMP..i64::MAX).contains(&record.timestamp_ms) {
            return Err(BuildError::Timestamp {
                timestamp_ms: record.timestamp_ms,
            });
        }
        let fields = record.fields();
        let body_bytes = self.body_bytes(&record, &fields);
        let end = self.size_estimate().saturating_add(framed(body_bytes));
        if end > MAX_OPENED_BYTES {
            return Err(BuildError::TooLarge {
                size_bytes: end,
                max_bytes: MAX_OPENED_BYTES,
            });
        }
        let timestamp_delta = self.timestamp_delta(record.timestamp_ms);
        if delta == 0 {
            self.first_timestamp_ms = record.timestamp_ms;
            self.buffer.resize(HEADER_BYTES, 0);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.record_count += 1;

        let out = &mut self.buffer;
        out.reserve(end - out.len());
        put_i64(out, body_bytes as i64);
        out.push(0);
        put_i64(out, timestamp_delta);
        put_i64(out, i64::from(delta));
        put_nullable(out, record.key);
        put_nullable(out, record.value);
        put_i64(out, fields.header_count as i64);
        for header in record.headers {
            put_nullable(out, Some(header.key.as_bytes()));
            put_nullable(out, header.value);
        }
        debug_assert_eq!(out.len(), end);
        Ok(delta)
    }

    /// Whether the batch with this record stays within `limit_bytes`, uncompressed. As in Kafka an
    /// empty batch takes any record: one that is too large by itself is refused by whoever limits
    /// records, not by never finding a batch.
    pub fn would_fit<'a, H>(&self, record: &NewRecord<'a, H>, limit_bytes: usize) -> bool
    where
        H: IntoIterator<Item = HeaderRef<'a>> + Clone,
    {
        if self.is_empty() {
            return true;
        }
        if !(NO_TIMESTAMP..i64::MAX).contains(&record.timestamp_ms) {
            return true;
        }
        let body_bytes = self.body_bytes(record, &record.fields());
        self.record_count < MAX_RECORDS_PER_BATCH
            && self.size_estimate().saturating_add(framed(body_bytes)) <= limit_bytes.min(MAX_OPENED_BYTES)
    }

    /// Size of the batch if it were closed now, uncompressed: exact without compression, the most
    /// there can be with it.
    pub fn size_estimate(&self) -> usize {
        self.buffer.len().max(HEADER_BYTES)
    }

    /// How many records it holds.
    pub const fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Largest timestamp so far, milliseconds since 1970; -1 if there is none.
    pub const fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    /// Closes the batch: compresses the records (unless that makes them larger, then they stay as
    /// they are), writes the header and the CRC. A producer that assigns sequences when it sends
    /// passes `None` and [stamps](Batch::stamped) later.
    pub fn build(self, producer: Option<ProducerStamp>) -> Result<Batch, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let (compression, mut buffer) = match self.compression {
            Compression::None => (Compression::None, self.buffer),
            codec => {
                let compressed = compress(codec, &self.buffer[HEADER_BYTES..])?;
                if compressed.len() < self.buffer.len() {
                    (codec, compressed)
                } else {
                    (Compression::None, self.buffer)
                }
            }
        };
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            size_bytes: buffer.len() as u32,
            leader_epoch: None,
            crc: 0,
            attributes: Attributes(compression as u16),
            last_offset_delta: self.record_count - 1,
            first_timestamp_ms: self.first_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.record_count,
        }
        .with_producer(producer);
        let header = seal(&mut buffer, header);
        Ok(Batch::sealed(header, buffer.into()))
    }

    fn body_bytes<H>(&self, record: &NewRecord<'_, H>, fields: &Fields) -> usize {
        let timestamp_delta = self.timestamp_delta(record.timestamp_ms);
        1 + len_i64(timestamp_delta) + len_i64(i64::from(self.record_count)) + fields.bytes
    }

    /// Timestamps lie in -1..i64::MAX, so no difference of two overflows.
    fn timestamp_delta(&self, timestamp_ms: i64) -> i64 {
        if self.is_empty() {
            0
        } else {
            timestamp_ms - self.first_timestamp_ms
        }
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("compression", &self.compression)
            .field("record_count", &self.record_count)
            .field("size_estimate", &self.size_estimate())
            .finish_non_exhaustive()
    }
}

/// The size of a record with its length before it.
fn framed(body_bytes: usize) -> usize {
    len_i64(body_bytes as i64) + body_bytes
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| len_i64(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i64(out, -1),
        Some(bytes) => {
            put_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
