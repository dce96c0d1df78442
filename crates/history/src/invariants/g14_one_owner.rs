//! G14: a partition goes to a new owner only after the old one gave it up, ended, or was removed.

use std::collections::BTreeMap;

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::{Name, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneOwner {
    /// Of each group the partitions that are owned, by whom, and the event that gave them.
    owners: Map<Name, BTreeMap<TopicIdPartition, (Name, usize)>>,
}

impl Check for OneOwner {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        match moment.what {
            What::Assigned {
                group,
                member,
                partitions,
            } => {
                let owners = self.owners.entry(Name::clone(group)).or_default();
                for partition in partitions {
                    let owner = (Name::clone(member), moment.position);
                    if let Some((before, position)) = owners.insert(*partition, owner)
                        && before != *member
                    {
                        return Err(format!(
                            "member {member} of group {group} takes {partition} on, and {before} owns it since #{position}"
                        ));
                    }
                }
            }
            What::GaveUp {
                group,
                member,
                partitions,
            } => {
                if let Some(owners) = self.owners.get_mut(group) {
                    owners.retain(|partition, (owner, _)| owner != member || !partitions.contains(partition));
                }
            }
            What::MemberEnded { group, member } | What::MemberRemoved { group, member } => {
                if let Some(owners) = self.owners.get_mut(group) {
                    owners.retain(|_, (owner, _)| owner != member);
                }
            }
            _ => {}
        }
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
