//! Files that kafka-python wrote are read, and files that our builder wrote (which kafka-python
//! read, see `make_fixtures.py`) are still what it writes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use tidelog_record::{
    Batch, BatchBuilder, BatchError, Compression, DEFAULT_OPENED_BYTES, HeaderRef, NewRecord, OpenError,
    RecordError,
};
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

const LIMIT: u32 = 1 << 20;

#[derive(Deserialize)]
struct Case {
    name: String,
    compression: String,
    producer: Option<Producer>,
    records: String,
}

#[derive(Deserialize)]
struct Producer {
    id: u64,
    epoch: u16,
    base_sequence: i32,
}

#[derive(Deserialize)]
struct Record {
    timestamp_ms: i64,
    key: Option<Text>,
    value: Option<Text>,
    headers: Vec<(String, Option<Text>)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Long { repeat: String, times: usize },
}

/// Key, value and headers as bytes.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<&Text> for Vec<u8> {
    fn from(text: &Text) -> Self {
        match text {
            Text::Plain(text) => text.clone().into(),
            Text::Long { repeat, times } => repeat.repeat(*times).into(),
        }
    }
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_slice(&std::fs::read(path("cases.json")).unwrap()).unwrap()
    }

    fn compression(&self) -> Compression {
        self.compression.parse().unwrap()
    }

    fn stamp(&self) -> Option<ProducerStamp> {
        self.producer.as_ref().map(|producer| ProducerStamp {
            id: ProducerId(producer.id),
            epoch: ProducerEpoch(producer.epoch),
            base_sequence: Sequence::from_wire(producer.base_sequence).unwrap(),
        })
    }

    fn content(&self) -> Vec<Content> {
        let raw = std::fs::read(path("records.json")).unwrap();
        let mut lists: std::collections::HashMap<String, Vec<Record>> = serde_json::from_slice(&raw).unwrap();
        let bytes = |text: &Option<Text>| text.as_ref().map(Vec::from);
        let content = |record: &Record| Content {
            timestamp_ms: record.timestamp_ms,
            key: bytes(&record.key),
            value: bytes(&record.value),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| (key.clone(), bytes(value)))
                .collect(),
        };
        lists.remove(&self.records).unwrap().iter().map(content).collect()
    }

    fn build(&self) -> Batch {
        let mut builder = BatchBuilder::new(self.compression());
        for record in self.content() {
            let headers = record.headers.iter().map(|(key, value)| HeaderRef {
                key,
                value: value.as_deref(),
            });
            let new = NewRecord::new(
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
            );
            builder.append(new.with_headers(headers)).unwrap();
        }
        builder.build(self.stamp()).unwrap()
    }

    fn check(&self, batch: &Batch) {
        let expected = self.content();
        let header = batch.header();
        assert_eq!(
            header.attributes.compression(),
            Some(self.compression()),
            "{}",
            self.name
        );
        assert_eq!(header.producer(), self.stamp(), "{}", self.name);
        assert_eq!(
            header.first_timestamp_ms, expected[0].timestamp_ms,
            "{}",
            self.name
        );
        let max = expected.iter().map(|record| record.timestamp_ms).max().unwrap();
        assert_eq!(batch.info().max_timestamp_ms, max, "{}", self.name);
        assert_eq!(
            batch.info().offset_count(),
            expected.len() as u64,
            "{}",
            self.name
        );
        assert_eq!(borrowed(batch), expected, "{}", self.name);
        assert_eq!(owned(batch), expected, "{}", self.name);
    }
}

fn borrowed(batch: &Batch) -> Vec<Content> {
    let records = batch.open(DEFAULT_OPENED_BYTES).unwrap();
    let content = records.iter().enumerate().map(|(index, record)| {
        let record = record.unwrap();
        assert_eq!(record.offset, Offset(index as u64));
        Content {
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record
                .headers()
                .map(|header| (header.key_text().into_owned(), header.value.map(Into::into)))
                .collect(),
        }
    });
    content.collect()
}

fn owned(batch: &Batch) -> Vec<Content> {
    let content = batch
        .open(DEFAULT_OPENED_BYTES)
        .unwrap()
        .into_iter()
        .map(|record| {
            let record = record.unwrap();
            let share = |header| record.headers.share(header).map(|value| value.to_vec());
            Content {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref().map(Into::into),
                value: record.value.as_deref().map(Into::into),
                headers: record
                    .headers
                    .iter()
                    .map(|h| (h.key_text().into_owned(), share(h)))
                    .collect(),
            }
        });
    content.collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn read(folder: &str, name: &str) -> Bytes {
    std::fs::read(path(folder).join(format!("{name}.batch")))
        .unwrap()
        .into()
}

#[test]
fn what_kafka_python_wrote_is_read() {
    for case in Case::all().iter().filter(|case| case.compression().is_built_in()) {
        case.check(&Batch::from_producer(read("python", &case.name), LIMIT).unwrap());
    }
}

#[test]
fn what_our_builder_wrote_is_read() {
    for case in Case::all().iter().filter(|case| case.compression().is_built_in()) {
        case.check(&Batch::from_producer(read("ours", &case.name), LIMIT).unwrap());
    }
}

/// Compressed payloads may change with a codec's version, and with which of flate2's backends a
/// build selects; what is in them may not.
#[test]
fn our_builder_writes_what_it_wrote() {
    for case in Case::all().iter().filter(|case| case.compression().is_built_in()) {
        let built = case.build();
        if std::env::var_os("TIDELOG_WRITE_FIXTURES").is_some() {
            std::fs::write(path("ours").join(format!("{}.batch", case.name)), built.bytes()).unwrap();
        }
        case.check(&built);
        if case.compression() == Compression::None {
            assert_eq!(built.bytes(), &read("ours", &case.name), "{}", case.name);
        }
    }
}

/// kafka-python leaves the leader epoch 0 where Kafka's own clients write -1; the broker overwrites
/// it anyway.
#[test]
fn our_builder_and_kafka_python_agree_to_the_byte() {
    let (base_offset, epoch) = (Offset(1 << 40), LeaderEpoch(7));
    for case in Case::all()
        .iter()
        .filter(|case| case.compression() == Compression::None)
    {
        let theirs = Batch::from_producer(read("python", &case.name), LIMIT).unwrap();
        let (ours, theirs) = (
            case.build().assign(base_offset, epoch),
            theirs.assign(base_offset, epoch),
        );
        assert_eq!(ours.bytes(), theirs.bytes(), "{}", case.name);
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let error = Batch::from_producer(read("python", "corrupt-crc"), LIMIT).unwrap_err();
    assert!(matches!(error, BatchError::Crc { .. }), "{error}");
}

#[test]
fn a_lying_record_under_a_right_checksum_is_found_when_it_is_opened() {
    let batch = Batch::from_producer(read("python", "corrupt-record"), LIMIT).unwrap();
    let first = batch
        .open(DEFAULT_OPENED_BYTES)
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    assert!(
        matches!(first, Err(RecordError::PastEnd { index: 0, .. })),
        "{first:?}"
    );
    assert!(matches!(
        batch.check_keys(DEFAULT_OPENED_BYTES),
        Err(OpenError::Record(RecordError::PastEnd { .. }))
    ));
}
