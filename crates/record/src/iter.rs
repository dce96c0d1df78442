//! Reading a batch's records: borrowed, or owned and sharing the batch's buffer.

use std::borrow::Cow;
use std::iter::FusedIterator;

use bytes::Bytes;
use tidelog_types::Offset;

use crate::varint::{take_i32, take_i64};
use crate::{BatchHeader, RecordError};

/// A header takes two length bytes at least.
const MIN_HEADER_BYTES: usize = 2;

/// The opened records of one batch: a header and the uncompressed payload.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
}

impl Records {
    pub(crate) fn new(header: BatchHeader, payload: Bytes) -> Self {
        Self { header, payload }
    }

    /// How many records the batch claims to hold.
    pub const fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// The uncompressed payload: for an uncompressed batch a slice of its own buffer.
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The records, borrowed.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.payload)
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<RecordView<'a>, RecordError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

impl IntoIterator for Records {
    type Item = Result<Record, RecordError>;
    type IntoIter = IntoRecords;

    /// The records, owned: their keys and values are slices of the payload, not copies.
    fn into_iter(self) -> IntoRecords {
        IntoRecords {
            cursor: Cursor::new(&self.header),
            position: 0,
            payload: self.payload,
        }
    }
}

/// One record, borrowed from its batch. A consumer that starts in the middle of a batch skips those
/// below its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset; relative to 0 in a batch that no leader has seen.
    pub offset: Offset,
    /// Milliseconds since 1970; -1 if it has none. The same for the whole batch where the broker
    /// sets it.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    headers: HeaderIter<'a>,
}

impl<'a> RecordView<'a> {
    /// The headers, in order; a key may occur more than once.
    pub fn headers(&self) -> HeaderIter<'a> {
        self.headers
    }
}

/// One record that shares its batch's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset; relative to 0 in a batch that no leader has seen.
    pub offset: Offset,
    /// Milliseconds since 1970; -1 if it has none. The same for the whole batch where the broker
    /// sets it.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// A record's headers, kept as they stand in the batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    raw: Bytes,
    count: u32,
}

impl Headers {
    /// The headers, in order; a key may occur more than once.
    pub fn iter(&self) -> HeaderIter<'_> {
        HeaderIter {
            raw: &self.raw,
            left: self.count,
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value of the last header of this key, as Kafka's `lastHeader`: `None` if there is no
    /// such header, `Some(None)` if its value is null.
    pub fn last(&self, key: &str) -> Option<Option<&[u8]>> {
        self.iter()
            .filter(|header| header.key == key.as_bytes())
            .last()
            .map(|header| header.value)
    }

    /// The bytes of a header's value, sharing the batch's buffer.
    pub fn share(&self, header: HeaderView<'_>) -> Option<Bytes> {
        header.value.map(|value| self.raw.slice_ref(value))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = HeaderView<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The key: UTF-8 by the format's rule, which nobody but the consumer checks, so a broken
    /// producer's may be anything.
    pub key: &'a [u8],
    /// The value; may be null.
    pub value: Option<&'a [u8]>,
}

impl<'a> HeaderView<'a> {
    /// The key as text; what is not UTF-8 in it is replaced, as Kafka's Java client does.
    pub fn key_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }
}

/// The headers of one record. They were checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderIter<'a> {
    raw: &'a [u8],
    left: u32,
}

#[expect(
    clippy::copy_iterator,
    reason = "a record's view is Copy, its place among the headers with it"
)]
impl<'a> Iterator for HeaderIter<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<HeaderView<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_header(&mut self.raw)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}
impl FusedIterator for HeaderIter<'_> {}

/// A batch's records in order. Ends after its record count, or after the first error; bytes past
/// the last record are an error.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    cursor: Cursor,
    rest: &'a [u8],
}

impl<'a> RecordIter<'a> {
    pub(crate) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(header),
            rest: payload,
        }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.advance(&mut self.rest)
    }
}

impl FusedIterator for RecordIter<'_> {}

/// The same, owned.
#[derive(Debug, Clone)]
pub struct IntoRecords {
    cursor: Cursor,
    position: usize,
    payload: Bytes,
}

impl Iterator for IntoRecords {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = &self.payload[self.position..];
        let view = self.cursor.advance(&mut rest)?;
        self.position = self.payload.len() - rest.len();
        let share = |slice: &[u8]| self.payload.slice_ref(slice);
        Some(view.map(|view| Record {
            offset: view.offset,
            timestamp_ms: view.timestamp_ms,
            key: view.key.map(share),
            value: view.value.map(share),
            headers: Headers {
                raw: share(view.headers.raw),
                count: view.headers.left,
            },
        }))
    }
}

impl FusedIterator for IntoRecords {}

/// Where in its batch a reader stands: the one reader of records there is, whatever their bytes
/// come out of.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    base_offset: Offset,
    last_offset_delta: u32,
    first_timestamp_ms: i64,
    /// The timestamp of every record, where the broker set it.
    append_time_ms: Option<i64>,
    record_count: u32,
    index: u32,
    next_delta: u32,
    done: bool,
}

impl Cursor {
    pub(crate) fn new(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            first_timestamp_ms: header.first_timestamp_ms,
            append_time_ms: header
                .attributes
                .is_log_append_time()
                .then_some(header.max_timestamp_ms),
            record_count: header.record_count,
            index: 0,
            next_delta: 0,
            done: false,
        }
    }

    /// How many records were read.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Whether every record that the batch claims was read.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.index == self.record_count
    }

    /// Reads the next record off the front of `rest`, which ends with the payload or behind that
    /// record.
    pub(crate) fn advance<'a>(&mut self, rest: &mut &'a [u8]) -> Option<Result<RecordView<'a>, RecordError>> {
        if self.done {
            return None;
        }
        if self.index == self.record_count {
            self.done = true;
            return (!rest.is_empty()).then_some(Err(RecordError::Trailing { extra: rest.len() }));
        }
        let record = self.read(rest);
        self.index += 1;
        self.done = record.is_err();
        Some(record)
    }

    fn read<'a>(&mut self, rest: &mut &'a [u8]) -> Result<RecordView<'a>, RecordError> {
        let index = self.index;
        let malformed = |field| RecordError::Malformed { index, field };
        let past_end = RecordError::PastEnd {
            index,
            remaining: rest.len(),
        };
        if rest.is_empty() {
            return Err(past_end);
        }
        let length = take_i32(rest).ok_or(malformed("length"))?;
        let length = usize::try_from(length).map_err(|_| malformed("length"))?;
        let mut fields = rest.split_off(..length).ok_or(past_end)?;

        let fields = &mut fields;
        fields.split_off_first().ok_or(malformed("attributes"))?;
        let timestamp_delta = take_i64(fields).ok_or(malformed("timestamp"))?;
        let delta = take_i32(fields).ok_or(malformed("offset"))?;
        let delta = self.check_delta(delta)?;
        let timestamp_ms = match self.append_time_ms {
            Some(timestamp_ms) => timestamp_ms,
            None => self
                .first_timestamp_ms
                .checked_add(timestamp_delta)
                .ok_or(malformed("timestamp"))?,
        };
        let key = take_nullable(fields).ok_or(malformed("key"))?;
        let value = take_nullable(fields).ok_or(malformed("value"))?;
        let headers = take_headers(fields).ok_or(malformed("headers"))?;
        if !fields.is_empty() {
            return Err(RecordError::Oversized {
                index,
                extra: fields.len(),
            });
        }
        Ok(RecordView {
            offset: self.base_offset + u64::from(delta),
            timestamp_ms,
            key,
            value,
            headers,
        })
    }

    fn check_delta(&mut self, delta: i32) -> Result<u32, RecordError> {
        let checked = u32::try_from(delta)
            .ok()
            .filter(|delta| (self.next_delta..=self.last_offset_delta).contains(delta))
            .ok_or(RecordError::OffsetDelta {
                index: self.index,
                delta,
            })?;
        self.next_delta = checked + 1;
        Ok(checked)
    }
}

fn take_headers<'a>(fields: &mut &'a [u8]) -> Option<HeaderIter<'a>> {
    let count = u32::try_from(take_i32(fields)?).ok()?;
    if count as usize > fields.len() / MIN_HEADER_BYTES {
        return None;
    }
    let all = *fields;
    for _ in 0..count {
        take_header(fields)?;
    }
    Some(HeaderIter {
        raw: &all[..all.len() - fields.len()],
        left: count,
    })
}

fn take_header<'a>(fields: &mut &'a [u8]) -> Option<HeaderView<'a>> {
    let key = take_nullable(fields)??;
    let value = take_nullable(fields)?;
    Some(HeaderView { key, value })
}

/// Bytes behind their length, -1 for none; the outer `None` is malformed.
#[expect(clippy::option_option, reason = "malformed is not null")]
fn take_nullable<'a>(fields: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_i32(fields)? {
        -1 => Some(None),
        length => fields.split_off(..usize::try_from(length).ok()?).map(Some),
    }
}
