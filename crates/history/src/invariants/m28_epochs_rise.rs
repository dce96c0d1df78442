//! M28: each change of a partition raises its partition epoch, each change of its leader the leader epoch too, and no two
//! registrations of brokers share an epoch.

use tidelog_types::{BrokerEpoch, BrokerId, PartitionRegistration, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct EpochsOfMetadataRise {
    brokers: Map<BrokerEpoch, usize>,
    newest: Map<BrokerId, (BrokerEpoch, usize)>,
}

impl Check for EpochsOfMetadataRise {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Registered {
                partition,
                registration,
                ..
            } => match world
                .partition(*partition)
                .and_then(|known| known.registration.as_ref())
            {
                Some(before) => rises(before, registration, *partition),
                None => Ok(()),
            },
            What::BrokerRegistered { broker, epoch, .. } => {
                if let Some(position) = self.brokers.insert(*epoch, moment.position) {
                    return Err(format!(
                        "broker {broker} is registered with epoch {epoch}, as #{position} was"
                    ));
                }
                match self.newest.insert(*broker, (*epoch, moment.position)) {
                    Some((before, position)) if before > *epoch => Err(format!(
                        "broker {broker} is registered with epoch {epoch}, and had {before} by #{position}"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn rises(
    before: &PartitionRegistration,
    now: &PartitionRegistration,
    partition: TopicIdPartition,
) -> Verdict {
    if now.partition_epoch <= before.partition_epoch {
        return Err(format!(
            "{partition} changes, and its partition epoch goes from {} to {}",
            before.partition_epoch, now.partition_epoch
        ));
    }
    let must_rise = now.leader != before.leader;
    if now.leader_epoch < before.leader_epoch || (must_rise && now.leader_epoch == before.leader_epoch) {
        let leader =
            |leader: Option<BrokerId>| leader.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        return Err(format!(
            "the leader of {partition} goes from {} to {}, and its leader epoch from {} to {}",
            leader(before.leader),
            leader(now.leader),
            before.leader_epoch,
            now.leader_epoch
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let state = |leader, leader_epoch, partition_epoch| {
        registered(registration(
            leader,
            leader_epoch,
            partition_epoch,
            &[1, 2, 3],
            &[],
        ))
    };
    let broker_registered = |id, epoch| What::BrokerRegistered {
        broker: broker(id),
        epoch: BrokerEpoch(epoch),
        directory: tidelog_types::DirectoryId::from_slice(&[1; 16]).unwrap(),
    };
    super::tests::Cases {
        bad: vec![
            (
                "a change in one partition epoch",
                history([state(Some(1), 1, 1), state(Some(1), 2, 1)]),
            ),
            (
                "a new leader in one leader epoch",
                history([state(Some(1), 1, 1), state(Some(2), 1, 2)]),
            ),
            (
                "the leader epoch falls",
                history([state(Some(1), 2, 1), state(Some(1), 1, 2)]),
            ),
            (
                "two brokers share an epoch",
                history([broker_registered(1, 7), broker_registered(2, 7)]),
            ),
            (
                "a broker's epoch falls",
                history([broker_registered(1, 7), broker_registered(1, 6)]),
            ),
        ],
        good: vec![(
            "all rise",
            history([
                state(Some(1), 1, 1),
                state(Some(1), 1, 2),
                state(None, 2, 3),
                state(Some(1), 3, 4),
                state(Some(1), 4, 5),
                broker_registered(1, 7),
                broker_registered(2, 8),
                broker_registered(1, 9),
            ]),
        )],
    }
}
