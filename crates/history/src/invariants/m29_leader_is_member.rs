//! M29: a leader is in the ISR, and came from the ISR or ELR before, unless the topic allows an
//! unclean election. Whether one was unclean the registrations show, and not whoever held it.
//!
//! One command may let a replica join the ISR and move the leadership to it, when the leader is
//! about to stop. So a replica that the leader of the epoch before already waited for may be
//! elected, too.

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
