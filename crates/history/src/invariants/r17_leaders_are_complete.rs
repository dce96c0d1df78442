//! R17: when a replica becomes leader, its log holds everything that was committed or acknowledged in the epochs before.

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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let one = || replicated(&entry(0, 1, &[10, 11]));
    let second = || registered(registration(Some(2), 2, 2, &[2, 3], &[]));
    super::tests::Cases {
        bad: vec![
            (
                "it lacks the tail",
                history(then(one(), [second(), recovered(2, 0, vec![]), leads(2, 2, 2)])),
            ),
            (
                "it has something else in its place",
                history(then(
                    one(),
                    [
                        second(),
                        recovered(2, 0, vec![entry(0, 1, &[10, 12])]),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "it lacks what was acknowledged too early",
                history(then(
                    then(vec![send(1, 1, &[12])], one()),
                    [
                        appends(1, entry(2, 1, &[12])),
                        acked(1, 2, 1),
                        second(),
                        leads(2, 2, 2),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "it has all of it, and more",
                history(then(
                    one(),
                    [copies(2, entry(2, 1, &[12])), second(), leads(2, 2, 2)],
                )),
            ),
            (
                "it has what retention left",
                history(then(
                    one(),
                    [
                        second(),
                        recovered(2, 1, vec![entry(0, 1, &[10, 11])]),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "a broker hears late that it led, of an epoch that is over",
                history(then(
                    one(),
                    [
                        second(),
                        registered(registration(Some(3), 3, 3, &[1, 3], &[])),
                        leads(3, 3, 3),
                        appends(3, entry(2, 3, &[12])),
                        copies(1, entry(2, 3, &[12])),
                        durable(3, 3),
                        durable(1, 3),
                        commits(3, 3, 3),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "that it led in an epoch that is over, after a restarted replica told what later ones committed",
                history(then(
                    one(),
                    [
                        second(),
                        registered(registration(Some(3), 3, 3, &[1, 3], &[])),
                        leads(3, 3, 3),
                        appends(3, entry(2, 3, &[12])),
                        copies(1, entry(2, 3, &[12])),
                        durable(3, 3),
                        durable(1, 3),
                        commits(3, 3, 3),
                        recovered(1, 0, vec![entry(0, 1, &[10, 11]), entry(2, 3, &[12])]),
                        learns(1, 1, 3),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "an unclean leader may lack it",
                history(then(
                    one(),
                    then(elected_uncleanly(), [recovered(3, 0, vec![]), leads(3, 2, 2)]),
                )),
            ),
        ],
    }
}
