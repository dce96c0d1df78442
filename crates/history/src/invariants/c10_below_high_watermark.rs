//! C10: a leader hands consumers nothing above its own high watermark: what it learned in this life, or had noted on its disk.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct BelowHighWatermark;

impl Check for BelowHighWatermark {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Serves {
            broker,
            partition,
            until,
        } = moment.what
        else {
            return Ok(());
        };
        let high_watermark = world
            .replica(*partition, *broker)
            .map(|replica| replica.high_watermark)
            .unwrap_or_default();
        if *until <= high_watermark {
            return Ok(());
        }
        Err(format!(
            "broker {broker} hands out {partition} up to {until}, and its high watermark is {high_watermark}"
        ))
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let serves = |until| What::Serves {
        broker: broker(1),
        partition: p0(),
        until: tidelog_types::Offset(until),
    };
    let one = || replicated(&entry(0, 1, &[10]));
    super::tests::Cases {
        bad: vec![
            (
                "what is not committed yet is served",
                history(then(one(), [appends(1, entry(1, 1, &[11])), serves(2)])),
            ),
            (
                "a lost disk knows of nothing",
                history(then(one(), [disk_lost(1), serves(1)])),
            ),
            (
                "a restarted leader has not noted what its former life knew",
                history(then(
                    one(),
                    [
                        recovered(1, 0, vec![entry(0, 1, &[10])]),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "what is committed is served",
                history(then(one(), [appends(1, entry(1, 1, &[11])), serves(1)])),
            ),
            (
                "a restarted leader goes by the high watermark it noted",
                history(then(
                    one(),
                    [
                        recovered(1, 0, vec![entry(0, 1, &[10])]),
                        learns(1, 1, 1),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
            (
                "and by the log start that its disk has",
                history(then(
                    one(),
                    [
                        recovered(1, 1, vec![entry(0, 1, &[10])]),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
        ],
    }
}
