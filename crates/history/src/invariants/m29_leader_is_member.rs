//! M29: a leader is in the ISR, and came from the ISR or ELR before, unless the topic allows an unclean election. Whether one was unclean
//! the registrations show, and not whoever held it.
//!
//! One command may let a replica join the ISR and move the leadership to it, when the leader is about to stop. So a replica that the leader
//! of the epoch before already waited for may be elected, too.

use tidelog_types::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct LeaderIsMember {
    /// Whom the newest leader waits for, and its epoch.
    counted: Map<TopicIdPartition, (LeaderEpoch, Vec<BrokerId>)>,
}

impl Check for LeaderIsMember {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        if let What::Counts {
            partition,
            epoch,
            members,
            ..
        } = moment.what
        {
            let newest = self.counted.entry(*partition).or_default();
            if *epoch >= newest.0 {
                *newest = (*epoch, members.clone());
            }
        }
        let What::Registered {
            partition,
            registration,
        } = moment.what
        else {
            return Ok(());
        };
        let Some(leader) = registration.leader else {
            return Ok(());
        };
        if !registration.isr.contains(&leader) {
            return Err(format!(
                "broker {leader} leads {partition} in epoch {} and is not in its ISR",
                registration.leader_epoch
            ));
        }
        let known = world.partition(*partition);
        if known
            .and_then(|known| known.elects_outsider(registration))
            .is_none()
            || world.allows_unclean(partition.topic_id)
        {
            return Ok(());
        }
        let before = known.and_then(|known| Some(known.registration.as_ref()?.leader_epoch));
        let counted = self.counted.get(partition);
        if counted.is_some_and(|(epoch, members)| Some(*epoch) == before && members.contains(&leader)) {
            return Ok(());
        }
        Err(format!(
            "broker {leader} is elected to lead {partition} in epoch {}, and was neither in the ISR nor in the ELR",
            registration.leader_epoch
        ))
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let state =
        |leader, epoch, isr: &[u32], elr: &[u32]| registered(registration(leader, epoch, epoch, isr, elr));
    let counts = |epoch, members: &[u32]| What::Counts {
        broker: broker(1),
        partition: p0(),
        epoch: LeaderEpoch(epoch),
        members: brokers(members),
    };
    super::tests::Cases {
        bad: vec![
            (
                "one is elected that a leader long ago waited for",
                history([
                    state(Some(1), 1, &[1, 2], &[]),
                    counts(1, &[1, 2, 3]),
                    state(Some(1), 2, &[1, 2], &[]),
                    counts(2, &[1, 2]),
                    state(Some(3), 3, &[3], &[]),
                ]),
            ),
            (
                "a leader outside of its ISR",
                history([state(Some(3), 1, &[1, 2], &[])]),
            ),
            (
                "one is elected that was no member",
                history([state(Some(1), 1, &[1, 2], &[]), state(Some(3), 2, &[3], &[])]),
            ),
            (
                "one is elected that was no member, after a time without a leader",
                history([
                    state(Some(1), 1, &[1], &[]),
                    state(None, 2, &[], &[1]),
                    state(Some(3), 3, &[3], &[]),
                ]),
            ),
            (
                "another topic allows it",
                history([
                    What::UncleanElection {
                        topic: tidelog_types::TopicId::from_slice(&[8; 16]).unwrap(),
                        allowed: true,
                    },
                    state(Some(1), 1, &[1], &[]),
                    state(Some(3), 2, &[3], &[]),
                ]),
            ),
            (
                "the topic allows it no more",
                history(then(
                    elected_uncleanly(),
                    [
                        unclean_election(false),
                        registered(registration(Some(2), 3, 10, &[2], &[])),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "from the ISR, then from the ELR",
                history([
                    state(Some(1), 1, &[1, 2, 3], &[]),
                    state(Some(2), 2, &[2], &[1]),
                    state(None, 3, &[], &[1, 2]),
                    state(Some(1), 4, &[1], &[2]),
                ]),
            ),
            (
                "one that joins and takes over at once",
                history([
                    state(Some(1), 1, &[1, 2], &[]),
                    counts(1, &[1, 2, 3]),
                    state(Some(3), 2, &[2, 3], &[]),
                ]),
            ),
            (
                "an unclean one, where the topic allows it",
                history(elected_uncleanly()),
            ),
        ],
    }
}
