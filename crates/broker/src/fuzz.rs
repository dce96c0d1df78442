//! Everything in the broker that turns bytes of a client, a peer or a disk into domain types, over
//! bytes that may be anything: the fuzz target of this crate.
//!
//! It also runs in the crate's tests, over the committed bytes of released versions and damaged
//! variants of them.

use prost::Message as _;
use tidelog_proto::internal::v1 as peer;
use tidelog_proto::v1;
use tidelog_types::{BrokerEpoch, BrokerId, PartitionError};

use crate::replication::wire;

/// Reads the bytes as every kind of record and message there is.
pub fn target(data: &[u8]) {
    crate::group::codec::fuzz::target(data);
    crate::grpc::groups::convert::fuzz::target(data);
    crate::grpc::plain::fuzz::target(data);
    replication(data);
    if let Ok(error) = v1::Error::decode(data) {
        let error = PartitionError::from(error);
        assert_eq!(PartitionError::from(v1::Error::from(error.clone())), error);
    }
}

fn replication(data: &[u8]) {
    let peer = wire::Peer {
        broker: BrokerId::new(1).expect("1 is above 0"),
        broker_epoch: BrokerEpoch(1),
    };
    if let Ok(fetch) = peer::ReplicaFetch::decode(data) {
        let _ = wire::partition(&fetch.topic_id, fetch.partition);
        let _ = wire::follower_fetch(peer, &fetch);
    }
    if let Ok(durable) = peer::ReplicaDurable::decode(data) {
        let _ = wire::follower_durable(peer, &durable);
    }
    if let Ok(fetched) = peer::ReplicaFetched::decode(data) {
        let _ = wire::fetched(fetched.result);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// A key and a value as the group's target reads them: the key's length first.
    fn group_record(line: &str) -> Vec<u8> {
        let fields: Vec<&str> = line.split(' ').collect();
        let key = unhex(fields[1]);
        let value = if fields[2] == "-" {
            Vec::new()
        } else {
            unhex(fields[2])
        };
        [&[key.len() as u8][..], &key, &value].concat()
    }

    fn messages() -> [Vec<u8>; 6] {
        let topics = || v1::TopicPartitions {
            topic: "flights".to_owned(),
            topic_id: vec![2; 16].into(),
            partitions: vec![0, 1],
        };
        let record = v1::Record {
            key: Some("k".into()),
            value: Some("v".into()),
            timestamp_ms: Some(17),
            ..v1::Record::default()
        };
        [
            v1::Join {
                group_id: "g".to_owned(),
                subscription: Some(v1::Subscribe {
                    topics: vec!["flights".to_owned()],
                    topic_regex: Some("fl.*".to_owned()),
                    assignor: "uniform".to_owned(),
                }),
                owned: vec![topics()],
                ..v1::Join::default()
            }
            .encode_to_vec(),
            v1::CommitRequest {
                group_id: "g".to_owned(),
                offsets: vec![v1::OffsetToCommit {
                    topic: "flights".to_owned(),
                    offset: 9,
                    ..v1::OffsetToCommit::default()
                }],
                ..v1::CommitRequest::default()
            }
            .encode_to_vec(),
            v1::PlainRecords {
                records: vec![record.clone(), record],
                producer: Some(v1::ProducerStamp::default()),
            }
            .encode_to_vec(),
            peer::ReplicaFetch {
                topic_id: vec![2; 16].into(),
                fetch_offset: 4,
                last_fetched_epoch: Some(1),
                ..peer::ReplicaFetch::default()
            }
            .encode_to_vec(),
            peer::ReplicaFetched {
                topic_id: vec![2; 16].into(),
                result: Some(peer::replica_fetched::Result::LogStartOffset(4)),
                ..peer::ReplicaFetched::default()
            }
            .encode_to_vec(),
            v1::Error {
                code: 6,
                message: "no".to_owned(),
                leader: Some(v1::Leader::default()),
            }
            .encode_to_vec(),
        ]
    }

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        let fixtures = [
            include_str!("group/fixtures/offsets-v1.txt"),
            include_str!("group/fixtures/offsets-v1-corrupt.txt"),
        ];
        let batches = [
            include_bytes!("../../record/tests/fixtures/ours/plain.batch").to_vec(),
            include_bytes!("../../record/tests/fixtures/ours/zstd.batch").to_vec(),
        ];
        let records = fixtures
            .iter()
            .flat_map(|fixture| fixture.lines())
            .filter(|line| !line.is_empty())
            .map(group_record);
        let seeds: Vec<_> = records.chain(messages()).chain(batches).collect();
        mutate::run(&seeds, 300_000, target);
    }
}
