//! P20: an epoch belongs to one life of one broker, and only that appends in it as a leader.

use tidelog_types::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{Life, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneLeader {
    /// Whose each epoch is, and the event by which it became so.
    leaders: Map<(TopicIdPartition, LeaderEpoch), (BrokerId, Life, usize)>,
}

impl Check for OneLeader {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Leads {
                broker,
                life,
                partition,
                epoch,
            } => {
                let leader = (*broker, *life, moment.position);
                let (first, first_life, position) =
                    *self.leaders.entry((*partition, *epoch)).or_insert(leader);
                if (first, first_life) == (*broker, *life) {
                    return Ok(());
                }
                Err(format!(
                    "broker {broker} in life {} leads {partition} in epoch {epoch}, as broker {first} in life {} did by #{position}",
                    life.0, first_life.0
                ))
            }
            What::Appended {
                broker,
                partition,
                entry,
                leading: true,
            } => {
                let leads = world
                    .replica(*partition, *broker)
                    .and_then(|replica| replica.leads);
                if leads == Some(entry.leader_epoch) {
                    return Ok(());
                }
                let epoch = leads.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
                Err(format!(
                    "broker {broker} appends at offset {} of {partition} in epoch {}, and the epoch it leads in is {epoch}",
                    entry.base_offset, entry.leader_epoch
                ))
            }
            _ => Ok(()),
        }
    }
}
