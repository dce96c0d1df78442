//! C6: the records of an idempotent producer stand in the order in which it sent them.

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::{SendId, Sender, Value, What};
use crate::hash::Map;
use crate::world::World;

/// Of each sender the last value seen in a log: its send, and its place in there.
type Last = Map<Sender, (SendId, usize)>;

#[derive(Default)]
pub(super) struct SendOrder {
    committed: Map<TopicIdPartition, Last>,
}

impl Check for SendOrder {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Read {
                partition, records, ..
            }
            | What::ReadToEnd {
                partition, records, ..
            } => {
                let mut last = Last::default();
                records
                    .iter()
                    .try_for_each(|record| follows(&mut last, record.value, *partition, world))
            }
            What::HighWatermark { partition, .. } => {
                let last = self.committed.entry(*partition).or_default();
                let committed = &world.compared().committed;
                committed
                    .iter()
                    .flat_map(|entry| &entry.values)
                    .try_for_each(|value| follows(last, *value, *partition, world))
            }
            _ => Ok(()),
        }
    }
}

fn follows(last: &mut Last, value: Value, partition: TopicIdPartition, world: &World) -> Verdict {
    let Some((id, send, index)) = world.sent(value) else {
        return Ok(());
    };
    if !send.idempotent {
        return Ok(());
    }
    match last.insert(send.sender, (id, index)) {
        Some(before) if before > (id, index) => Err(format!(
            "in {partition}, sender {} has record {index} of its send {} (began by #{}) behind record {} of its send {}",
            send.sender.0, id.0, send.began, before.1, before.0.0
        )),
        _ => Ok(()),
    }
}
