//! openraft's types, with ours filled in.

use std::io::Cursor;

use openraft::BasicNode;
use serde::{Deserialize, Serialize};

/// A command as it stands in the log: protobuf, decoded where it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EncodedCommand(pub Vec<u8>);

/// An outcome as the state machine hands it to the proposer: protobuf; empty for entries of Raft's
/// own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct EncodedOutcome(pub Vec<u8>);

openraft::declare_raft_types!(
    /// What the metadata group's Raft is made of.
    pub(crate) TypeConfig:
        D = EncodedCommand,
        R = EncodedOutcome,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type Vote = openraft::Vote<u64>;
