//! G14: a partition goes to a new owner only after the old one gave it up, ended, or was removed.
//!
//! A member that was removed for its silence does not know it yet, and may take on what it was assigned long ago. That binds nobody, and
//! nothing that it does so is committed (G13): from its removal until it ends or a coordinator takes it in again, its claims are not held
//! against others.

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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let assigned = |member, partition| What::Assigned {
        group: name("g"),
        member: name(member),
        partitions: vec![topic(partition)],
    };
    let gave_up = |member, partition| What::GaveUp {
        group: name("g"),
        member: name(member),
        partitions: vec![topic(partition)],
    };
    let member = || (name("g"), name("a"));
    let ended = || What::MemberEnded {
        group: member().0,
        member: member().1,
    };
    let removed = || What::MemberRemoved {
        group: member().0,
        member: member().1,
    };
    let joined = || What::MemberJoined {
        group: member().0,
        member: member().1,
    };
    let other_group = What::Assigned {
        group: name("h"),
        member: name("b"),
        partitions: vec![p0()],
    };
    super::tests::Cases {
        bad: vec![
            ("two own it", history([assigned("a", 0), assigned("b", 0)])),
            (
                "it gave another one up",
                history([
                    assigned("a", 0),
                    assigned("a", 1),
                    gave_up("a", 1),
                    assigned("b", 0),
                ]),
            ),
            (
                "a member that was removed once has joined again",
                history([removed(), ended(), assigned("a", 0), assigned("b", 0)]),
            ),
            (
                "it gave itself up before it was removed, and has joined again under its name",
                history([ended(), removed(), joined(), assigned("a", 0), assigned("b", 0)]),
            ),
            (
                "one who does not own it gives it up",
                history([assigned("a", 0), gave_up("c", 0), assigned("b", 0)]),
            ),
        ],
        good: vec![
            (
                "after it was given up",
                history([assigned("a", 0), gave_up("a", 0), assigned("b", 0)]),
            ),
            (
                "after the owner ended",
                history([assigned("a", 0), ended(), assigned("b", 0)]),
            ),
            (
                "after the owner was removed",
                history([assigned("a", 0), removed(), assigned("b", 0)]),
            ),
            ("each group has its own", history([assigned("a", 0), other_group])),
            (
                "a removed member takes on what it was assigned long ago, before and after somebody else",
                history([
                    removed(),
                    assigned("a", 0),
                    assigned("b", 0),
                    assigned("b", 1),
                    assigned("a", 1),
                    ended(),
                ]),
            ),
            (
                "a member is removed after it joined, and does not know yet",
                history([joined(), removed(), assigned("b", 0), assigned("a", 0)]),
            ),
            (
                "a removed member that does not know yet changes nothing",
                history([
                    assigned("a", 0),
                    removed(),
                    assigned("b", 0),
                    gave_up("a", 0),
                    assigned("b", 1),
                ]),
            ),
        ],
    }
}
