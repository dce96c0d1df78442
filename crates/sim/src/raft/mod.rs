//! The metadata log: a small Raft that elects, delays, partitions and forgets what it did not sync.
//!
//! It is no model of the library that the broker uses, but of what that promises: one log, in which
//! what was committed stays, and of whose proposals some are committed later or by somebody else.
//! Terms, votes that are synced before they are answered, commitment by majority, and changes of
//! membership through a joint configuration. Every broker has a node; the first three vote. A node
//! is a broker's data directory: an emptied one comes back as another node, which takes the old
//! one's place by a change of membership.

mod disk;
mod leader;
mod node;

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::Command;
use tidelog_types::{BrokerId, DirectoryId};

pub(crate) use disk::{MetadataDisk, Saved, Snapshot};
pub(crate) use node::{ELECTION_MAX, Raft};

/// A Raft node: broker id in the high half, 32 bits of the directory id in the low.
pub(crate) type NodeId = u64;

/// The node that a directory of a broker is.
pub(crate) fn node_id(broker: BrokerId, directory: DirectoryId) -> NodeId {
    let bytes = directory.as_bytes();
    let low = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    u64::from(broker.get()) << 32 | u64::from(low)
}

/// Whose node it is.
pub(crate) fn broker_of(node: NodeId) -> Option<BrokerId> {
    BrokerId::new((node >> 32) as u32)
}

/// An entry of the log.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub(crate) term: u64,
    pub(crate) payload: Payload,
}

/// What it carries.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A new leader's first.
    Blank,
    /// The sets of voters; a majority of each is needed.
    Membership(Vec<Vec<NodeId>>),
    /// A command, with its digest.
    Command(Arc<Command>, u64),
}

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub(crate) enum RaftMessage {
    AskVote {
        term: u64,
        candidate: NodeId,
        last: (u64, u64),
    },
    Vote {
        term: u64,
        node: NodeId,
        granted: bool,
    },
    Append {
        term: u64,
        leader: NodeId,
        previous: (u64, u64),
        entries: Vec<Arc<LogEntry>>,
        commit: u64,
        /// When, by the leader's clock.
        sent: Duration,
    },
    /// Up to where the log agrees with the leader's, or where to try again.
    Appended {
        term: u64,
        node: NodeId,
        matched: Result<u64, u64>,
        /// When the message that this answers was sent.
        sent: Duration,
    },
}

#[cfg(test)]
mod tests;
