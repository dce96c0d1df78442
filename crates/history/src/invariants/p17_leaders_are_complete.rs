//! P17: when a replica becomes leader, its log holds everything that was committed or acknowledged
//! in the epochs before.

use tidelog_types::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::{Outcome, Partition, Replica, Send, World};

#[derive(Default)]
pub(super) struct LeadersAreComplete;

impl Check for LeadersAreComplete {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Leads {
            broker,
            partition,
            epoch,
            ..
        } = moment.what
        else {
            return Ok(());
        };
        let Some(known) = world.judged(*partition) else {
            return Ok(());
        };
        let Some(replica) = known.replicas.get(broker) else {
            return Ok(());
        };
        if let Some(difference) = &world.compared().difference {
            let end = known.committed_before(*epoch);
            let lacks = format!("earlier epochs committed up to {end}, and {difference}");
            return Err(incomplete(*broker, *partition, &lacks));
        }
        match lacks_acknowledged(known, replica, *epoch, world) {
            Some(lacks) => Err(incomplete(*broker, *partition, &lacks)),
            None => Ok(()),
        }
    }
}

/// What was acknowledged above the committed log, as far as it is known, and is not in this one.
fn lacks_acknowledged(
    known: &Partition,
    replica: &Replica,
    epoch: LeaderEpoch,
    world: &World,
) -> Option<String> {
    let earlier = |send: &&Send| match send.outcome {
        Outcome::Acknowledged { leader_epoch, .. } => leader_epoch < epoch,
        _ => false,
    };
    known
        .acknowledged
        .range(known.committed.end()..)
        .find_map(|(base, id)| {
            let send = world.send(*id).filter(earlier)?;
            let mut offsets = (base.0..).map(Offset).zip(&send.values);
            let (offset, value) = offsets.find(|(offset, value)| {
                let entry = replica.entries_from(*offset).next();
                let there = entry
                    .filter(|entry| entry.base_offset <= *offset)
                    .and_then(|entry| entry.values.get(offset.distance_from(entry.base_offset) as usize));
                *offset >= replica.log_start && there != Some(value)
            })?;
            Some(format!(
                "value {} of send {} was acknowledged at offset {offset}, and is not in its log",
                value.0, id.0
            ))
        })
}

fn incomplete(broker: BrokerId, partition: TopicIdPartition, lacks: &str) -> String {
    format!("broker {broker} leads {partition}: {lacks}")
}
