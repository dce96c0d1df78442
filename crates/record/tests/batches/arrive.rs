//! What is asked of the records of a produced batch: every kind of batch that would stop its
//! readers is refused, and what passes is read.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidelog_record::{
    Batch, BatchBuilder, Checked, Compression, DEFAULT_OPENED_BYTES, HeaderRef, MAX_OPENED_BYTES, NewRecord,
};
use tidelog_types::{ErrorCode, PartitionError};

use crate::craft::{self, Raw, around, codecs, compressed, framed, put, sealed, small, with};

const LIMIT: u32 = 16 << 20;

/// What a broker does with a client's bytes.
fn arrive(bytes: Bytes) -> Result<Batch, PartitionError> {
    let batch = Batch::from_producer(bytes, LIMIT)?;
    batch.check_records()?;
    Ok(batch)
}

/// A batch whose header is right for these records of timestamp 1000.
fn of(records: &[Vec<u8>]) -> Bytes {
    around(Compression::None, &records.concat(), records.len() as u32)
}

/// The record of `fields` behind the usual first three, alone in a batch.
fn alone(fields: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut record = vec![0, 0, 0];
    fields(&mut record);
    of(&[framed(&record)])
}

struct Bad {
    what: &'static str,
    bytes: Bytes,
    code: ErrorCode,
    says: &'static str,
}

fn invalid(what: &'static str, bytes: Bytes, says: &'static str) -> Bad {
    Bad {
        what,
        bytes,
        code: ErrorCode::InvalidRecord,
        says,
    }
}

fn corrupt(what: &'static str, bytes: Bytes, says: &'static str) -> Bad {
    Bad {
        code: ErrorCode::CorruptMessage,
        ..invalid(what, bytes, says)
    }
}

/// Payloads that are no records, or not as many as the header says.
fn bad_payloads() -> Vec<Bad> {
    let good = |delta| Raw::at(delta).bytes();
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 1].to_vec();
    vec![
        invalid("garbage", around(Compression::None, &[0xa5; 300], 3), "record 0"),
        invalid("zeros", around(Compression::None, &[0; 300], 3), "record 0"),
        invalid(
            "text",
            around(Compression::None, b"{\"order\": 17, \"state\": \"placed\"}", 1),
            "record 0",
        ),
        invalid(
            "one record counted as two",
            around(Compression::None, &[good(0), vec![0; 9]].concat(), 2),
            "record 1",
        ),
        invalid(
            "two records counted as three",
            around(Compression::None, &[good(0), good(1)].concat(), 3),
            "record 2",
        ),
        invalid(
            "three records counted as two",
            around(Compression::None, &[good(0), good(1), good(2)].concat(), 2),
            "15 bytes follow",
        ),
        invalid(
            "a byte behind the last record",
            around(Compression::None, &[good(0), vec![0]].concat(), 1),
            "1 bytes follow",
        ),
        invalid(
            "a last record that is cut",
            around(Compression::None, &[good(0), cut(good(1))].concat(), 2),
            "record 1",
        ),
        corrupt(
            "more records than fit",
            around(Compression::None, &good(0), 5),
            "5 records in 15 bytes",
        ),
        corrupt(
            "no payload",
            around(Compression::None, &[], 1),
            "1 records in 0 bytes",
        ),
    ]
}

/// Offsets and timestamps that lie.
fn bad_numbers() -> Vec<Bad> {
    let good = |delta| Raw::at(delta).bytes();
    let timed = |timestamp_delta, delta| {
        Raw {
            timestamp_delta,
            ..Raw::at(delta)
        }
        .bytes()
    };
    let claiming = |max: i64| with(&small(3), craft::MAX_TIMESTAMP, &max.to_be_bytes());
    vec![
        invalid(
            "offsets from 1 on",
            of(&[good(1), good(2)]),
            "record 0 of the batch has offset delta 1",
        ),
        invalid(
            "an offset twice",
            of(&[good(0), good(0)]),
            "record 1 of the batch has offset delta 0",
        ),
        invalid(
            "a gap between offsets",
            of(&[good(0), good(2), good(1)]),
            "record 1 of the batch has offset delta 2",
        ),
        invalid(
            "offsets that fall",
            of(&[good(1), good(0)]),
            "record 0 of the batch has offset delta 1",
        ),
        invalid(
            "a negative offset",
            of(&[good(-1)]),
            "record 0 of the batch has offset delta -1",
        ),
        invalid(
            "an offset of 33 bits",
            of(&[good(1 << 33)]),
            "record 0 of the batch: malformed offset",
        ),
        invalid(
            "a max timestamp too large",
            claiming(i64::MAX),
            "largest timestamp is 9223372036854775807, and that of its records is 1002",
        ),
        invalid(
            "a max timestamp too small",
            claiming(1001),
            "largest timestamp is 1001, and that of its records is 1002",
        ),
        invalid(
            "a first timestamp that moves all",
            with(&small(3), craft::FIRST_TIMESTAMP, &999_i64.to_be_bytes()),
            "is 1002, and that of its records is 1001",
        ),
        invalid(
            "no timestamp in the header, but in the records",
            with(&with_none(), craft::FIRST_TIMESTAMP, &[0xff; 16]),
            "is -1, and that of its records is 4",
        ),
        invalid(
            "a record before 1970",
            of(&[good(0), timed(-2000, 1)]),
            "record 1 of the batch has timestamp -1000",
        ),
        invalid(
            "a timestamp past the last one",
            of(&[good(0), timed(i64::MAX, 1)]),
            "record 1 of the batch: malformed timestamp",
        ),
    ]
}

/// Two records, five milliseconds apart.
fn with_none() -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for timestamp_ms in [0, 5] {
        builder.append(NewRecord::new(timestamp_ms, None, None)).unwrap();
    }
    builder.build(None).unwrap()
}

/// Lengths and counts inside a record that lie.
fn bad_fields() -> Vec<Bad> {
    let header = |count, bytes: &[u8]| {
        of(&[Raw {
            headers: (count, bytes),
            ..Raw::at(0)
        }
        .bytes()])
    };
    let field = |lengths: &[i64]| alone(|out| lengths.iter().for_each(|length| put(out, *length)));
    let raw = |bytes: &[u8]| around(Compression::None, bytes, 1);
    let at_length = "record 0 of the batch: malformed length";
    vec![
        invalid("a record of no fields", raw(&[0; 7]), "malformed attributes"),
        invalid("a negative length", raw(&[0x01, 0, 0, 0, 0, 0, 0]), at_length),
        invalid("a length that does not end", raw(&[0xff; 20]), at_length),
        invalid(
            "a length of six bytes",
            raw(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0]),
            at_length,
        ),
        invalid(
            "a length past the payload",
            raw(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
            "ends past its payload",
        ),
        invalid(
            "a record longer than its fields",
            alone(|out| out.extend([0x01, 0x01, 0, 0])),
            "1 bytes too many",
        ),
        invalid("a key of length -2", field(&[-2, -1, 0]), "malformed key"),
        invalid("a key past the record", field(&[9, -1, 0]), "malformed key"),
        invalid("a value of length -2", field(&[-1, -2, 0]), "malformed value"),
        invalid(
            "a value past the record",
            field(&[-1, 1 << 30, 0]),
            "malformed value",
        ),
        invalid(
            "no header count",
            alone(|out| out.extend([2, b'k', 2, b'v'])),
            "malformed headers",
        ),
        invalid("a negative header count", header(-1, b""), "malformed headers"),
        invalid(
            "more headers than there are",
            header(2, &[2, b'k', 1]),
            "malformed headers",
        ),
        invalid(
            "fewer headers than there are",
            header(1, &[2, b'k', 1, 2, b'k', 1]),
            "3 bytes too many",
        ),
        invalid("a header without a key", header(1, &[1, 1]), "malformed headers"),
        invalid(
            "a header's key past the record",
            header(1, &[8, b'k', 1]),
            "malformed headers",
        ),
        invalid(
            "a header's value past the record",
            header(1, &[2, b'k', 8]),
            "malformed headers",
        ),
        invalid(
            "a header's value of length -2",
            header(1, &[2, b'k', 3]),
            "malformed headers",
        ),
    ]
}

/// The same under compression, and compression that is none.
fn bad_compression() -> Vec<Bad> {
    let mut all = Vec::new();
    let good = small(3).view().payload().to_vec();
    for codec in codecs() {
        let packed = |payload: &[u8], count| around(codec, &compressed(codec, payload), count);
        let whole = compressed(codec, &good);
        let name = match codec {
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            _ => "zstd",
        };
        all.extend([
            invalid("plain bytes under a codec's name", around(codec, &good, 3), name),
            invalid(
                "garbage under a codec's name",
                around(codec, &[0xa5; 300], 3),
                name,
            ),
            invalid("zeros under a codec's name", around(codec, &[0; 300], 3), ""),
            invalid(
                "compressed bytes named plain",
                around(Compression::None, &whole, 3),
                "record",
            ),
            invalid(
                "a stream that is cut",
                around(codec, &whole[..whole.len() - 1], 3),
                "",
            ),
            invalid(
                "bytes behind a stream",
                around(codec, &[&whole[..], &[7; 9]].concat(), 3),
                "",
            ),
            invalid("compressed garbage", packed(&[0xa5; 300], 3), "record 0"),
            invalid("compressed zeros", packed(&[0; 300], 3), "record 0"),
            invalid("fewer records than counted", packed(&good, 4), "record 3"),
            invalid("more records than counted", packed(&good, 2), "bytes follow"),
            invalid("nothing compressed", packed(&[], 1), "record 0"),
            invalid(
                "offsets that fall",
                packed(&[Raw::at(1).bytes(), Raw::at(0).bytes()].concat(), 2),
                "offset delta 1",
            ),
            invalid(
                "a timestamp that lies",
                packed(
                    &Raw {
                        timestamp_delta: 1,
                        ..Raw::at(0)
                    }
                    .bytes(),
                    1,
                ),
                "is 1000, and that of its records is 1001",
            ),
        ]);
        for other in codecs().filter(|other| *other != codec) {
            all.push(invalid(
                "another codec's bytes",
                around(other, &whole, 3),
                other.name(),
            ));
        }
    }
    all
}

#[test]
fn every_kind_of_bad_batch_is_refused_with_its_reason() {
    let all: Vec<Bad> = [bad_payloads(), bad_numbers(), bad_fields(), bad_compression()]
        .into_iter()
        .flatten()
        .collect();
    let mut wrong = Vec::new();
    for bad in &all {
        let what = format!("{} (compression {})", bad.what, bad.bytes[craft::ATTRIBUTES + 1]);
        match arrive(bad.bytes.clone()) {
            Ok(_) => wrong.push(format!("{what} was taken")),
            Err(error) if error.code == bad.code && error.message.contains(bad.says) => {}
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(all.len() > 50);
}

/// The table above is made with these helpers: they must make good batches as well, or it proves
/// nothing.
#[test]
fn what_is_made_by_the_same_hand_without_the_fault_is_taken() {
    let timed = Raw {
        timestamp_delta: -1001,
        ..Raw::at(1)
    };
    let odd = Raw {
        attributes: 0xff,
        key: None,
        value: None,
        headers: (2, &[4, 0xff, 0xfe, 1, 0, 2, b'v']),
        ..Raw::at(0)
    };
    // As Kafka does: no UTF-8 is asked of header keys, nothing of a record's attributes, and no
    // timestamp is fine.
    arrive(of(&[odd.bytes(), timed.bytes()])).unwrap();
    arrive(alone(|out| out.extend([0x01, 0x01, 0]))).unwrap();
    let good = small(3).view().payload().to_vec();
    for codec in codecs() {
        let bytes = around(codec, &compressed(codec, &good), 3);
        let error = arrive(bytes.clone()).unwrap_err();
        assert!(
            error.message.contains("is 1000, and that of its records is 1002"),
            "{codec}: {error}"
        );
        let batch = Batch::framed(bytes).unwrap();
        arrive(with(&batch, craft::MAX_TIMESTAMP, &1002_i64.to_be_bytes())).unwrap();
    }
}

#[test]
fn a_bomb_is_refused_and_what_every_reader_opens_is_not() {
    for codec in codecs() {
        let bomb = |value_bytes| {
            let mut builder = BatchBuilder::new(codec);
            let value = vec![0; value_bytes];
            builder.append(NewRecord::new(1, None, Some(&value))).unwrap();
            builder.build(None).unwrap().into_bytes()
        };
        let most = DEFAULT_OPENED_BYTES - 20;
        arrive(bomb(most)).unwrap_or_else(|error| panic!("{codec}: {error}"));
        for too_many in [DEFAULT_OPENED_BYTES, MAX_OPENED_BYTES - 100] {
            let error = arrive(bomb(too_many)).unwrap_err();
            assert_eq!(error.code, ErrorCode::MessageTooLarge, "{codec}: {error}");
            assert!(error.message.contains("33554432"), "{codec}: {error}");
        }
    }
}

/// One frame with its end mark is what other implementations read; a decoder that stops early does
/// not tell.
#[cfg(feature = "lz4")]
#[test]
fn an_lz4_frame_without_its_end_or_with_more_behind_it_is_refused() {
    let payload = small(1).view().payload().to_vec();
    let frame = compressed(Compression::Lz4, &payload);
    arrive(around(Compression::Lz4, &frame, 1)).unwrap();
    let without_end = &frame[..frame.len() - 4];
    let two = frame.repeat(2);
    for bad in [without_end, &two, &[&frame[..], &[0]].concat(), &frame[..7]] {
        let error = arrive(around(Compression::Lz4, bad, 1)).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRecord, "{error}");
        assert!(error.message.contains("payload is not lz4"), "{error}");
    }
}

#[derive(Debug, Clone)]
struct Content {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

prop_compose! {
    fn content()(
        timestamp_ms in -1..i64::MAX,
        key in any::<Option<Vec<u8>>>(),
        value in any::<Option<Vec<u8>>>(),
        repeats in 0_usize..40,
        headers in vec((any::<String>(), any::<Option<Vec<u8>>>()), 0..4),
    ) -> Content {
        Content { timestamp_ms, key, value: value.map(|value| value.repeat(repeats)), headers }
    }
}

fn codec() -> impl Strategy<Value = Compression> {
    let built_in = Compression::ALL.into_iter().filter(|codec| codec.is_built_in());
    select(built_in.collect::<Vec<_>>())
}

fn build(codec: Compression, contents: &[Content]) -> Batch {
    let mut builder = BatchBuilder::new(codec);
    for content in contents {
        let headers = content.headers.iter().map(|(key, value)| HeaderRef {
            key,
            value: value.as_deref(),
        });
        let record = NewRecord::new(
            content.timestamp_ms,
            content.key.as_deref(),
            content.value.as_deref(),
        );
        builder.append(record.with_headers(headers)).unwrap();
    }
    builder.build(None).unwrap()
}

/// What passed on arrival is read in full, with the offsets and the largest timestamp that its
/// header promises.
fn is_read_in_full(batch: &Batch) -> Result<(), TestCaseError> {
    let header = batch.header();
    let records = batch
        .open(DEFAULT_OPENED_BYTES)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut max_timestamp_ms = -1;
    let mut count = 0;
    for record in &records {
        let record = record.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(record.offset.0, count);
        prop_assert!(record.timestamp_ms >= -1);
        prop_assert!(record.headers().count() <= records.payload().len());
        max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
        count += 1;
    }
    prop_assert_eq!(count, u64::from(header.record_count));
    prop_assert_eq!(count, u64::from(header.last_offset_delta) + 1);
    prop_assert_eq!(max_timestamp_ms, header.max_timestamp_ms);
    Ok(())
}

/// Every way of walking comes to the same end.
fn agree(batch: &Batch, step_bytes: usize) -> Result<bool, TestCaseError> {
    let at_once = batch.check_records();
    let mut stepped = batch.record_check();
    let in_steps = loop {
        match stepped.as_mut().map(|check| check.step(step_bytes)) {
            Ok(Ok(Checked::Part)) => {}
            Ok(Ok(Checked::All)) => break Ok(()),
            Ok(Err(error)) => break Err(error),
            Err(error) => break Err(error.clone()),
        }
    };
    prop_assert_eq!(&at_once, &in_steps);
    Ok(at_once.is_ok())
}

proptest! {
    #[test]
    fn what_our_builder_makes_is_taken(codec in codec(), contents in vec(content(), 1..20), step in 1_usize..5000) {
        let batch = build(codec, &contents);
        prop_assert!(agree(&batch, step)?, "{:?}", batch.check_records());
        let taken = arrive(batch.into_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        is_read_in_full(&taken)?;
    }

    /// One byte is anything at all, and the checksum fits it: what a broken or hostile producer
    /// sends.
    #[test]
    fn what_passes_on_arrival_is_always_read_in_full(
        codec in codec(),
        contents in vec(content(), 1..6),
        at in any::<Index>(),
        byte in any::<u8>(),
        step in 1_usize..500,
    ) {
        let mut raw = build(codec, &contents).into_bytes().to_vec();
        let at = at.index(raw.len());
        raw[at] = byte;
        if let Ok(batch) = Batch::from_producer(sealed(raw), LIMIT) && agree(&batch, step)? {
            is_read_in_full(&batch)?;
        }
    }

    #[test]
    fn a_payload_of_anything_is_refused_or_read_in_full(
        codec in codec(),
        payload in vec(any::<u8>(), 0..100),
        packed in any::<bool>(),
        count in 1_u32..4,
    ) {
        let payload = if packed { compressed(codec, &payload) } else { payload };
        if let Ok(batch) = arrive(around(codec, &payload, count)) {
            is_read_in_full(&batch)?;
        }
    }
}

/// Every byte of small batches, each of its bits and the ends of its range: no place is left to
/// luck.
#[test]
fn no_single_byte_makes_a_batch_that_is_taken_and_not_read() {
    for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
        let mut builder = BatchBuilder::new(codec);
        for value in [&[b'a'; 40][..], &[b'a'; 30], b""] {
            let headers = [HeaderRef {
                key: "h",
                value: Some(b"aaaaaaaa"),
            }];
            builder
                .append(NewRecord::new(1000, Some(b"aaaa"), Some(value)).with_headers(headers))
                .unwrap();
        }
        let good = builder.build(None).unwrap().into_bytes();
        assert_eq!(Compression::from_number(good[craft::ATTRIBUTES + 1]), Some(codec));
        for at in 0..good.len() {
            let bits = (0..8).map(|bit| good[at] ^ (1 << bit));
            for byte in bits.chain([0, 0x7f, 0xff]) {
                let mut raw = good.to_vec();
                raw[at] = byte;
                if let Ok(batch) = arrive(sealed(raw)) {
                    is_read_in_full(&batch).unwrap_or_else(|error| panic!("{codec} {at} {byte}: {error}"));
                }
            }
        }
    }
}
