//! Plain records in, plain records out: the broker builds and opens batches for programs without a library of ours.

use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_record::{Batch, BatchBuilder, Compression, DEFAULT_OPENED_BYTES, HeaderRef, NewRecord};
use tidelog_types::{ErrorCode, Offset, PartitionError, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

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
            let text = format!(
                "{} records make a batch of more than {max_bytes} bytes (max.message.bytes): send fewer at a time, or raise it",
                plain.records.len()
            );
            return Err(PartitionError::new(ErrorCode::MessageTooLarge, text));
        }
        builder.append(new)?;
    }
    let stamp = plain.producer.as_ref().map(stamp).transpose()?;
    let batch = builder.build(stamp)?;
    // The same checks as for a batch that a client built: a timestamp before 1970 is refused here too.
    Ok(Batch::from_producer(batch.into_bytes(), max_bytes)?)
}

fn stamp(stamp: &v1::ProducerStamp) -> Result<ProducerStamp, PartitionError> {
    let invalid = |what: &str, value: u32| {
        let text =
            format!("producer stamp with {what} {value}, out of its range; ask InitProducer for a stamp");
        PartitionError::new(ErrorCode::InvalidRecord, text)
    };
    let epoch = u16::try_from(stamp.producer_epoch)
        .ok()
        .filter(|epoch| i16::try_from(*epoch).is_ok())
        .ok_or_else(|| invalid("epoch", stamp.producer_epoch))?;
    let base_sequence = i32::try_from(stamp.base_sequence)
        .ok()
        .and_then(Sequence::from_wire)
        .ok_or_else(|| invalid("sequence", stamp.base_sequence))?;
    Ok(ProducerStamp {
        id: ProducerId(stamp.producer_id),
        epoch: ProducerEpoch(epoch),
        base_sequence,
    })
}

/// Records read out of batches.
#[derive(Debug)]
pub(super) struct Opened {
    /// From the offset asked for on.
    pub(super) records: Vec<v1::Record>,
    /// Where to read next.
    pub(super) next: Offset,
}

/// Opens stored batches from an offset on. A batch that cannot be opened ends the answer before it, or is the error if it is the first.
pub(super) fn open(batches: Vec<Bytes>, from: Offset) -> Result<Opened, PartitionError> {
    let mut opened = Opened {
        records: Vec::new(),
        next: from,
    };
    for bytes in batches {
        match open_one(bytes, &mut opened) {
            Ok(()) => {}
            Err(_) if opened.next > from => break,
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

fn open_one(bytes: Bytes, opened: &mut Opened) -> Result<(), PartitionError> {
    let batch = Batch::framed(bytes)?;
    let end = batch.info().end_offset();
    let mut records = Vec::new();
    for record in batch.open(DEFAULT_OPENED_BYTES)? {
        let record = record?;
        if record.offset < opened.next {
            continue;
        }
        let headers = record.headers.iter().map(|header| v1::Header {
            key: header.key_text().into_owned(),
            value: record.headers.share(header),
        });
        records.push(v1::Record {
            headers: headers.collect(),
            timestamp_ms: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
            offset: record.offset.0,
            key: record.key,
            value: record.value,
        });
    }
    opened.records.append(&mut records);
    opened.next = opened.next.max(end);
    Ok(())
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
        let opened = open(vec![batch.into_bytes()], Offset(11)).unwrap();
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
        let stamped = |epoch, sequence| v1::PlainRecords {
            producer: Some(v1::ProducerStamp {
                producer_id: 1,
                producer_epoch: epoch,
                base_sequence: sequence,
            }),
            ..plain(&["a"])
        };
        assert_eq!(
            build(&stamped(70_000, 0), 1000, 0).unwrap_err().code,
            ErrorCode::InvalidRecord
        );
        assert_eq!(
            build(&stamped(0, u32::MAX), 1000, 0).unwrap_err().code,
            ErrorCode::InvalidRecord
        );
        let stamp = build(&stamped(3, 4), 1000, 0).unwrap().info().producer.unwrap();
        assert_eq!(
            (stamp.id, stamp.epoch, stamp.base_sequence.to_wire()),
            (ProducerId(1), ProducerEpoch(3), 4)
        );
    }

    #[test]
    fn a_damaged_batch_ends_the_answer_before_it() {
        let good = build(&plain(&["a"]), 1000, 0)
            .unwrap()
            .assign(Offset(0), LeaderEpoch(0))
            .into_bytes();
        let bad = Bytes::from_static(b"not a batch");
        let opened = open(vec![good, bad.clone()], Offset(0)).unwrap();
        assert_eq!(opened.next, Offset(1));
        assert_eq!(
            open(vec![bad], Offset(0)).unwrap_err().code,
            ErrorCode::CorruptMessage
        );
    }
}
