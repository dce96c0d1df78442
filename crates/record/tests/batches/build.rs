//! Building, patching, opening.

use tidelog_record::{
    Attributes, Batch, BatchBuilder, BuildError, Compression, CompressionError, DEFAULT_OPENED_BYTES,
    EmptiedRange, HEADER_BYTES, HeaderRef, MAX_OPENED_BYTES, NewRecord, OpenError, RecordError,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

use crate::craft::{self, around, small, with};

const STAMP: ProducerStamp = ProducerStamp {
    id: ProducerId(77),
    epoch: ProducerEpoch(2),
    base_sequence: Sequence::ZERO,
};

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| codec.is_built_in())
}

#[test]
fn sizes_are_known_before_and_after_an_append() {
    let headers = [
        HeaderRef {
            key: "k",
            value: Some(b"v"),
        },
        HeaderRef {
            key: "n",
            value: None,
        },
    ];
    let mut builder = BatchBuilder::with_capacity(Compression::None, 16 * 1024);
    assert_eq!(builder.size_estimate(), HEADER_BYTES);
    for index in 0..300 {
        let value = vec![7; index];
        let record = NewRecord::new(index as i64 * 100, Some(b"key"), Some(&value)).with_headers(headers);
        let before = builder.size_estimate();
        let mut after = builder.clone();
        assert_eq!(after.append(record), Ok(index as u32));
        let grown = after.size_estimate();
        assert!(grown - before <= record.max_size());
        assert!(builder.is_empty() || !builder.would_fit(&record, grown - 1));
        assert!(builder.would_fit(&record, grown));
        builder = after;
    }
    let estimate = builder.size_estimate();
    assert_eq!(builder.build(None).unwrap().bytes().len(), estimate);
}

#[test]
fn an_empty_batch_takes_any_record_but_is_never_built() {
    let builder = BatchBuilder::new(Compression::None);
    assert!(builder.would_fit(&NewRecord::new(0, None, Some(&[0; 100])), 10));
    assert_eq!(builder.build(None), Err(BuildError::Empty));
}

#[test]
fn a_refused_record_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NewRecord::new(5, None, Some(b"kept"))).unwrap();
    for timestamp_ms in [-2, i64::MIN, i64::MAX] {
        assert_eq!(
            builder.append(NewRecord::new(timestamp_ms, None, None)),
            Err(BuildError::Timestamp { timestamp_ms })
        );
    }
    let huge = vec![0; MAX_OPENED_BYTES];
    let error = builder.append(NewRecord::new(6, None, Some(&huge))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert!(!builder.would_fit(&NewRecord::new(6, None, Some(&huge)), usize::MAX));
    let batch = builder.build(None).unwrap();
    assert_eq!(batch.header().record_count, 1);
    assert_eq!(batch.info().max_timestamp_ms, 5);
    batch.check_keys(DEFAULT_OPENED_BYTES).unwrap_err();
}

#[test]
fn a_stamp_is_the_same_early_or_late() {
    let build = || {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(NewRecord::new(5, Some(b"k"), Some(b"v"))).unwrap();
        builder
    };
    let early = build().build(Some(STAMP)).unwrap();
    let late = build().build(None).unwrap().stamped(Some(STAMP));
    assert_eq!(early, late);
    assert_eq!(late.info().producer, Some(STAMP));
    late.view().check_crc().unwrap();
    assert_eq!(late.stamped(None), build().build(None).unwrap());
}

#[test]
fn assigning_keeps_the_checksum_and_writes_in_place_when_it_may() {
    let batch = small(3);
    let (payload, address) = (batch.view().payload().to_vec(), batch.bytes().as_ptr());
    let alone = batch.assign(Offset(41), LeaderEpoch(9));
    assert_eq!(alone.bytes().as_ptr(), address);
    let shared = alone.clone().assign(Offset(50), LeaderEpoch(10));
    assert_ne!(shared.bytes().as_ptr(), address);
    // The other handle's bytes did not change under it.
    let info = Batch::from_log(alone.into_bytes()).unwrap().info();
    assert_eq!(
        (info.base_offset, info.last_offset, info.leader_epoch),
        (Offset(41), Offset(43), LeaderEpoch(9))
    );
    let info = Batch::from_log(shared.bytes().clone()).unwrap().info();
    assert_eq!(
        (info.base_offset, info.last_offset, info.leader_epoch),
        (Offset(50), Offset(52), LeaderEpoch(10))
    );
    assert_eq!(shared.view().payload(), payload);
    let offsets: Vec<_> = shared
        .view()
        .records()
        .unwrap()
        .map(|record| record.unwrap().offset.0)
        .collect();
    assert_eq!(offsets, [50, 51, 52]);
}

#[test]
fn an_emptied_range_keeps_what_is_known_of_it() {
    let stored = small(4).stamped(Some(STAMP)).assign(Offset(100), LeaderEpoch(3));
    let emptied = Batch::header_only(EmptiedRange::from(stored.info())).unwrap();
    assert_eq!(emptied.bytes().len(), HEADER_BYTES);
    let read = Batch::from_log(emptied.into_bytes()).unwrap();
    let size_bytes = HEADER_BYTES as u32;
    assert_eq!(
        read.info(),
        tidelog_types::BatchInfo {
            size_bytes,
            ..stored.info()
        }
    );
    assert_eq!(read.open(0).unwrap().iter().count(), 0);
    assert!(Batch::from_producer(read.into_bytes(), 1 << 20).is_err());
}

#[test]
fn an_emptied_range_spans_what_its_field_can_hold() {
    let range = |first, last| {
        Batch::header_only(EmptiedRange {
            base_offset: Offset(first),
            last_offset: Offset(last),
            leader_epoch: LeaderEpoch(0),
            max_timestamp_ms: -1,
            producer: None,
        })
    };
    assert_eq!(
        range(5, 5 + i32::MAX as u64).unwrap().info().offset_count(),
        1 << 31
    );
    for (first, last) in [
        (5, 6 + i32::MAX as u64),
        (5, 4),
        (0, u64::MAX),
        (Offset::MAX.0, Offset::MAX.0),
    ] {
        assert!(matches!(range(first, last), Err(BuildError::Range { .. })));
    }
}

#[test]
fn owned_records_share_the_batchs_buffer() {
    let batch = small(2).assign(Offset(0), LeaderEpoch(0));
    let whole = batch.bytes().as_ptr_range();
    for record in batch.open(0).unwrap() {
        let value = record.unwrap().value.unwrap();
        assert!(whole.contains(&value.as_ptr()));
    }
}

#[test]
fn a_header_key_may_stand_twice_and_the_last_one_counts() {
    let headers = [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, value)| HeaderRef {
        key,
        value: Some(value.as_bytes()),
    });
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .append(NewRecord::new(0, None, None).with_headers(headers))
        .unwrap();
    let record = builder
        .build(None)
        .unwrap()
        .open(0)
        .unwrap()
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(record.headers.len(), 3);
    assert_eq!(record.headers.last("a"), Some(Some(&b"3"[..])));
    assert_eq!(record.headers.last("c"), None);
}

#[test]
fn the_brokers_timestamp_holds_for_every_record() {
    let batch = small(3);
    let bytes = with(&batch, craft::ATTRIBUTES, &(1_u16 << 3).to_be_bytes());
    let batch = Batch::framed(bytes).unwrap();
    assert!(Attributes(1 << 3).is_log_append_time());
    assert!(
        batch
            .view()
            .records()
            .unwrap()
            .all(|record| record.unwrap().timestamp_ms == 1002)
    );
}

#[test]
fn every_codec_gives_back_what_it_was_given() {
    for codec in codecs() {
        for size in [0, 1, 100, 32 * 1024, 64 * 1024 + 1, 1_000_000] {
            let value: Vec<u8> = (0..size).map(|index| (index / 100) as u8).collect();
            let mut builder = BatchBuilder::new(codec);
            builder.append(NewRecord::new(1, None, Some(&value))).unwrap();
            let batch = builder.build(None).unwrap();
            let used = batch.header().attributes.compression().unwrap();
            assert_eq!(
                used,
                if size > 1 { codec } else { Compression::None },
                "{codec} {size}"
            );
            let records = batch.open(value.len() + 100).unwrap();
            assert_eq!(
                records.iter().next().unwrap().unwrap().value,
                Some(&value[..]),
                "{codec} {size}"
            );
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let zeros = vec![0; 32 << 20];
    for codec in codecs().filter(|codec| *codec != Compression::None) {
        let mut builder = BatchBuilder::new(codec);
        builder
            .append(NewRecord::new(1, Some(b"k"), Some(&zeros)))
            .unwrap();
        let exact = builder.size_estimate() - HEADER_BYTES;
        let batch = builder.build(None).unwrap();
        assert!(batch.bytes().len() < zeros.len() / 20, "{codec}");
        for limit_bytes in [0, 1000, 1 << 20, exact - 1] {
            let error = CompressionError::TooLarge { codec, limit_bytes };
            assert_eq!(error.code(), ErrorCode::MessageTooLarge);
            assert_eq!(
                batch.open(limit_bytes).unwrap_err(),
                OpenError::Compression(error),
                "{codec}"
            );
        }
        assert_eq!(batch.open(exact).unwrap().payload().len(), exact, "{codec}");
        batch.check_keys(exact).unwrap();
    }
}

#[cfg(feature = "zstd")]
#[test]
fn no_limit_goes_beyond_the_named_maximum() {
    let frame = zstd::encode_all(&vec![0; 16 << 20][..], 1).unwrap();
    let batch = Batch::framed(around(Compression::Zstd, &frame.repeat(64), 1)).unwrap();
    let error = CompressionError::TooLarge {
        codec: Compression::Zstd,
        limit_bytes: MAX_OPENED_BYTES,
    };
    assert_eq!(batch.open(usize::MAX).unwrap_err(), OpenError::Compression(error));
}

#[cfg(feature = "snappy")]
#[test]
fn snappy_is_read_framed_and_raw_and_its_claims_are_not_believed() {
    let payload = small(3).view().payload().to_vec();
    let raw = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
    let batch = Batch::framed(around(Compression::Snappy, &raw, 3)).unwrap();
    assert_eq!(batch.open(1000).unwrap().payload(), &payload);
    // Some producers write the framing's versions little-endian.
    let mut framed = b"\x82SNAPPY\0\x01\0\0\0\x01\0\0\0".to_vec();
    framed.extend_from_slice(&(raw.len() as u32).to_be_bytes());
    framed.extend_from_slice(&raw);
    let batch = Batch::framed(around(Compression::Snappy, &framed, 3)).unwrap();
    assert_eq!(batch.open(1000).unwrap().payload(), &payload);
    for bad in [
        &framed[..framed.len() - 1],
        &framed[..18],
        &[0xff, 0xff, 0xff, 0x7f, 0],
        &[0x80],
        &[],
    ] {
        let bytes = around(Compression::Snappy, bad, 1);
        let opened = Batch::framed(bytes)
            .map_err(OpenError::from)
            .and_then(|batch| batch.open(1 << 20));
        assert!(opened.is_err(), "{bad:?}");
    }
}

#[test]
fn every_malformed_field_is_named() {
    // length, attributes, timestamp, offset, key, value, header count
    for (payload, field) in [
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80][..], "length"),
        (&[0x01, 0, 0, 0, 0, 0, 0], "length"),
        (&[0x00, 0, 0, 0, 0, 0, 0], "attributes"),
        (&[0x02, 0, 0, 0, 0, 0, 0], "timestamp"),
        (&[0x04, 0, 0, 0, 0, 0, 0], "offset"),
        (&[0x0c, 0, 0, 0, 0x03, 0x01, 0], "key"),
        (&[0x0c, 0, 0, 0, 0x08, 0x01, 0], "key"),
        (&[0x0c, 0, 0, 0, 0x01, 0x7e, 0], "value"),
        (&[0x0c, 0, 0, 0, 0x01, 0x01, 0x01], "headers"),
        (&[0x0c, 0, 0, 0, 0x01, 0x01, 0x02], "headers"),
        (&[0x10, 0, 0, 0, 0x01, 0x01, 0x02, 0x01, 0x01], "headers"),
    ] {
        let batch = Batch::framed(around(Compression::None, payload, 1)).unwrap();
        let records = batch.open(0).unwrap();
        let found: Vec<_> = records.iter().collect();
        assert_eq!(
            found,
            [Err(RecordError::Malformed { index: 0, field })],
            "{payload:?}"
        );
        let owned: Vec<_> = records.clone().into_iter().collect();
        assert_eq!(
            owned,
            [Err(RecordError::Malformed { index: 0, field })],
            "{payload:?}"
        );
    }
}

#[test]
fn records_fill_the_payload_and_rise() {
    let record = |delta: u8| [0x0c, 0, 0, delta << 1, 0x01, 0x01, 0];
    let read = |payload: &[u8], records| {
        let batch = Batch::framed(around(Compression::None, payload, records)).unwrap();
        let last = batch.view().records().unwrap().last().unwrap();
        last.map(|record| record.offset)
    };
    assert_eq!(read(&[record(0), record(1)].concat(), 2), Ok(Offset(1)));
    for (deltas, delta) in [([0, 0], 0), ([0, 2], 2)] {
        let payload = deltas.map(record).concat();
        assert_eq!(
            read(&payload, 2),
            Err(RecordError::OffsetDelta { index: 1, delta })
        );
    }
    assert_eq!(
        read(&[record(0), record(1)].concat(), 1),
        Err(RecordError::Trailing { extra: 7 })
    );
    let oversized = [0x0e, 0, 0, 0, 0x01, 0x01, 0, 0];
    assert_eq!(
        read(&oversized, 1),
        Err(RecordError::Oversized { index: 0, extra: 1 })
    );
    let mut cut = [record(0), record(1)].concat();
    cut[7] = 0x0e;
    assert_eq!(
        read(&cut, 2),
        Err(RecordError::PastEnd {
            index: 1,
            remaining: 7
        })
    );
}

#[test]
fn a_codec_that_is_not_built_in_says_so() {
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_built_in()) {
        let mut builder = BatchBuilder::new(codec);
        builder.append(NewRecord::new(1, None, None)).unwrap();
        let expected = CompressionError::NotBuiltIn { codec };
        assert_eq!(
            builder.build(None),
            Err(BuildError::Compression(expected.clone()))
        );
        let batch = Batch::framed(around(codec, &[0; 20], 1)).unwrap();
        assert_eq!(batch.open(100).unwrap_err(), OpenError::Compression(expected));
    }
    assert!(
        "brotli"
            .parse::<Compression>()
            .unwrap_err()
            .to_string()
            .contains("zstd")
    );
}
