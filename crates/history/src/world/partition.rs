//! One partition: its replicas, what is committed, how metadata registers it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_types::{BrokerId, LeaderEpoch, Offset, PartitionRegistration};

use super::committed::{Committed, Difference};
use super::replica::Replica;
use crate::event::{Entry, SendId};

/// What is known of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partition {
    pub(crate) replicas: BTreeMap<BrokerId, Replica>,
    /// What stood on disks that are lost, as it was then.
    pub(crate) lost: Vec<(BrokerId, Replica)>,
    pub(crate) committed: Committed,
    /// Up to where each leader epoch committed it.
    committed_in: BTreeMap<LeaderEpoch, Offset>,
    /// What the last event committed.
    pub(crate) newly_committed: Vec<Arc<Entry>>,
    /// What the last event, a high watermark or a leadership, showed to differ between its replica and the committed log.
    pub(crate) difference: Option<Difference>,
    /// The highest log start that anybody knows: what lies below is gone by right.
    pub(crate) log_start: Offset,
    /// Acknowledged sends by their first offset.
    pub(crate) acknowledged: BTreeMap<Offset, SendId>,
    pub(crate) registration: Option<PartitionRegistration>,
    /// The lowest effective min.insync.replicas that metadata registered in each leader epoch.
    pub(crate) minimums: BTreeMap<LeaderEpoch, usize>,
    /// It had a leader that may lack committed records.
    pub(crate) is_unclean: bool,
}

impl Partition {
    pub(super) fn replica(&mut self, broker: BrokerId) -> &mut Replica {
        self.replicas.entry(broker).or_default()
    }

    pub(super) fn begins(&mut self, log_start: Offset) {
        self.log_start = self.log_start.max(log_start);
    }

    /// Takes a leadership: what it must have is compared with what is committed.
    pub(super) fn lead(&mut self, broker: BrokerId, epoch: LeaderEpoch) {
        self.replica(broker).leads = Some(epoch);
        let end = self.committed_before(epoch);
        self.compare(broker, end);
    }

    /// Up to where earlier epochs than this one committed the log. A broker may hear of an epoch when it is over: what later epochs
    /// committed meanwhile is not demanded of it.
    pub(crate) fn committed_before(&self, epoch: LeaderEpoch) -> Offset {
        let ends = self.committed_in.range(..epoch).map(|(_, end)| *end);
        ends.max().unwrap_or_default()
    }

    /// Takes a high watermark: what it covers is compared with what is committed already, and the rest is committed by it.
    pub(super) fn commit(&mut self, broker: BrokerId, epoch: LeaderEpoch, to: Offset) {
        self.compare(broker, to);
        let end = self.committed_in.entry(epoch).or_default();
        *end = (*end).max(to);
        let replica = self.replica(broker);
        replica.high_watermark = to;
        replica.surely_committed = to;
    }

    /// Looks at what the replica has between where it was last found equal and `to`. Each batch is looked at once.
    fn compare(&mut self, broker: BrokerId, to: Offset) {
        self.newly_committed.clear();
        self.difference = None;
        let replica = self.replicas.entry(broker).or_default();
        if self.is_unclean || to <= replica.agreed {
            return;
        }
        for entry in replica.entries_from(replica.agreed) {
            if entry.end_offset() > to {
                break;
            }
            if entry.base_offset >= self.committed.end() {
                self.committed.push(entry);
                self.newly_committed.push(Arc::clone(entry));
            } else if let Some(difference) = self.committed.difference(entry, replica.log_start) {
                self.difference = Some(difference);
                return;
            }
        }
        if replica.end < to {
            let message = format!("its log ends at {}, before {to}", replica.end);
            let offset = replica.end;
            self.difference = Some(Difference { offset, message });
            return;
        }
        self.replica(broker).agreed = to;
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

    pub(super) fn register(&mut self, registration: &PartitionRegistration, unclean: bool) {
        self.is_unclean |= unclean;
        let minimum = registration.effective_min_insync_replicas();
        self.minimums
            .entry(registration.leader_epoch)
            .and_modify(|lowest| *lowest = minimum.min(*lowest))
            .or_insert(minimum);
        self.registration = Some(registration.clone());
    }
}
