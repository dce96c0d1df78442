//! G15: once a group has settled, each of its members' records was handed to one of them.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{Name, What};
use crate::hash::Map;
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct AllDelivered {
    delivered: Map<(Name, TopicIdPartition), Paged<()>>,
    /// Of each partition what was found when it was last read to its end.
    ends: Map<TopicIdPartition, Vec<Offset>>,
}

impl Check for AllDelivered {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Delivered {
                group,
                partition,
                offset,
            } => {
                let key = (Name::clone(group), *partition);
                self.delivered.entry(key).or_default().insert(offset.0, ());
                Ok(())
            }
            What::ReadToEnd {
                partition, records, ..
            } => {
                let offsets = records.iter().map(|record| record.offset).collect();
                self.ends.insert(*partition, offsets);
                Ok(())
            }
            What::GroupSettled { group, partitions } => partitions
                .iter()
                .try_for_each(|partition| self.settled(group, *partition, world)),
            _ => Ok(()),
        }
    }
}

impl AllDelivered {
    fn settled(&self, group: &Name, partition: TopicIdPartition, world: &World) -> Verdict {
        let Some(known) = world.judged(partition) else {
            return Ok(());
        };
        let log_start = known.log_start;
        let delivered = self.delivered.get(&(Name::clone(group), partition));
        let missing = |offset: &Offset| {
            *offset >= log_start && delivered.is_none_or(|delivered| delivered.get(offset.0).is_none())
        };
        let first = match self.ends.get(&partition) {
            Some(offsets) => offsets.iter().copied().find(missing),
            None => known
                .committed
                .entries_from(log_start)
                .iter()
                .flat_map(|entry| (entry.base_offset.0..entry.end_offset().0).map(Offset))
                .find(missing),
        };
        match first {
            Some(offset) => Err(format!(
                "offset {offset} of {partition} was never handed to a member of group {group}"
            )),
            None => Ok(()),
        }
    }
}
