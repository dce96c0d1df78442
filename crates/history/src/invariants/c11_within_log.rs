//! C11: an offset that a leader tells lies within its log.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct WithinLog;

impl Check for WithinLog {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::TellsOffset {
            broker,
            partition,
            offset,
        } = moment.what
        else {
            return Ok(());
        };
        let (log_start, end) = world
            .replica(*partition, *broker)
            .map(|replica| (replica.log_start, replica.end))
            .unwrap_or_default();
        if (log_start..=end).contains(offset) {
            return Ok(());
        }
        Err(format!(
            "broker {broker} tells offset {offset} of {partition}, and its log goes from {log_start} to {end}"
        ))
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let tells = |offset| What::TellsOffset {
        broker: broker(1),
        partition: p0(),
        offset: tidelog_types::Offset(offset),
    };
    let log = || vec![recovered(1, 2, vec![entry(0, 1, &[10, 11, 12, 13])])];
    super::tests::Cases {
        bad: vec![
            ("past the end", history(then(log(), [tells(5)]))),
            ("before the start", history(then(log(), [tells(1)]))),
            (
                "of a log that was truncated",
                history(then(log(), [truncated(1, 3), tells(4)])),
            ),
        ],
        good: vec![(
            "both ends, and an empty log",
            history(then(log(), [tells(2), tells(4), trimmed(1, 4), tells(4)])),
        )],
    }
}
