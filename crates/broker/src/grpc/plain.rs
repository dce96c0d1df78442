//! Plain records in, plain records out: the broker builds and opens batches for programs without a
//! library of ours.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

use bytes::Bytes;
use prost::Message as _;
use tidelog_proto::v1;
use tidelog_record::{
    Batch, BatchBuilder, Compression, CompressionError, DEFAULT_OPENED_BYTES, HeaderRef, NewRecord,
    OpenError, Record,
};
use tidelog_types::{ErrorCode, Offset, PartitionError, ProducerStamp};

/// One batch of plain records, of at most `max_bytes`. Records without a timestamp get `now_ms`.
pub(super) fn build(plain: &v1::PlainRecords, max_bytes: u32, now_ms: i64) -> Result<Batch, PartitionError> {
    if plain.records.is_empty() {
        let text = "a produce of no records: send at least one";
        return Err(PartitionError::new(ErrorCode::InvalidRecord, text));
    }
    let mut builder = BatchBuilder::new(Compression::None);
    for record in &plain.records {
        let new = NewRecord::new(
            record.timestamp_ms.unwrap_or(now_ms),
            record.key.as_deref(),
            record.value.as_deref(),
        )
        .with_headers(record.headers.iter().map(|header| HeaderRef {
            key: &header.key,
            value: header.value.as_deref(),
        }));
        if !builder.would_fit(&new, max_bytes as usize) {
            let text = match plain.records.len() {
                1 => format!(
                    "the record makes a batch of more than {max_bytes} bytes (max.message.bytes): raise it, or send a smaller one"
                ),
                count => format!(
                    "{count} records make a batch of more than {max_bytes} bytes (max.message.bytes): send fewer at a time, or raise it"
                ),
            };
            return Err(PartitionError::new(ErrorCode::MessageTooLarge, text));
        }
        builder.append(new)?;
    }
    let stamp = plain.producer.as_ref().map(stamp).transpose()?;
    let batch = builder.build(stamp)?;
    // The same checks as for a batch that a client built: a timestamp before 1970 is refused here
    // too.
    Ok(Batch::from_producer(batch.into_bytes(), max_bytes)?)
}

fn stamp(stamp: &v1::ProducerStamp) -> Result<ProducerStamp, PartitionError> {
    let fields = || {
        let id = i64::try_from(stamp.producer_id).ok()?;
        let epoch = i16::try_from(stamp.producer_epoch).ok()?;
        let base_sequence = i32::try_from(stamp.base_sequence).ok()?;
        ProducerStamp::from_wire(id, epoch, base_sequence)
    };
    fields().ok_or_else(|| {
        let text = format!(
            "producer stamp of id {}, epoch {}, sequence {}, out of their ranges, which end at {}, {} and {}: ask InitProducer for \
             id and epoch",
            stamp.producer_id,
            stamp.producer_epoch,
            stamp.base_sequence,
            i64::MAX,
            i16::MAX,
            i32::MAX
        );
        PartitionError::new(ErrorCode::InvalidRecord, text)
    })
}

/// Records read out of batches.
#[derive(Debug)]
pub(super) struct Opened {
    /// From the offset asked for on.
    pub(super) records: Vec<v1::Record>,
    /// Where to read next.
    pub(super) next: Offset,
    /// What the records take in a message, bytes.
    pub(super) size_bytes: usize,
}

/// Opens stored batches from an offset on, as many as fit into `max_bytes` as records. If
/// `at_least_one`, of the first one as many records as fit and at least one, and `next` is the
/// offset within it to go on from.
///
/// A batch that cannot be opened ends the answer before it, or is the error if it is the first. May
/// take long: not for a tokio thread.
pub(super) fn open(
    batches: Vec<Bytes>,
    from: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Opened, PartitionError> {
    let mut opened = Opened {
        records: Vec::new(),
        next: from,
        size_bytes: 0,
    };
    for bytes in batches {
        let room = Room {
            bytes: max_bytes.saturating_sub(opened.size_bytes),
            may_cut: at_least_one && opened.records.is_empty(),
        };
        match open_one(bytes, &room, &mut opened) {
            Ok(Fit::Whole) => {}
            Ok(Fit::Cut | Fit::Not) => break,
            Err(_) if opened.next > from => break,
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

/// Room for a batch's records.
struct Room {
    bytes: usize,
    /// Whether a part of the batch is better than nothing.
    may_cut: bool,
}

enum Fit {
    Whole,
    Cut,
    Not,
}

/// What a record takes in a message besides its fields: tag and length.
const RECORD_FRAME_BYTES: usize = 6;

fn open_one(bytes: Bytes, room: &Room, opened: &mut Opened) -> Result<Fit, PartitionError> {
    let batch = Batch::framed(bytes)?;
    let limit = if room.may_cut {
        DEFAULT_OPENED_BYTES
    } else {
        room.bytes.min(DEFAULT_OPENED_BYTES)
    };
    let payload = match batch.open(limit) {
        Ok(payload) => payload,
        Err(OpenError::Compression(CompressionError::TooLarge { .. })) if limit < DEFAULT_OPENED_BYTES => {
            return Ok(Fit::Not);
        }
        Err(error) => {
            let text = format!(
                "the batch at offset {} is not opened: {error}",
                batch.info().base_offset
            );
            return Err(PartitionError::new(error.code(), text));
        }
    };
    let (mut records, mut size_bytes, mut next) = (Vec::new(), 0, opened.next);
    for record in payload {
        let record = record?;
        if record.offset < opened.next {
            continue;
        }
        let record = plain_record(record);
        let record_bytes = record.encoded_len() + RECORD_FRAME_BYTES;
        let is_full = size_bytes + record_bytes > room.bytes;
        if is_full && !room.may_cut {
            return Ok(Fit::Not);
        }
        if is_full && !records.is_empty() {
            opened.add(records, next, size_bytes);
            return Ok(Fit::Cut);
        }
        size_bytes += record_bytes;
        next = Offset(record.offset).next();
        records.push(record);
    }
    opened.add(records, batch.info().end_offset(), size_bytes);
    Ok(Fit::Whole)
}

impl Opened {
    fn add(&mut self, mut records: Vec<v1::Record>, next: Offset, size_bytes: usize) {
        self.records.append(&mut records);
        self.next = self.next.max(next);
        self.size_bytes += size_bytes;
    }
}

fn plain_record(record: Record) -> v1::Record {
    let headers = record.headers.iter().map(|header| v1::Header {
        key: header.key_text().into_owned(),
        value: record.headers.share(header),
    });
    v1::Record {
        headers: headers.collect(),
        timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
        offset: record.offset.0,
        key: record.key,
        value: record.value,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::LeaderEpoch;

    use super::*;

    fn record(value: &str) -> v1::Record {
        v1::Record {
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![v1::Header {
                key: "h".into(),
                value: None,
            }],
            timestamp_ms: None,
            offset: 99,
        }
    }

    fn plain(values: &[&str]) -> v1::PlainRecords {
        v1::PlainRecords {
            records: values.iter().map(|value| record(value)).collect(),
            producer: None,
        }
    }

    #[test]
    fn what_was_built_opens_again_from_the_offset_asked_for() {
        let batch = build(&plain(&["a", "b", "c"]), 1000, 7)
            .unwrap()
            .assign(Offset(10), LeaderEpoch(1));
        let opened = open(vec![batch.into_bytes()], Offset(11), 1000, true).unwrap();
        let seen: Vec<_> = opened
            .records
            .iter()
            .map(|record| (record.offset, record.value.as_deref()))
            .collect();
        assert_eq!(seen, [(11, Some(&b"b"[..])), (12, Some(&b"c"[..]))]);
        assert_eq!(opened.records[0].timestamp_ms, Some(7));
        assert_eq!(
            opened.records[0].headers,
            [v1::Header {
                key: "h".into(),
                value: None
            }]
        );
        assert_eq!(opened.next, Offset(13));
    }

    #[test]
    fn too_many_records_for_one_batch_are_refused_as_such() {
        let error = build(&plain(&["x"; 100]), 200, 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::MessageTooLarge);
        let error = build(&plain(&[]), 200, 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRecord);
    }

    #[test]
    fn a_stamp_out_of_range_is_refused() {
        let stamped = |producer_id, producer_epoch, base_sequence| v1::PlainRecords {
            producer: Some(v1::ProducerStamp {
                producer_id,
                producer_epoch,
                base_sequence,
            }),
            ..plain(&["a"])
        };
        for (id, epoch, sequence) in [
            (u64::MAX, 0, 0),
            (1 << 63, 0, 0),
            (1, 70_000, 0),
            (1, 32_768, 0),
            (1, 0, u32::MAX),
            (1, 0, 1 << 31),
        ] {
            let error = build(&stamped(id, epoch, sequence), 1000, 0).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRecord, "{error}");
            assert!(error.message.contains(&id.to_string()), "{error}");
        }
        for (id, epoch, sequence) in [(1, 3, 4), (i64::MAX as u64, 32_767, (1 << 31) - 1)] {
            let batch = build(&stamped(id, epoch, sequence), 1000, 0).unwrap();
            let stamp = batch.info().producer.unwrap();
            assert_eq!(
                (
                    stamp.id.0,
                    u32::from(stamp.epoch.0),
                    stamp.base_sequence.to_wire() as u32
                ),
                (id, epoch, sequence)
            );
        }
    }

    #[test]
    fn a_damaged_batch_ends_the_answer_before_it() {
        let good = build(&plain(&["a"]), 1000, 0)
            .unwrap()
            .assign(Offset(0), LeaderEpoch(0))
            .into_bytes();
        let bad = Bytes::from_static(b"not a batch");
        let opened = open(vec![good, bad.clone()], Offset(0), 1000, true).unwrap();
        assert_eq!(opened.next, Offset(1));
        assert_eq!(
            open(vec![bad], Offset(0), 1000, true).unwrap_err().code,
            ErrorCode::CorruptMessage
        );
    }

    /// A batch of records of zeros, which compress to next to nothing.
    fn compressed(base: u64, value_bytes: usize, count: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for _ in 0..count {
            builder
                .append(NewRecord::new(
                    1_700_000_000_000,
                    None,
                    Some(&vec![0; value_bytes]),
                ))
                .unwrap();
        }
        let batch = builder.build(None).unwrap();
        batch.assign(Offset(base), LeaderEpoch(0)).into_bytes()
    }

    #[test]
    fn opening_stops_where_the_records_would_take_more_than_was_asked_for() {
        const MIB: usize = 1024 * 1024;
        let batches: Vec<_> = (0..30).map(|base| compressed(base, MIB, 1)).collect();
        assert!(batches.iter().map(Bytes::len).sum::<usize>() < MIB);
        let opened = open(batches.clone(), Offset(0), 3 * MIB + MIB / 2, true).unwrap();
        assert_eq!((opened.records.len(), opened.next), (3, Offset(3)));
        let opened = open(batches.clone(), opened.next, 1, true).unwrap();
        assert_eq!((opened.records.len(), opened.next), (1, Offset(4)));
        // Of a partition after others, nothing if it does not fit.
        let opened = open(batches, Offset(0), 1, false).unwrap();
        assert_eq!((opened.records.len(), opened.next), (0, Offset(0)));
    }

    #[test]
    fn a_batch_that_becomes_too_large_is_cut_or_named() {
        const MAX_BYTES: usize = 1_000_000;
        // Small records take more in a message than in a batch.
        let many = compressed(5, 0, 3_000_000);
        let opened = open(vec![many.clone()], Offset(5), MAX_BYTES, true).unwrap();
        assert!((MAX_BYTES - 100..=MAX_BYTES).contains(&opened.size_bytes));
        assert_eq!(opened.records.len() as u64, opened.next.0 - 5);
        let rest = open(vec![many.clone()], opened.next, 1, true).unwrap();
        assert_eq!((rest.records.len(), rest.records[0].offset), (1, opened.next.0));
        // Of a partition after others, nothing.
        assert_eq!(
            open(vec![many], Offset(5), MAX_BYTES, false).unwrap().next,
            Offset(5)
        );

        let error = open(vec![compressed(7, 40 * 1024 * 1024, 1)], Offset(7), 1, true).unwrap_err();
        assert_eq!(error.code, ErrorCode::MessageTooLarge);
        assert!(error.message.contains("offset 7"), "{error}");
    }
}
