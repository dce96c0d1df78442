//! C2: an offset has one value for ever: in acknowledgements, in what is read, in the committed log.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{Value, What};
use crate::hash::Map;
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneValue {
    /// Of each offset the value, and the event that told it first.
    known: Map<TopicIdPartition, Paged<(Value, usize)>>,
}

impl Check for OneValue {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::SendAcknowledged {
                send, base_offset, ..
            } => match world.send(*send) {
                Some(send) => {
                    let values = (base_offset.0..).zip(send.values.iter().copied());
                    self.learn(send.partition, values, moment, world)
                }
                None => Ok(()),
            },
            What::Read {
                partition, records, ..
            }
            | What::ReadToEnd {
                partition, records, ..
            } => {
                let values = records.iter().map(|record| (record.offset.0, record.value));
                self.learn(*partition, values, moment, world)
            }
            What::HighWatermark { partition, .. } => {
                let Some(known) = world.partition(*partition) else {
                    return Ok(());
                };
                known.newly_committed.iter().try_for_each(|entry| {
                    let values = (entry.base_offset.0..).zip(entry.values.iter().copied());
                    self.learn(*partition, values, moment, world)
                })
            }
            _ => Ok(()),
        }
    }
}

impl OneValue {
    fn learn(
        &mut self,
        partition: TopicIdPartition,
        values: impl Iterator<Item = (u64, Value)>,
        moment: &Moment<'_>,
        world: &World,
    ) -> Verdict {
        if world.is_unclean(partition) {
            return Ok(());
        }
        let known = self.known.entry(partition).or_default();
        for (offset, value) in values {
            let (before, position) = known.get_or_insert(offset, (value, moment.position));
            if before != value {
                return Err(format!(
                    "offset {} of {partition} holds value {}, and held value {} by #{position}",
                    Offset(offset),
                    value.0,
                    before.0
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let sent = || vec![plain_send(1, 1, &[10]), plain_send(2, 2, &[20])];
    super::tests::Cases {
        bad: vec![
            (
                "two readers are handed different records",
                history(then(
                    sent(),
                    [read(1, 0, 1, &[(0, 10)]), read(2, 0, 1, &[(0, 20)])],
                )),
            ),
            (
                "two sends are acknowledged at one offset",
                history(then(sent(), [acked(1, 0, 1), acked(2, 0, 1)])),
            ),
            (
                "a reader is handed another record than the committed one",
                history(then(
                    sent(),
                    then(replicated(&entry(0, 1, &[10])), [read(1, 0, 1, &[(0, 20)])]),
                )),
            ),
        ],
        good: vec![
            (
                "everybody agrees",
                history(then(
                    then(sent(), replicated(&entry(0, 1, &[10]))),
                    [
                        acked(1, 0, 1),
                        read(1, 0, 1, &[(0, 10)]),
                        read(2, 0, 1, &[(0, 10)]),
                        acked(2, 1, 1),
                    ],
                )),
            ),
            (
                "an unclean election may rewrite it",
                history(then(
                    sent(),
                    [
                        read(1, 0, 1, &[(0, 10)]),
                        elected_uncleanly(3, 2, 2),
                        read(2, 0, 1, &[(0, 20)]),
                    ],
                )),
            ),
        ],
    }
}
