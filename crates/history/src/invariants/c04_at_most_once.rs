//! C4: a record of an idempotent producer stands at one offset only.

use super::{Check, Moment, Verdict};
use crate::event::{Value, What};
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct AtMostOnce {
    /// Of each value the offset that it stands at, and the event that told so first.
    places: Paged<(u64, usize)>,
}

impl Check for AtMostOnce {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::SendAcknowledged {
                send, base_offset, ..
            } => match world.send(*send) {
                Some(send) => send
                    .values
                    .iter()
                    .zip(base_offset.0..)
                    .try_for_each(|(value, offset)| self.stands(*value, offset, moment, world)),
                None => Ok(()),
            },
            What::Read { records, .. } | What::ReadToEnd { records, .. } => records
                .iter()
                .try_for_each(|record| self.stands(record.value, record.offset.0, moment, world)),
            What::HighWatermark { partition, .. } => {
                let Some(known) = world.partition(*partition) else {
                    return Ok(());
                };
                known
                    .newly_committed
                    .iter()
                    .flat_map(|entry| entry.values.iter().zip(entry.base_offset.0..))
                    .try_for_each(|(value, offset)| self.stands(*value, offset, moment, world))
            }
            _ => Ok(()),
        }
    }
}

impl AtMostOnce {
    fn stands(&mut self, value: Value, offset: u64, moment: &Moment<'_>, world: &World) -> Verdict {
        let Some((id, send, _)) = world.sent(value) else {
            return Ok(());
        };
        if !send.idempotent || world.is_unclean(send.partition) {
            return Ok(());
        }
        let (before, position) = self.places.get_or_insert(value.0, (offset, moment.position));
        if before == offset {
            return Ok(());
        }
        Err(format!(
            "value {} of the idempotent send {} stands at offset {offset} of {}, and at offset {before} by #{position}",
            value.0, id.0, send.partition
        ))
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    super::tests::Cases {
        bad: vec![
            (
                "a retry is stored again",
                history([send(1, 1, &[10]), read(1, 0, 2, &[(0, 10), (1, 10)])]),
            ),
            (
                "a duplicate is answered with another offset than it is read at",
                history([send(1, 1, &[10]), read_to_end(0, 1, &[(0, 10)]), acked(1, 1, 1)]),
            ),
            (
                "a new leader stores it again",
                history(then(
                    then(vec![send(1, 1, &[10])], replicated(&entry(0, 1, &[10]))),
                    [
                        registered(registration(Some(2), 2, 2, &[2, 3], &[])),
                        leads(2, 2, 2),
                        appends(2, entry(1, 2, &[10])),
                        copies(3, entry(1, 2, &[10])),
                        durable(2, 2),
                        durable(3, 2),
                        commits(2, 2, 2),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "each stands once, wherever it is seen",
                history([
                    send(1, 1, &[10, 11]),
                    read(1, 0, 2, &[(0, 10), (1, 11)]),
                    acked(1, 0, 1),
                    read_to_end(0, 2, &[(0, 10), (1, 11)]),
                ]),
            ),
            (
                "a producer without idempotence may repeat itself",
                history([
                    plain_send(1, 1, &[10]),
                    acked(1, 1, 1),
                    read(1, 0, 2, &[(0, 10), (1, 10)]),
                ]),
            ),
        ],
    }
}
