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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let sent = || vec![send(1, 1, &[10, 11]), send(1, 2, &[12]), send(2, 3, &[20])];
    super::tests::Cases {
        bad: vec![
            (
                "a later send stands first",
                history(then(sent(), [read_to_end(0, 3, &[(0, 12), (1, 10), (2, 11)])])),
            ),
            (
                "a batch is turned around",
                history(then(sent(), [read(1, 0, 2, &[(0, 11), (1, 10)])])),
            ),
            (
                "a later send is committed first",
                history(then(
                    then(sent(), replicated(&entry(0, 1, &[12]))),
                    [
                        appends(1, entry(1, 1, &[10, 11])),
                        copies(2, entry(1, 1, &[10, 11])),
                        copies(3, entry(1, 1, &[10, 11])),
                        durable(1, 3),
                        durable(2, 3),
                        durable(3, 3),
                        commits(1, 1, 3),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "each sender's own order, mixed",
                history(then(
                    sent(),
                    [read_to_end(0, 4, &[(0, 10), (1, 11), (2, 20), (3, 12)])],
                )),
            ),
            (
                "without idempotence a retry may come late",
                history([
                    plain_send(1, 1, &[10]),
                    plain_send(1, 2, &[11]),
                    read_to_end(0, 3, &[(0, 11), (1, 10), (2, 11)]),
                ]),
            ),
        ],
    }
}
