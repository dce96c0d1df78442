//! Keys of the metadata database, format version 1. Two column families: `raft` holds whose the
//! database is, vote, pointers and log, `state` the cluster image and what was applied. Numbers are
//! big-endian, so that keys sort as they count.

use tidelog_cluster::Change;
use tidelog_types::{TopicId, TopicIdPartition};

pub(super) const RAFT: &str = "raft";
pub(super) const STATE: &str = "state";

/// A place in the `raft` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RaftKey {
    Vote,
    Committed,
    Purged,
    Node,
    Log(u64),
}

impl RaftKey {
    const LOG: u8 = 0x10;

    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Vote => vec![0x01],
            Self::Committed => vec![0x02],
            Self::Purged => vec![0x03],
            Self::Node => vec![0x04],
            Self::Log(index) => [&[Self::LOG][..], &index.to_be_bytes()].concat(),
        }
    }

    /// The key after every log entry.
    pub(super) fn after_log() -> Vec<u8> {
        vec![Self::LOG + 1]
    }
}

/// A place in the `state` family. Topics sort before partitions, and the partitions of one topic by
/// number, so that reading the family in order yields changes that can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateKey {
    Applied,
    ClusterId,
    ImageIndex,
    NextProducerId,
    Broker(u32),
    Topic(TopicId),
    Partition(TopicIdPartition),
}

impl StateKey {
    const PARTITION: u8 = 0x30;

    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Applied => vec![0x01],
            Self::ClusterId => vec![0x02],
            Self::ImageIndex => vec![0x03],
            Self::NextProducerId => vec![0x04],
            Self::Broker(id) => [&[0x10][..], &id.to_be_bytes()].concat(),
            Self::Topic(id) => [&[0x20][..], id.as_bytes()].concat(),
            Self::Partition(partition) => [
                &[Self::PARTITION][..],
                partition.topic_id.as_bytes(),
                &partition.partition.0.to_be_bytes(),
            ]
            .concat(),
        }
    }

    /// Where a change is kept; a deleted topic is kept nowhere.
    pub(super) fn of(change: &Change) -> Option<Self> {
        Some(match change {
            Change::ClusterNamed(_) => Self::ClusterId,
            Change::Broker(broker) => Self::Broker(broker.id.get()),
            Change::Topic { topic_id, .. } => Self::Topic(*topic_id),
            Change::TopicDeleted(_) => return None,
            Change::Partition { partition, .. } => Self::Partition(*partition),
            Change::NextProducerId(_) => Self::NextProducerId,
        })
    }

    /// The range of a topic's partitions: from the first key, up to but without the second.
    pub(super) fn partitions_of(topic: TopicId) -> (Vec<u8>, Vec<u8>) {
        let first = [&[Self::PARTITION][..], topic.as_bytes(), &[0; 4]].concat();
        // No partition number comes near the largest u32 (limits::MAX_PARTITIONS_PER_TOPIC).
        let end = [&[Self::PARTITION][..], topic.as_bytes(), &[0xff; 4]].concat();
        (first, end)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::PartitionIndex;

    use super::*;

    #[test]
    fn keys_have_their_sizes_and_sort_as_they_are_replayed() {
        let topic = TopicId::from_slice(&[9; 16]).unwrap();
        let partition = |index| {
            StateKey::Partition(TopicIdPartition {
                topic_id: topic,
                partition: PartitionIndex(index),
            })
            .bytes()
        };
        assert_eq!(RaftKey::Log(7).bytes().len(), 9);
        assert_eq!(partition(0).len(), 21);
        let keys = [
            StateKey::Applied.bytes(),
            StateKey::Broker(3).bytes(),
            StateKey::Topic(topic).bytes(),
            partition(1),
            partition(2),
            partition(256),
        ];
        assert!(keys.is_sorted());
        let (first, end) = StateKey::partitions_of(topic);
        assert!(first <= partition(0) && partition(256) < end);
        assert!(RaftKey::Log(u64::MAX).bytes() < RaftKey::after_log());
    }
}
