//! Everything that reads metadata from a disk or from a peer, over bytes that may be anything: the
//! fuzz target of this crate.
//!
//! It also runs in the crate's tests, over the committed bytes of released versions and damaged
//! variants of them.

use prost::Message;
use tidelog_proto::internal::v1 as peer;

use crate::codec::{self, Value, command, outcome, raft, record, rpc};
use crate::store::snapshot::SnapshotState;

/// Reads the bytes as every kind of value and message there is.
pub fn target(data: &[u8]) {
    stored(data);
    let _ = command::from_bytes(data).map(|command| command::to_bytes(&command));
    let _ = outcome::from_bytes(data);
    snapshot(data);
    messages(data);
}

fn stored(data: &[u8]) {
    let Ok(value) = codec::decode(data) else {
        return;
    };
    match value {
        Value::Entry(entry) => {
            let _ = raft::entry_from(entry).map(raft::entry_to);
        }
        Value::Vote(vote) => {
            let _ = raft::vote_to(&raft::vote_from(&vote));
        }
        Value::LogId(id) => {
            let _ = raft::log_id_to(&raft::log_id_from(&id));
        }
        Value::Applied(applied) => {
            let _ = raft::applied_from(applied);
        }
        Value::Record(stored) => {
            let _ = record::from_message(stored);
        }
        _ => {}
    }
}

/// As it is, and with a right checksum: what a peer sends may be wrong and well sealed.
fn snapshot(data: &[u8]) {
    let _ = SnapshotState::from_bytes(data);
    let mut sealed = SnapshotState::MAGIC.to_vec();
    sealed.extend_from_slice(data.strip_prefix(SnapshotState::MAGIC).unwrap_or(data));
    // The last four bytes of a whole one are its old checksum.
    if let Some((body, _)) = sealed.split_last_chunk::<4>() {
        let bytes = [body, &crc32c::crc32c(body).to_le_bytes()].concat();
        if let Ok((_, state)) = SnapshotState::from_bytes(&bytes) {
            let again = SnapshotState::from_bytes(&state.to_bytes()).map(|(_, state)| state);
            assert_eq!(again.ok(), Some(state), "what was read can be written and read");
        }
    }
}

fn messages(data: &[u8]) {
    let _ = peer::AppendEntriesRequest::decode(data).map(rpc::append_from);
    let _ = peer::AppendEntriesResponse::decode(data).map(rpc::appended_from);
    let _ = peer::VoteRequest::decode(data).map(|message| rpc::vote_request_from(&message));
    let _ = peer::VoteResponse::decode(data).map(|message| rpc::voted_from(&message));
    let _ = peer::InstallSnapshotRequest::decode(data).map(rpc::segment_from);
    let _ = peer::ProposeRequest::decode(data).map(|message| message.command.map(command::from_message));
    if let Ok(peer::InstallSnapshotResponse {
        mismatch: Some(mismatch),
        ..
    }) = peer::InstallSnapshotResponse::decode(data)
    {
        let _ = rpc::mismatch_from(mismatch);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidelog_cluster::command::{CreateTopic, RegisterBroker};
    use tidelog_cluster::ids::BrokerIncarnation;
    use tidelog_cluster::{Change, ClusterImage, Command, MetadataIndex, decide};
    use tidelog_types::{BrokerEpoch, BrokerId, DirectoryId, TopicId};

    use super::*;
    use crate::raft_types::StoredMembership;

    fn from_hex(line: &str) -> Vec<u8> {
        (0..line.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
            .collect()
    }

    /// A cluster of one broker and one topic.
    fn state() -> SnapshotState {
        let broker = BrokerId::new(1).unwrap();
        let commands = [
            Command::RegisterBroker(RegisterBroker {
                broker,
                directory: DirectoryId::from_slice(&[3; 16]).unwrap(),
                peer_address: "b1:7172".to_owned(),
                listeners: Vec::new(),
                feature_level: 1,
            }),
            Command::UnfenceBroker(BrokerIncarnation {
                broker,
                epoch: BrokerEpoch(1),
            }),
            Command::CreateTopic(CreateTopic {
                name: "flights".parse().unwrap(),
                topic_id: TopicId::from_slice(&[2; 16]).unwrap(),
                partitions: Some(2),
                replication_factor: Some(1),
                configs: [("max.message.bytes".to_owned(), "1000".to_owned())].into(),
                placement_start: 0,
                internal: false,
            }),
        ];
        let mut image = ClusterImage::default();
        for (index, command) in (1..).map(MetadataIndex).zip(&commands) {
            let (changes, outcome) = decide(&image, index, command);
            outcome.result.unwrap();
            image.replay(index, &changes);
        }
        SnapshotState {
            last_applied: None,
            membership: StoredMembership::default(),
            image: Arc::new(image),
        }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let fixtures = [
            include_str!("../fixtures/commands-v1.hex"),
            include_str!("../fixtures/value-v1.hex"),
            include_str!("../fixtures/node-v1.hex"),
        ];
        let lines = fixtures.iter().flat_map(|fixture| fixture.lines());
        let state = state();
        let changes = state.image.to_changes();
        let records = changes
            .iter()
            .map(|change| codec::encode(Value::Record(record::to_message(change))));
        lines
            .map(|line| from_hex(line.trim()))
            .chain(records)
            .chain([state.to_bytes()])
            .collect()
    }

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        mutate::run(&seeds(), 500_000, target);
    }

    /// Found by the above: it panicked where the image is put together.
    #[test]
    fn a_snapshot_whose_records_contradict_each_other_is_refused() {
        let state = state();
        let changes = state.image.to_changes();
        let topic = |change: &Change| matches!(change, Change::Topic { .. });
        let at = changes.iter().position(topic).unwrap();
        let without = [&changes[..at], &changes[at + 1..]].concat();
        let twice = [&changes[..], &changes[at..=at]].concat();
        let gap = [&changes[..=at], &changes[at + 2..]].concat();
        let deleted = [
            &changes[..],
            &[Change::TopicDeleted(TopicId::from_slice(&[9; 16]).unwrap())],
        ]
        .concat();
        for changes in [without, twice, gap, deleted] {
            record::check(&changes).unwrap_err();
        }
        record::check(&changes).unwrap();
    }
}
