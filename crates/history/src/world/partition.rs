//! One partition: its replicas, what is committed, how metadata registers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_types::{BrokerId, LeaderEpoch, Offset, PartitionRegistration};

use super::committed::Committed;
use super::compared::Compared;
use super::replica::Replica;
use crate::event::SendId;

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    pub(crate) replicas: BTreeMap<BrokerId, Replica>,
    /// What stood on disks that are lost, as it was then.
    pub(crate) lost: Vec<(BrokerId, Replica)>,
    pub(crate) committed: Committed,
    /// Up to where each leader epoch committed it.
    committed_in: BTreeMap<LeaderEpoch, Offset>,
    /// The highest log start that anybody knows: what lies below is gone by right.
    pub(crate) log_start: Offset,
    /// Acknowledged sends by their first offset.
    pub(crate) acknowledged: BTreeMap<Offset, SendId>,
    pub(crate) registration: Option<PartitionRegistration>,
    /// The lowest effective min.insync.replicas that metadata registered in each leader epoch.
    pub(crate) minimums: BTreeMap<LeaderEpoch, usize>,
    /// It had a leader that may lack committed records, which its topic had allowed.
    pub(super) is_unclean: bool,
}

impl Partition {
    pub(super) fn replica(&mut self, broker: BrokerId) -> &mut Replica {
        self.replicas.entry(broker).or_default()
    }

    pub(super) fn begins(&mut self, log_start: Offset) {
        self.log_start = self.log_start.max(log_start);
    }

    /// Takes a leadership: what it must have is compared with what is committed.
    pub(super) fn lead(&mut self, broker: BrokerId, epoch: LeaderEpoch) -> Compared {
        self.replica(broker).leads = Some(epoch);
        let end = self.committed_before(epoch);
        self.compare(broker, end)
    }

    /// Up to where earlier epochs than this one committed the log. A broker may hear of an epoch
    /// when it is over: what later epochs committed meanwhile is not demanded of it.
    pub(crate) fn committed_before(&self, epoch: LeaderEpoch) -> Offset {
        let ends = self.committed_in.range(..epoch).map(|(_, end)| *end);
        ends.max().unwrap_or_default()
    }

    /// Takes a high watermark: what it covers is compared with what is committed already, and the
    /// rest is committed by it.
    ///
    /// In which epoch that was committed only its leader says: who follows, or has just read its
    /// disk, may be in an older one.
    pub(super) fn commit(
        &mut self,
        broker: BrokerId,
        epoch: LeaderEpoch,
        to: Offset,
        leading: bool,
    ) -> Compared {
        let compared = self.compare(broker, to);
        if leading {
            let end = self.committed_in.entry(epoch).or_default();
            *end = (*end).max(to);
        }
        self.replica(broker).high_watermark = to;
        compared
    }

    /// Looks at what the replica has between where it was last found equal and `to`. Each batch is
    /// looked at once.
    fn compare(&mut self, broker: BrokerId, to: Offset) -> Compared {
        let mut compared = Compared::default();
        let replica = self.replicas.entry(broker).or_default();
        if self.is_unclean || to <= replica.agreed {
            return compared;
        }
        for entry in replica.entries_from(replica.agreed) {
            if entry.end_offset() > to {
                break;
            }
            if entry.base_offset >= self.committed.end() {
                self.committed.push(entry);
                compared.committed.push(Arc::clone(entry));
            } else if let Some(difference) = self.committed.difference(entry, replica.log_start) {
                compared.difference = Some(difference);
                return compared;
            }
        }
        if replica.end < to {
            compared.difference = Some(format!("its log ends at {}, before {to}", replica.end));
            return compared;
        }
        self.replica(broker).agreed = to;
        compared
    }

    pub(super) fn lose_disk(&mut self, broker: BrokerId) {
        if let Some(replica) = self.replicas.remove(&broker) {
            self.lost.push((broker, replica));
        }
    }

    /// Whether a leader may be made of this replica as it is, as far as anything is registered.
    pub(crate) fn counts_on(&self, broker: BrokerId) -> bool {
        let known = self.registration.as_ref();
        known.is_none_or(|known| known.isr.contains(&broker) || known.elr.contains(&broker))
    }

    /// The leader that a registration elects although it was no member before, as far as anything
    /// is registered.
    pub(crate) fn elects_outsider(&self, registration: &PartitionRegistration) -> Option<BrokerId> {
        let before = self.registration.as_ref()?;
        if before.leader_epoch == registration.leader_epoch {
            return None;
        }
        registration.leader.filter(|leader| !self.counts_on(*leader))
    }

    /// Takes a registration. `may_be_unclean`: the topic allows a leader that may lack acknowledged
    /// records.
    pub(super) fn register(&mut self, registration: &PartitionRegistration, may_be_unclean: bool) {
        self.is_unclean |= may_be_unclean && self.elects_outsider(registration).is_some();
        let minimum = registration.effective_min_insync_replicas();
        self.minimums
            .entry(registration.leader_epoch)
            .and_modify(|lowest| *lowest = minimum.min(*lowest))
            .or_insert(minimum);
        self.registration = Some(registration.clone());
    }
}
