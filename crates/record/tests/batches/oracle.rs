//! kafka-protocol's `records` module as the oracle, both ways. Not asked of it: repeated header
//! keys, which it collapses, keys that are not UTF-8, and the log-append-time flag, which it drops.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as TheirCompression, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tidelog_record::{Batch, BatchBuilder, Compression, HeaderRef, NewRecord};
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

#[derive(Debug, Clone, PartialEq)]
struct Content {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: BTreeMap<String, Option<Vec<u8>>>,
}

prop_compose! {
    fn content()(
        timestamp_ms in -1..i64::MAX / 2,
        key in any::<Option<Vec<u8>>>(),
        value in any::<Option<Vec<u8>>>(),
        headers in btree_map(any::<String>(), any::<Option<Vec<u8>>>(), 0..4),
    ) -> Content {
        Content { timestamp_ms, key, value, headers }
    }
}

prop_compose! {
    fn stamp()(id in 0..i64::MAX as u64, epoch in 0..i16::MAX as u16, sequence in 0..i32::MAX) -> ProducerStamp {
        let base_sequence = Sequence::from_wire(sequence).expect("it is not negative");
        ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
    }
}

fn theirs(
    offset: i64,
    base: i64,
    epoch: i32,
    stamp: Option<ProducerStamp>,
    content: &Content,
) -> TheirRecord {
    let headers = content.headers.iter();
    TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: epoch,
        producer_id: stamp.map_or(-1, |stamp| stamp.id.0 as i64),
        producer_epoch: stamp.map_or(-1, |stamp| stamp.epoch.0 as i16),
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: stamp
            .map_or(-1, |stamp| stamp.base_sequence.to_wire())
            .wrapping_add((offset - base) as i32),
        timestamp: content.timestamp_ms,
        key: content.key.clone().map(Bytes::from),
        value: content.value.clone().map(Bytes::from),
        headers: headers
            .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
            .collect::<IndexMap<_, _>>(),
    }
}

fn ours(batch: &Batch) -> Vec<(u64, Content)> {
    let owned = |bytes: &[u8]| bytes.to_vec();
    let records = batch
        .view()
        .records()
        .expect("it is not compressed")
        .map(|record| {
            let record = record.expect("it is well-formed");
            let headers = record.headers();
            let content = Content {
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(owned),
                value: record.value.map(owned),
                headers: headers
                    .map(|h| (h.key_text().into_owned(), h.value.map(owned)))
                    .collect(),
            };
            (record.offset.0, content)
        });
    records.collect()
}

proptest! {
    #[test]
    fn they_read_what_we_write(
        contents in vec(content(), 1..20),
        producer in proptest::option::of(stamp()),
        base in 0_u64..1 << 40,
        epoch in 0_u32..1 << 30,
    ) {
        let mut builder = BatchBuilder::new(Compression::None);
        for content in &contents {
            let headers = content.headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() });
            let record = NewRecord::new(content.timestamp_ms, content.key.as_deref(), content.value.as_deref());
            builder.append(record.with_headers(headers)).unwrap();
        }
        let batch = builder.build(producer).unwrap().assign(Offset(base), LeaderEpoch(epoch));
        let read = RecordBatchDecoder::decode(&mut batch.into_bytes()).unwrap().records;
        let base = base as i64;
        let expected: Vec<_> = contents.iter().zip(base..)
            .map(|(content, offset)| theirs(offset, base, epoch as i32, producer, content)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn we_read_what_they_write(
        contents in vec(content(), 1..20),
        producer in proptest::option::of(stamp()),
        base in 0_i64..1 << 40,
        epoch in 0_i32..1 << 30,
    ) {
        let records: Vec<_> = contents.iter().zip(base..)
            .map(|(content, offset)| theirs(offset, base, epoch, producer, content)).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: TheirCompression::None };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        let batch = Batch::from_log(bytes.freeze()).unwrap();
        prop_assert_eq!(batch.info().producer, producer);
        prop_assert_eq!(batch.info().leader_epoch, LeaderEpoch(epoch as u32));
        let max = contents.iter().map(|content| content.timestamp_ms).max();
        prop_assert_eq!(Some(batch.info().max_timestamp_ms), max);
        let expected: Vec<_> = (base as u64..).zip(contents).collect();
        prop_assert_eq!(ours(&batch), expected);
    }
}
