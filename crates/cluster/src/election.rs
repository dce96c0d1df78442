//! Who leads one partition, and who may lead it next (R8, KIP-966).
//!
//! 1. The ISR becomes the target ISR. Whoever leaves it, while what is left is smaller than
//!    min.insync.replicas, becomes an eligible leader replica: the high watermark stands still
//!    below the minimum, so it lacks nothing that was acknowledged. With the minimum reached, the
//!    watermark may move without them, and nobody is eligible but the ISR.
//! 2. The leader stays if it is in the ISR and active. Else the first active ISR member in replica
//!    order leads, else one that is draining but still there; with an empty ISR the first eligible
//!    leader replica; else, where the topic asks for it, any replica that is alive; else nobody,
//!    and the last leader is remembered.
//! 3. A change of leader, also to nobody, raises the leader epoch. Any change raises the partition
//!    epoch (M28).

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BrokerId, PartitionRegistration};

use crate::image::ClusterImage;

/// A partition about to change.
#[derive(Debug, Clone)]
pub struct Election<'a> {
    /// As it is registered.
    pub registration: &'a PartitionRegistration,
    /// The ISR that it shall have: unfenced brokers only.
    pub isr: Vec<BrokerId>,
    /// A replica whose disk is gone: it is not eligible, whatever it was before.
    pub lost: Option<BrokerId>,
    /// Whether the topic would rather have a leader that may lack acknowledged records than none.
    pub unclean_allowed: bool,
    /// Whether the preferred leader takes over from a valid one, if it is in sync and active.
    pub prefer_first: bool,
}

/// What an election came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// The new registration.
    pub registration: PartitionRegistration,
    /// Whether its leader may lack acknowledged records.
    pub unclean: bool,
}

/// Where a leader was found.
enum Found {
    InSync(BrokerId),
    Eligible(BrokerId),
    Unclean(BrokerId),
    Nobody,
}

impl<'a> Election<'a> {
    /// An election that keeps the ISR as it is.
    pub fn of(registration: &'a PartitionRegistration, unclean_allowed: bool) -> Self {
        Self {
            registration,
            isr: registration.isr.clone(),
            lost: None,
            unclean_allowed,
            prefer_first: false,
        }
    }

    /// The same with another ISR.
    #[must_use]
    pub fn with_isr(mut self, isr: Vec<BrokerId>) -> Self {
        self.isr = isr;
        self
    }

    /// The same without one replica in ISR.
    #[must_use]
    pub fn without(mut self, broker: BrokerId) -> Self {
        self.isr.retain(|member| *member != broker);
        self
    }

    /// The new registration, if anything differs from the old one. Brokers are alive as `image` has
    /// them.
    pub fn hold(mut self, image: &ClusterImage) -> Option<Elected> {
        self.drop_draining(image);
        self.isr = self.in_replica_order(&self.isr);
        let mut elr = self.eligible();
        let mut isr = std::mem::take(&mut self.isr);
        let found = self.find_leader(&isr, &elr, image);
        let (leader, unclean) = match found {
            Found::InSync(leader) => (Some(leader), false),
            Found::Eligible(leader) => {
                isr = vec![leader];
                elr.retain(|member| *member != leader);
                (Some(leader), false)
            }
            Found::Unclean(leader) => {
                isr = vec![leader];
                elr.clear();
                (Some(leader), true)
            }
            Found::Nobody => (None, false),
        };
        if isr.len() >= self.registration.effective_min_insync_replicas() {
            elr.clear();
        }
        self.registered(isr, elr, leader, unclean)
    }

    /// A broker that is about to stop leaves the ISR, unless it is all there is.
    fn drop_draining(&mut self, image: &ClusterImage) {
        if self.isr.iter().any(|member| image.is_active(*member)) {
            self.isr.retain(|member| image.is_active(*member));
        }
    }

    fn in_replica_order(&self, members: &[BrokerId]) -> Vec<BrokerId> {
        self.registration
            .replicas
            .iter()
            .filter(|replica| members.contains(replica))
            .copied()
            .collect()
    }

    fn eligible(&self) -> Vec<BrokerId> {
        let old = self.registration;
        let was_eligible = |replica: &BrokerId| {
            let dropped = mutant::is_on(Mutant::DropEligibleLeader) && old.leader == Some(*replica);
            (old.isr.contains(replica) && !dropped) || old.elr.contains(replica)
        };
        old.replicas
            .iter()
            .filter(|replica| {
                was_eligible(replica) && !self.isr.contains(replica) && self.lost != Some(**replica)
            })
            .copied()
            .collect()
    }

    fn find_leader(&self, isr: &[BrokerId], elr: &[BrokerId], image: &ClusterImage) -> Found {
        let active = |member: &&BrokerId| image.is_active(**member);
        let unfenced = |member: &&BrokerId| image.is_unfenced(**member);
        let old = self.registration;
        let preferred = old.replicas.first().filter(|_| self.prefer_first);
        let stays = old.leader.as_ref();
        if let Some(leader) = preferred
            .filter(active)
            .filter(|leader| isr.contains(leader))
            .or_else(|| stays.filter(active).filter(|leader| isr.contains(leader)))
            .or_else(|| isr.iter().find(active))
            .or_else(|| stays.filter(unfenced).filter(|leader| isr.contains(leader)))
            .or_else(|| isr.iter().find(unfenced))
        {
            return Found::InSync(*leader);
        }
        if !isr.is_empty() {
            return Found::Nobody;
        }
        if let Some(leader) = elr.iter().find(active) {
            return Found::Eligible(*leader);
        }
        match old.replicas.iter().find(active) {
            Some(leader) if mutant::is_on(Mutant::ElectOutsideIsr) => Found::InSync(*leader),
            Some(leader) if self.unclean_allowed => Found::Unclean(*leader),
            _ => Found::Nobody,
        }
    }

    fn registered(
        &self,
        isr: Vec<BrokerId>,
        elr: Vec<BrokerId>,
        leader: Option<BrokerId>,
        unclean: bool,
    ) -> Option<Elected> {
        let old = self.registration;
        let moved = leader != old.leader;
        let last_known_leader = if leader.is_some() {
            None
        } else {
            old.leader.or(old.last_known_leader)
        };
        let same_isr = old.isr.len() == isr.len() && old.isr.iter().all(|member| isr.contains(member));
        let same_elr = old.elr.len() == elr.len() && old.elr.iter().all(|member| elr.contains(member));
        if !moved && same_isr && same_elr && last_known_leader == old.last_known_leader {
            return None;
        }
        let registration = PartitionRegistration {
            replicas: old.replicas.clone(),
            isr,
            elr,
            leader,
            last_known_leader,
            leader_epoch: if moved {
                old.leader_epoch.next()
            } else {
                old.leader_epoch
            },
            partition_epoch: old.partition_epoch.next(),
            min_insync_replicas: old.min_insync_replicas,
        };
        Some(Elected {
            registration,
            unclean,
        })
    }
}
