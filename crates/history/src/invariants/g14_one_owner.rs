//! G14: a partition goes to a new owner only after the old one gave it up, ended, or was removed.
//!
//! A member that was removed for its silence does not know it yet, and may take on what it was
//! assigned long ago. That binds nobody, and nothing that it does so is committed (G13): from its
//! removal until it ends or a coordinator takes it in again, its claims are not held against
//! others.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::{Name, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneOwner {
    groups: Map<Name, Group>,
}

#[derive(Default)]
struct Group {
    /// The partitions that are owned, by whom, and the event that gave them.
    owners: BTreeMap<TopicIdPartition, (Name, usize)>,
    /// Members that were removed, have not ended, and have not joined again.
    removed: BTreeSet<Name>,
}

impl Check for OneOwner {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        match moment.what {
            What::Assigned {
                group,
                member,
                partitions,
            } => {
                let known = self.groups.entry(Name::clone(group)).or_default();
                for partition in partitions {
                    known.assign(member, *partition, moment.position).map_err(|(owner, position)| {
                        format!(
                            "member {member} of group {group} takes {partition} on, and {owner} owns it since #{position}"
                        )
                    })?;
                }
            }
            What::GaveUp {
                group,
                member,
                partitions,
            } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known
                        .owners
                        .retain(|partition, (owner, _)| owner != member || !partitions.contains(partition));
                }
            }
            What::MemberJoined { group, member } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.removed.remove(member);
                }
            }
            What::MemberEnded { group, member } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.owners.retain(|_, (owner, _)| owner != member);
                    known.removed.remove(member);
                }
            }
            What::MemberRemoved { group, member } => {
                let known = self.groups.entry(Name::clone(group)).or_default();
                known.owners.retain(|_, (owner, _)| owner != member);
                known.removed.insert(Name::clone(member));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Group {
    /// Gives a partition to a member, unless another one owns it.
    fn assign(
        &mut self,
        member: &Name,
        partition: TopicIdPartition,
        position: usize,
    ) -> Result<(), (Name, usize)> {
        let other = self.owners.get(&partition).filter(|(owner, _)| owner != member);
        if let Some((owner, since)) = other
            && !self.removed.contains(owner)
        {
            if self.removed.contains(member) {
                return Ok(());
            }
            return Err((Name::clone(owner), *since));
        }
        self.owners.insert(partition, (Name::clone(member), position));
        Ok(())
    }
}
