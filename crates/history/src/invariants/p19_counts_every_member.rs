//! P19: the leader waits for every member of the committed ISR of its epoch; it may wait for more.

use tidelog_types::{BrokerId, LeaderEpoch, PartitionRegistration, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct CountsEveryMember {
    counts: Map<TopicIdPartition, Counts>,
}

/// Whom a leader waits for.
struct Counts {
    broker: BrokerId,
    epoch: LeaderEpoch,
    members: Vec<BrokerId>,
    position: usize,
}

impl Check for CountsEveryMember {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let partition = match moment.what {
            What::Counts {
                broker,
                partition,
                epoch,
                members,
            } => {
                let newest = self.counts.get(partition).map(|counts| counts.epoch);
                // A deposed leader may count on for a while; nobody is bound by it.
                if newest > Some(*epoch) {
                    return Ok(());
                }
                let counts = Counts {
                    broker: *broker,
                    epoch: *epoch,
                    members: members.clone(),
                    position: moment.position,
                };
                self.counts.insert(*partition, counts);
                *partition
            }
            What::Registered { partition, .. } => *partition,
            _ => return Ok(()),
        };
        let registration = world
            .partition(partition)
            .and_then(|known| known.registration.as_ref());
        match (self.counts.get(&partition), registration) {
            (Some(counts), Some(registration)) => counts.cover(registration, partition),
            _ => Ok(()),
        }
    }
}

impl Counts {
    fn cover(&self, registration: &PartitionRegistration, partition: TopicIdPartition) -> Verdict {
        if self.epoch != registration.leader_epoch {
            return Ok(());
        }
        let uncounted = |member: &&BrokerId| !self.members.contains(*member);
        match registration.isr.iter().find(uncounted) {
            Some(member) => Err(format!(
                "broker {member} is in the committed ISR of {partition} in epoch {}, and leader {} does not wait for it (#{})",
                self.epoch, self.broker, self.position
            )),
            None => Ok(()),
        }
    }
}
