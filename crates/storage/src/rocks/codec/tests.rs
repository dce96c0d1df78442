//! The bytes of released values. They never change: another version gets other fixtures, beside
//! these.

use std::collections::VecDeque;

use uuid::Uuid;

use super::*;

const UUID: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

fn producer() -> ProducerState {
    let batch = |sequence, base, last| RememberedBatch {
        base_sequence: Sequence::from_wire(sequence).unwrap(),
        base_offset: Offset(base),
        last_offset: Offset(last),
        timestamp_ms: 1_700_000_000_000,
    };
    ProducerState {
        id: ProducerId(4001),
        epoch: ProducerEpoch(3),
        batches: VecDeque::from([batch(0, 100, 109), batch(10, 120, 120)]),
        last_timestamp_ms: 1_700_000_000_001,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// A value of every kind, by name, as version 1 writes it. Lines of `name hex` in the fixture file.
fn values() -> Vec<(&'static str, Vec<u8>)> {
    let uuid = Uuid::from_u128(UUID);
    let identity = DirectoryIdentity {
        directory: DirectoryId(uuid),
        broker: BrokerId::new(3).unwrap(),
        cluster: Some(ClusterId(Uuid::from_u128(1))),
    };
    let partition = TopicIdPartition {
        topic_id: TopicId(uuid),
        partition: PartitionIndex(7),
    };
    vec![
        ("partition", encode_partition(partition)),
        ("offset", encode_offset(Offset(300))),
        ("offset-zero", encode_offset(Offset(0))),
        ("epoch", encode_epoch_start(Offset(70_000))),
        ("producer", encode_producer(&producer())),
        ("directory", encode_directory(&identity)),
        (
            "directory-unclustered",
            encode_directory(&DirectoryIdentity {
                cluster: None,
                ..identity
            }),
        ),
        ("next-local", encode_next_local(12)),
        ("clean-shutdown", encode_clean_shutdown(99)),
        ("time-entry", encode_time_entry(300_000)),
    ]
}

#[test]
fn values_are_written_as_released() {
    let written: Vec<_> = values()
        .iter()
        .map(|(name, value)| format!("{name} {}", hex(value)))
        .collect();
    let fixture: Vec<_> = include_str!("fixtures/v1.txt").lines().collect();
    assert_eq!(written, fixture);
}

#[test]
fn released_values_are_read() {
    let fixture: std::collections::HashMap<_, _> = include_str!("fixtures/v1.txt")
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, value)| (name, unhex(value)))
        .collect();
    let partition = decode_partition(&fixture["partition"]).unwrap();
    assert_eq!((partition.topic_id.0.as_u128(), partition.partition.0), (UUID, 7));
    assert_eq!(decode_offset("log start", &fixture["offset"]), Ok(Offset(300)));
    assert_eq!(decode_offset("log start", &fixture["offset-zero"]), Ok(Offset(0)));
    assert_eq!(decode_epoch_start(&fixture["epoch"]), Ok(Offset(70_000)));
    assert_eq!(
        decode_producer(ProducerId(4001), &fixture["producer"]),
        Ok(producer())
    );
    assert_eq!(
        decode_directory(&fixture["directory"]).unwrap().cluster,
        Some(ClusterId(Uuid::from_u128(1)))
    );
    assert_eq!(
        decode_directory(&fixture["directory-unclustered"])
            .unwrap()
            .cluster,
        None
    );
    assert_eq!(decode_next_local(&fixture["next-local"]), Ok(12));
    assert_eq!(decode_time_entry(&fixture["time-entry"]), Ok(300_000));
}

#[test]
fn damaged_and_newer_values_are_refused() {
    for line in include_str!("fixtures/corrupt.txt").lines() {
        let (what, value) = line.split_once(' ').unwrap();
        let refused = decode_producer(ProducerId(4001), &unhex(value));
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    let newer = DecodeError::Version {
        what: "log start",
        found: 2,
    };
    assert_eq!(decode_offset("log start", &[2, 8, 1]), Err(newer));
    assert_eq!(
        decode_offset("log start", &[]),
        Err(DecodeError::Empty { what: "log start" })
    );
    assert!(decode_partition(&[1]).is_err(), "a partition needs a topic id");
    assert!(decode_directory(&[1]).is_err(), "a directory needs an id");
}
