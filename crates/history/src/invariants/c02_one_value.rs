//! C2: an offset has one value for ever: in acknowledgements, in what is read, in the committed log.

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::Value;
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
        world.show_placed(moment.what, |partition, placed| {
            let known = self.known.entry(partition).or_default();
            for (offset, value) in placed {
                let (before, position) = known.get_or_insert(offset.0, (value, moment.position));
                if before != value {
                    return Err(format!(
                        "offset {offset} of {partition} holds value {}, and held value {} by #{position}",
                        value.0, before.0
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
                    then(sent(), [read(1, 0, 1, &[(0, 10)])]),
                    then(elected_uncleanly(), [read(2, 0, 1, &[(0, 20)])]),
                )),
            ),
        ],
    }
}
