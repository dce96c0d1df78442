//! The role of a replica that neither leads nor follows.

use tidelog_types::{BrokerId, LeaderEpoch};

/// Why a replica is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// No registration was applied yet.
    New,
    /// The partition has no leader: no eligible replica is alive (R8).
    NoLeader,
    /// This broker is not among the replicas.
    NotReplica,
    /// The image is older than this broker's registration, or names an epoch given to an earlier
    /// life of it (R3).
    NotRegistered,
}

/// A replica that keeps its log and waits for metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offline {
    /// Why.
    pub reason: Idle,
    /// The leader elsewhere, if this broker only is no replica.
    pub leader: Option<BrokerId>,
    /// The newest leader epoch seen.
    pub leader_epoch: LeaderEpoch,
}
