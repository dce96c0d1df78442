//! What a metadata node is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidelog_types::{BrokerId, ClusterId, DirectoryId};

use crate::node_id::RaftNodeId;
use crate::store::Owner;

/// How to run this broker's part of the metadata group.
#[derive(Debug, Clone)]
pub struct MetadataConfig {
    pub broker: BrokerId,
    /// Its data directory's id.
    pub directory: DirectoryId,
    /// The cluster that the data directory was part of before this start. With one, a metadata
    /// folder without votes and log has lost them, and is refused.
    pub cluster: Option<ClusterId>,
    /// A folder of the data directory that is the metadata's alone; made if absent.
    pub path: PathBuf,
    /// The brokers that vote, and where other brokers reach them ("host:port"). The same on every
    /// broker. One that is not among them joins as a learner.
    pub voters: BTreeMap<BrokerId, String>,
    /// Where other brokers reach this one, "host:port".
    pub peer_address: String,
    /// Timings and sizes.
    pub raft: RaftConfig,
}

impl MetadataConfig {
    /// This broker's node in the group.
    pub fn node_id(&self) -> RaftNodeId {
        RaftNodeId::new(self.broker, self.directory)
    }

    /// Whose the metadata folder must be.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            broker: self.broker,
            directory: self.directory,
            cluster: self.cluster,
        }
    }
}

/// Timings and sizes of Raft, with their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// How often a leader assures its followers.
    pub heartbeat: Duration,
    /// Shortest time without a leader after which a node calls an election.
    pub election_min: Duration,
    /// Longest; also how long a leader's lease is.
    pub election_max: Duration,
    /// How many log entries after the last snapshot the next one is taken.
    pub snapshot_after: u64,
    /// How many entries that a snapshot covers are kept for followers a little behind.
    pub keep_after_snapshot: u64,
    /// How long one segment of a snapshot may take.
    pub snapshot_timeout: Duration,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_secs(1),
            snapshot_after: 10_000,
            keep_after_snapshot: 2_000,
            snapshot_timeout: Duration::from_secs(10),
        }
    }
}
