//! Each rule of validation by itself: one field wrong, one error, the code a client sees.

use bytes::Bytes;
use tidelog_record::{Batch, BatchBuilder, BatchError, Compression, HEADER_BYTES, NewRecord, split};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError};

use crate::craft::{self, around, small, with};

const LIMIT: u32 = 1 << 20;

fn refused(bytes: Bytes) -> BatchError {
    Batch::from_producer(bytes, LIMIT).expect_err("the batch was taken")
}

#[test]
fn a_good_batch_is_taken_whole() {
    let batch = small(3);
    let taken = Batch::from_producer(batch.bytes().clone(), LIMIT).unwrap();
    assert_eq!(taken, batch);
    assert_eq!(taken.info().offset_count(), 3);
    assert_eq!(taken.info().size_bytes as usize, batch.bytes().len());
    assert_eq!(taken.bytes().as_ptr(), batch.bytes().as_ptr());
}

#[test]
fn framing_is_checked_first() {
    let batch = small(2);
    let bytes = batch.bytes();
    for len in 0..bytes.len() {
        let error = refused(bytes.slice(..len));
        let expected = if len < HEADER_BYTES {
            BatchError::HeaderTruncated { actual: len }
        } else {
            BatchError::Truncated {
                declared: bytes.len(),
                actual: len,
            }
        };
        assert_eq!(error, expected);
        assert_eq!(error.code(), ErrorCode::CorruptMessage);
    }
    for length in [-1, 0, 48, i32::MIN] {
        let error = refused(with(&batch, craft::LENGTH, &i32::to_be_bytes(length)));
        assert_eq!(error, BatchError::Length { declared: length });
    }
    for magic in [0, 1, 3, 255] {
        let error = refused(with(&batch, craft::MAGIC, &[magic]));
        assert_eq!(
            (error.code(), error),
            (ErrorCode::CorruptMessage, BatchError::Magic { magic })
        );
    }
}

#[test]
fn a_produce_holds_exactly_one_batch() {
    let bytes = small(2).into_bytes();
    let two = Bytes::from([&bytes[..], &bytes[..]].concat());
    let error = refused(two.clone());
    assert_eq!(
        error,
        BatchError::Trailing {
            declared: bytes.len(),
            actual: 2 * bytes.len()
        }
    );
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
    assert_eq!(split(two).count(), 2);
}

#[test]
fn a_batch_larger_than_the_topic_takes_is_refused_by_its_size_alone() {
    let bytes = small(2).into_bytes();
    let max_bytes = bytes.len() as u32;
    assert!(Batch::from_producer(bytes.clone(), max_bytes).is_ok());
    let error = Batch::from_producer(bytes, max_bytes - 1).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
}

#[test]
fn every_flip_under_the_checksum_is_found() {
    let bytes = small(2).into_bytes();
    for bit in craft::CRC * 8..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Batch::from_producer(flipped.into(), LIMIT).is_err(), "bit {bit}");
    }
}

#[test]
fn counts_must_agree_and_fit() {
    let batch = small(3);
    let count = |value: i32| refused(with(&batch, craft::RECORD_COUNT, &value.to_be_bytes()));
    assert_eq!(
        count(2),
        BatchError::CountDiffers {
            record_count: 2,
            offsets: 3
        }
    );
    assert_eq!(
        count(4),
        BatchError::CountDiffers {
            record_count: 4,
            offsets: 3
        }
    );
    assert_eq!(
        count(0),
        BatchError::CountDiffers {
            record_count: 0,
            offsets: 3
        }
    );
    assert_eq!(
        count(-1),
        BatchError::Negative {
            field: "record count",
            value: -1
        }
    );
    let delta = |value: i32| refused(with(&batch, craft::LAST_OFFSET_DELTA, &value.to_be_bytes()));
    assert_eq!(
        delta(-1),
        BatchError::Negative {
            field: "last offset delta",
            value: -1
        }
    );
    assert_eq!(
        delta(7),
        BatchError::CountDiffers {
            record_count: 3,
            offsets: 8
        }
    );
    // Seven bytes hold one of the shortest records, thirteen do not hold two.
    assert!(Batch::from_producer(around(Compression::None, &[0; 13], 1), LIMIT).is_ok());
    let error = refused(around(Compression::None, &[0; 13], 2));
    assert_eq!(
        error,
        BatchError::CountTooLarge {
            record_count: 2,
            payload_bytes: 13
        }
    );
    let absurd = refused(around(Compression::Zstd, &[0; 13], 1 << 30));
    assert!(matches!(absurd, BatchError::CountTooLarge { .. }), "{absurd}");
}

#[test]
fn offsets_belong_to_the_broker_and_never_overflow() {
    let batch = small(2);
    let base = |value: i64| refused(with(&batch, craft::BASE_OFFSET, &value.to_be_bytes()));
    assert_eq!(
        base(5),
        BatchError::BaseOffset {
            base_offset: Offset(5)
        }
    );
    assert_eq!(base(5).code(), ErrorCode::InvalidRecord);
    assert_eq!(
        base(-1),
        BatchError::Negative {
            field: "base offset",
            value: -1
        }
    );
    assert!(matches!(base(i64::MAX), BatchError::OffsetOverflow { .. }));
    assert!(matches!(base(i64::MAX - 1), BatchError::OffsetOverflow { .. }));
}

#[test]
fn attributes_a_producer_may_not_set_are_refused() {
    let batch = small(2);
    let attributes = |bits: u16| refused(with(&batch, craft::ATTRIBUTES, &bits.to_be_bytes()));
    for number in 5..8 {
        assert_eq!(attributes(u16::from(number)), BatchError::Compression { number });
    }
    for bit in 3..7 {
        let error = attributes(1 << bit);
        assert!(matches!(error, BatchError::NotForProducers { .. }), "{error}");
        assert_eq!(error.code(), ErrorCode::InvalidRecord);
    }
    for bit in 7..16 {
        assert_eq!(attributes(1 << bit), BatchError::Attributes { bits: 1 << bit });
    }
}

#[test]
fn producer_fields_must_fit_each_other() {
    let batch = small(2);
    let fields = |id: i64, epoch: i16, sequence: i32| {
        let raw = [
            &id.to_be_bytes()[..],
            &epoch.to_be_bytes(),
            &sequence.to_be_bytes(),
        ]
        .concat();
        Batch::from_producer(with(&batch, craft::PRODUCER_ID, &raw), LIMIT)
    };
    for (id, epoch, sequence) in [(1, -1, 0), (1, 0, -1), (-2, 0, 0), (0, i16::MIN, 5)] {
        let error = fields(id, epoch, sequence).unwrap_err();
        assert_eq!(
            error,
            BatchError::Producer {
                id,
                epoch,
                base_sequence: sequence
            }
        );
    }
    // Sarama leaves the sequence 0 where there is no producer id.
    assert_eq!(fields(-1, -1, 0).unwrap().info().producer, None);
    assert_eq!(
        fields(0, 0, i32::MAX)
            .unwrap()
            .info()
            .producer
            .unwrap()
            .base_sequence
            .to_wire(),
        i32::MAX
    );
    assert_eq!(craft::PRODUCER_EPOCH + 2, craft::BASE_SEQUENCE);
}

#[test]
fn timestamps_must_be_in_order() {
    let batch = small(2);
    let error = refused(with(&batch, craft::MAX_TIMESTAMP, &999_i64.to_be_bytes()));
    assert_eq!(
        error,
        BatchError::Timestamps {
            first_ms: 1000,
            max_ms: 999
        }
    );
    let error = refused(with(&batch, craft::FIRST_TIMESTAMP, &(-2_i64).to_be_bytes()));
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
    let mut untimed = BatchBuilder::new(Compression::None);
    untimed.append(NewRecord::new(-1, None, None)).unwrap();
    let batch = Batch::from_producer(untimed.build(None).unwrap().into_bytes(), LIMIT).unwrap();
    assert_eq!(batch.info().max_timestamp_ms, -1);
}

#[test]
fn a_stored_batch_needs_its_leader_epoch_and_its_checksum() {
    let batch = small(2);
    let error = Batch::from_log(batch.bytes().clone()).unwrap_err();
    assert_eq!(
        error,
        BatchError::NoLeaderEpoch {
            base_offset: Offset::ZERO
        }
    );
    let stored = batch.assign(Offset(90), LeaderEpoch(4));
    assert_eq!(
        Batch::from_log(stored.bytes().clone()).unwrap().info(),
        stored.info()
    );
    // A compacted batch has fewer records than offsets.
    let compacted = with(&stored, craft::LAST_OFFSET_DELTA, &9_i32.to_be_bytes());
    assert_eq!(Batch::from_log(compacted).unwrap().info().last_offset, Offset(99));
    let mut damaged = stored.bytes().to_vec();
    damaged[HEADER_BYTES] ^= 1;
    assert!(matches!(
        Batch::from_log(damaged.into()),
        Err(BatchError::Crc { .. })
    ));
}

#[test]
fn a_refusal_says_what_to_do_in_the_words_of_the_api() {
    let error = PartitionError::from(refused(with(&small(1), craft::MAGIC, &[1])));
    assert_eq!(error.code, ErrorCode::CorruptMessage);
    assert!(
        error.message.contains("use a client of Kafka 0.11 or later"),
        "{}",
        error.message
    );
}

#[test]
fn splitting_stops_at_the_first_damage() {
    let (one, two) = (small(1).into_bytes(), small(5).into_bytes());
    let both = Bytes::from([&one[..], &two[..]].concat());
    let parts: Vec<_> = split(both.clone()).collect::<Result<_, _>>().unwrap();
    assert_eq!(parts[0].bytes(), &one);
    assert_eq!(parts[1].bytes().as_ptr(), both[one.len()..].as_ptr());
    let mut cut = split(both.slice(..both.len() - 1));
    assert!(cut.next().unwrap().is_ok());
    let actual = two.len() - 1;
    assert_eq!(
        cut.next().unwrap(),
        Err(BatchError::Truncated {
            declared: two.len(),
            actual
        })
    );
    assert!(cut.next().is_none());
    assert!(split(Bytes::new()).next().is_none());
}
