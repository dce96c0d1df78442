//! What is asked of a produced batch's records before they are stored: that every reader can read
//! all of them.
//!
//! The checksum only proves that bytes are as they were sent. A broker that stores what it cannot
//! read stops every reader of the partition for ever, so it walks the records first, as Kafka's
//! does (`LogValidator`). Kafka's rewrites a batch whose offsets or largest timestamp are wrong;
//! here batches are stored byte for byte, and it is refused.
//!
//! 1. Uncompressed records are walked where they are: nothing is copied or allocated.
//! 2. Compressed ones are opened piece by piece into a window that holds the record that is read
//!    and the piece that came last. All pieces together are at most [`DEFAULT_OPENED_BYTES`],
//!    beyond which no reader opens a batch either.
//! 3. The walk is the iterator's own ([`Cursor`]), so that what passes here is read there.
//! 4. The walk is cut into steps, since a broker has other things to do.
//!
//! Not asked, as Kafka does not: that header keys are UTF-8, and what stands in the attributes of a
//! record.

use bytes::Bytes;

use crate::compress::Opener;
use crate::iter::Cursor;
use crate::validate::NO_TIMESTAMP;
use crate::varint::{MAX_I32_BYTES, take_i32};
use crate::{
    Batch, BatchError, BatchHeader, Compression, DEFAULT_OPENED_BYTES, HEADER_BYTES, ProducedError,
    RecordError, RecordView,
};

/// How far a [`RecordCheck`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a batch whose check is not finished is not checked"]
pub enum Checked {
    /// To the end: the records are good.
    All,
    /// Records are left.
    Part,
}

/// A walk over the records of one produced batch.
pub struct RecordCheck {
    header: BatchHeader,
    cursor: Cursor,
    /// The largest timestamp so far.
    max_timestamp_ms: i64,
    source: Source,
}

enum Source {
    /// Uncompressed, walked up to `at`.
    Plain {
        payload: Bytes,
        at: usize,
    },
    Compressed(Window),
}

/// The bytes of a compressed payload that were opened and not walked yet.
struct Window {
    opener: Opener,
    buffer: Vec<u8>,
    /// In use of the buffer: from here on,
    start: usize,
    end: usize,
    /// Whether nothing more comes.
    ended: bool,
}

impl Batch {
    /// Begins to walk the records of a batch that [`Batch::from_producer`] took.
    pub fn record_check(&self) -> Result<RecordCheck, ProducedError> {
        let header = *self.header();
        let compression = header.attributes.compression().ok_or(BatchError::Compression {
            number: header.attributes.compression_number(),
        })?;
        let payload = self.bytes().slice(HEADER_BYTES..);
        let source = match compression {
            Compression::None => Source::Plain { payload, at: 0 },
            codec => Source::Compressed(Window {
                opener: Opener::new(codec, payload, DEFAULT_OPENED_BYTES)?,
                buffer: Vec::new(),
                start: 0,
                end: 0,
                ended: false,
            }),
        };
        Ok(RecordCheck {
            header,
            cursor: Cursor::new(&header),
            max_timestamp_ms: NO_TIMESTAMP,
            source,
        })
    }

    /// Walks all records at once. It may take long: tens of milliseconds for what opens into
    /// [`DEFAULT_OPENED_BYTES`].
    pub fn check_records(&self) -> Result<(), ProducedError> {
        let mut check = self.record_check()?;
        while check.step(usize::MAX)? == Checked::Part {}
        Ok(())
    }
}

impl RecordCheck {
    /// Walks on over about `budget_bytes` of opened records, at least one of them or one piece.
    pub fn step(&mut self, budget_bytes: usize) -> Result<Checked, ProducedError> {
        let mut walk = Walk {
            cursor: &mut self.cursor,
            max_timestamp_ms: &mut self.max_timestamp_ms,
        };
        let done = match &mut self.source {
            Source::Plain { payload, at } => {
                let mut rest = &payload[*at..];
                let enough = rest.len().saturating_sub(budget_bytes);
                let mut done = false;
                while !done {
                    done = walk.next(&mut rest)?;
                    if rest.len() <= enough && !rest.is_empty() {
                        break;
                    }
                }
                *at = payload.len() - rest.len();
                done
            }
            Source::Compressed(window) => {
                let enough = window.opener.opened_bytes().saturating_add(budget_bytes);
                let mut done = false;
                while !done && window.opener.opened_bytes() <= enough {
                    done = window.walk_piece(&mut walk)?;
                }
                done
            }
        };
        if !done {
            return Ok(Checked::Part);
        }
        self.check_max_timestamp()?;
        Ok(Checked::All)
    }

    fn check_max_timestamp(&self) -> Result<(), ProducedError> {
        let (claimed_ms, actual_ms) = (self.header.max_timestamp_ms, self.max_timestamp_ms);
        if claimed_ms == actual_ms {
            Ok(())
        } else {
            Err(ProducedError::MaxTimestamp {
                claimed_ms,
                actual_ms,
            })
        }
    }
}

/// The reader, and what is noted of what it reads.
struct Walk<'a> {
    cursor: &'a mut Cursor,
    max_timestamp_ms: &'a mut i64,
}

impl Walk<'_> {
    /// Reads a record; `true` if there was none left and nothing follows.
    fn next(&mut self, rest: &mut &[u8]) -> Result<bool, RecordError> {
        match self.cursor.advance(rest) {
            Some(record) => self.note(&record?).map(|()| false),
            None => Ok(true),
        }
    }

    fn note(&mut self, record: &RecordView<'_>) -> Result<(), RecordError> {
        let (index, timestamp_ms) = (self.cursor.index() - 1, record.timestamp_ms);
        // A producer's batch has no gaps and begins at 0: a reader allows for the gaps that
        // compaction leaves.
        if record.offset.0 != u64::from(index) {
            let delta = record.offset.0 as i32;
            return Err(RecordError::OffsetDelta { index, delta });
        }
        if timestamp_ms < NO_TIMESTAMP {
            return Err(RecordError::Timestamp { index, timestamp_ms });
        }
        *self.max_timestamp_ms = timestamp_ms.max(*self.max_timestamp_ms);
        Ok(())
    }
}

impl Window {
    /// Walks the records that are there in full, then opens a piece; `true` if all were walked and
    /// nothing follows them.
    fn walk_piece(&mut self, walk: &mut Walk<'_>) -> Result<bool, ProducedError> {
        let mut rest = &self.buffer[self.start..self.end];
        loop {
            let is_readable = if walk.cursor.is_at_end() {
                !rest.is_empty()
            } else {
                is_whole(rest)
            };
            if !is_readable && !self.ended {
                break;
            }
            if walk.next(&mut rest)? {
                return Ok(true);
            }
        }
        self.start = self.end - rest.len();
        self.open_piece()?;
        Ok(false)
    }

    fn open_piece(&mut self) -> Result<(), ProducedError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = self.opener.read(&mut self.buffer, self.end)?;
        self.end += read;
        self.ended = read == 0;
        Ok(())
    }
}

/// Whether `rest` begins with a whole record, or with one that no more bytes make readable.
fn is_whole(rest: &[u8]) -> bool {
    let mut fields = rest;
    match take_i32(&mut fields) {
        Some(length) => usize::try_from(length).map_or(true, |length| length <= fields.len()),
        None => rest.len() >= MAX_I32_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, NewRecord};

    fn compressed(codec: Compression, values: &[usize]) -> Batch {
        let mut builder = BatchBuilder::new(codec);
        for (index, size) in values.iter().enumerate() {
            let value: Vec<u8> = (0..*size).map(|at| (at / 50 + index) as u8).collect();
            builder.append(NewRecord::new(7, None, Some(&value))).unwrap();
        }
        builder.build(None).unwrap()
    }

    fn codecs() -> impl Iterator<Item = Compression> {
        Compression::ALL
            .into_iter()
            .filter(|codec| codec.is_built_in() && *codec != Compression::None)
    }

    /// Walks in small steps; answers how many there were, and the most that the window held.
    fn window_of(batch: &Batch) -> (usize, usize) {
        let mut check = batch.record_check().unwrap();
        let (mut steps, mut most) = (1, 0);
        loop {
            let checked = check.step(100_000).unwrap();
            if let Source::Compressed(window) = &check.source {
                most = most.max(window.buffer.len());
            }
            if checked == Checked::All {
                return (steps, most);
            }
            steps += 1;
        }
    }

    #[test]
    fn many_records_are_walked_in_a_small_window() {
        for codec in codecs() {
            let (steps, most) = window_of(&compressed(codec, &vec![1000; 20_000]));
            assert!(steps > 100, "{codec}: {steps} steps");
            assert!(most <= 256 * 1024, "{codec}: {most} bytes for 20 MB of records");
        }
    }

    #[test]
    fn a_large_record_is_held_once_and_little_beside_it() {
        const LARGE: usize = 5_000_000;
        for codec in codecs() {
            let (_, most) = window_of(&compressed(codec, &[1000, LARGE, 1000]));
            assert!(most < 2 * LARGE + 256 * 1024, "{codec}: {most} bytes");
        }
    }

    #[test]
    fn a_walk_in_steps_of_one_byte_comes_to_the_same_end() {
        for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
            let batch = compressed(codec, &[0, 1, 300, 100_000, 2]);
            let mut check = batch.record_check().unwrap();
            let mut steps = 1;
            while check.step(1).unwrap() == Checked::Part {
                steps += 1;
                assert!(steps < 1000, "{codec} does not get on");
            }
            assert!(steps > 1, "{codec} took one step");
        }
    }
}
