//! `fixtures/offsets-v1.txt` holds every kind of record as version 1 wrote it, one a line: name,
//! key and value in hex. It is never edited; a new version adds a file.

use super::*;

const FIXTURE: &str = include_str!("../fixtures/offsets-v1.txt");
const CORRUPT: &str = include_str!("../fixtures/offsets-v1-corrupt.txt");

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn topic(n: u8) -> TopicId {
    TopicId::from_slice(&[n; 16]).unwrap()
}

fn set(of: &[(u8, u32)]) -> Partitions {
    let partition = |(t, p): &(u8, u32)| TopicIdPartition {
        topic_id: topic(*t),
        partition: PartitionIndex(*p),
    };
    Arc::new(of.iter().map(partition).collect())
}

fn samples() -> Vec<(&'static str, Record)> {
    let group: GroupId = "inventory".parse().unwrap();
    let member: MemberId = "m-1".parse().unwrap();
    let subscription = Subscription::restored(
        ["orders".parse().unwrap()].into(),
        Some("eu-.*".to_owned()),
        tidelog_group::AssignorName::Range,
    );
    let value = MemberValue {
        instance_id: Some("till-7".parse().unwrap()),
        subscription,
        client_id: "billing".to_owned(),
        client_host: "10.0.0.7".to_owned(),
        max_poll_interval: Duration::from_mins(5),
    };
    let current = CurrentAssignment {
        epoch: MemberEpoch(3),
        previous_epoch: MemberEpoch(2),
        assigned: set(&[(1, 0), (1, 2), (2, 300)]),
        revoking: set(&[(1, 1)]),
    };
    let committed = CommittedOffset {
        offset: Offset(1_234_567_890_123),
        leader_epoch: Some(LeaderEpoch(4)),
        metadata: "note".to_owned(),
        committed_ms: 1_700_000_000_000,
    };
    let empty = GroupValue {
        epoch: GroupEpoch(9),
        assignor: tidelog_group::AssignorName::Uniform,
        empty_since_ms: Some(5),
    };
    let partition = TopicIdPartition {
        topic_id: topic(1),
        partition: PartitionIndex(7),
    };
    vec![
        (
            "group",
            Record::Group {
                group: group.clone(),
                value: Some(empty),
            },
        ),
        (
            "group-gone",
            Record::Group {
                group: group.clone(),
                value: None,
            },
        ),
        (
            "member",
            Record::Member {
                group: group.clone(),
                member: member.clone(),
                value: Some(Arc::new(value)),
            },
        ),
        (
            "target",
            Record::Target {
                group: group.clone(),
                member: member.clone(),
                value: Some(set(&[(1, 0)])),
            },
        ),
        (
            "current",
            Record::Current {
                group: group.clone(),
                member,
                value: Some(Arc::new(current)),
            },
        ),
        (
            "offset",
            Record::Offset {
                group: group.clone(),
                partition,
                value: Some(committed),
            },
        ),
        (
            "offset-gone",
            Record::Offset {
                group,
                partition,
                value: None,
            },
        ),
    ]
}

fn lines(fixture: &str) -> impl Iterator<Item = (&str, Vec<u8>, Option<Vec<u8>>)> {
    fixture.lines().filter(|line| !line.is_empty()).map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let value = (fields[2] != "-").then(|| unhex(fields[2]));
        (fields[0], unhex(fields[1]), value)
    })
}

#[test]
fn version_1_is_read_and_still_written_byte_for_byte() {
    let samples = samples();
    let rendered: Vec<String> = samples
        .iter()
        .map(|(name, record)| {
            let (key, value) = encode(record);
            format!(
                "{name} {} {}",
                hex(&key),
                value.map_or("-".to_owned(), |value| hex(&value))
            )
        })
        .collect();
    assert_eq!(rendered.join("\n") + "\n", FIXTURE);
    for ((name, record), (line, key, value)) in samples.iter().zip(lines(FIXTURE)) {
        assert_eq!(*name, line);
        assert_eq!(decode(&key, value.as_deref()), Ok(Some(record.clone())), "{name}");
    }
}

#[test]
fn damage_is_an_error_and_never_a_record() {
    let mut count = 0;
    for (name, key, value) in lines(CORRUPT) {
        let error = decode(&key, value.as_deref()).expect_err(name);
        assert_eq!(
            matches!(error, CodecError::Newer(_)),
            name == "newer-version",
            "{name}: {error}"
        );
        count += 1;
    }
    assert!(count >= 4);
}

#[test]
fn a_kind_of_a_newer_broker_is_skipped() {
    let key = stored::OffsetsKey {
        group_id: "g".to_owned(),
        kind: None,
    }
    .encode_to_vec();
    let unknown: Vec<u8> = key.iter().copied().chain([0x7a, 0x00]).collect();
    assert_eq!(decode(&unknown, Some(&[])), Ok(None));
}
