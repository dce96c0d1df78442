//! A partition as cluster metadata registers it.

use crate::{BrokerId, LeaderEpoch, PartitionEpoch};

/// One partition's entry in cluster metadata: what the metadata log decided, and what leaders and
/// followers act upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// The brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The committed in-sync replicas, a subset of `replicas`.
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas (KIP-966): out of the ISR, but known to hold everything below the
    /// high watermark.
    pub elr: Vec<BrokerId>,
    /// The leader; `None` while no eligible replica is alive.
    pub leader: Option<BrokerId>,
    /// The last leader, remembered while there is none, for the operator.
    pub last_known_leader: Option<BrokerId>,
    /// Counts the leaderships of this partition.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes of this registration.
    pub partition_epoch: PartitionEpoch,
    /// How many committed ISR members the high watermark needs (the topic's min.insync.replicas);
    /// part of the registration so that changing it is one step with everything that follows from
    /// it (R8).
    pub min_insync_replicas: u32,
}

impl PartitionRegistration {
    /// The ISR size that writes need: min.insync.replicas, but never more than there are replicas
    /// (R1).
    pub fn effective_min_insync_replicas(&self) -> usize {
        (self.min_insync_replicas as usize).min(self.replicas.len())
    }
}
