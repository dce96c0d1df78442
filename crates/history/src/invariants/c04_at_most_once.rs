//! C4: a record of an idempotent producer stands at one offset only.

use tidelog_types::Offset;

use super::{Check, Moment, Verdict};
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct AtMostOnce {
    /// Of each value the offset that it stands at, and the event that told so first.
    places: Paged<(Offset, usize)>,
}

impl Check for AtMostOnce {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        world.show_placed(moment.what, |_, placed| {
            for (offset, value) in placed {
                let Some((id, send, _)) = world.sent(value).filter(|(_, send, _)| send.idempotent) else {
                    continue;
                };
                let now = (offset, moment.position);
                let (before, position) = self.places.get_or_insert(value.0, now);
                if before != offset {
                    return Err(format!(
                        "value {} of the idempotent send {} stands at offset {offset} of {}, and at offset {before} by #{position}",
                        value.0, id.0, send.partition
                    ));
                }
            }
            Ok(())
        })
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
