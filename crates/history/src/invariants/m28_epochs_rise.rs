//! M28: each change of a partition raises its partition epoch, each change of its leader the leader
//! epoch too, and no two registrations of brokers share an epoch.

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
