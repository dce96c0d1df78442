//! R16: below its high watermark a replica has what every other has below its own.
//!
//! Each high watermark commits what it covers, and what is committed is compared batch by batch when the next one covers it. A
//! replica's batches are looked at once in each life.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct ReplicasAgree;

impl Check for ReplicasAgree {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::HighWatermark {
            broker,
            partition,
            to,
            ..
        } = moment.what
        else {
            return Ok(());
        };
        match &world.compared().difference {
            Some(difference) => Err(format!(
                "below the high watermark {to} of broker {broker} in {partition}, {difference}"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let one = || replicated(&entry(0, 1, &[10]));
    super::tests::Cases {
        bad: vec![
            (
                "another value",
                history(then(
                    one(),
                    [recovered(2, 0, vec![entry(0, 1, &[11])]), learns(2, 1, 1)],
                )),
            ),
            (
                "another epoch",
                history(then(
                    one(),
                    [recovered(2, 0, vec![entry(0, 0, &[10])]), learns(2, 1, 1)],
                )),
            ),
            (
                "another producer",
                history(then(
                    one(),
                    [recovered(2, 0, vec![produced(0, 1, &[10], 0)]), learns(2, 1, 1)],
                )),
            ),
            (
                "a high watermark past the end",
                history(then(one(), [learns(2, 1, 2)])),
            ),
        ],
        good: vec![
            (
                "the followers learn of it, a restarted one too",
                history(then(
                    one(),
                    [
                        learns(2, 1, 1),
                        recovered(3, 0, vec![entry(0, 1, &[10])]),
                        learns(3, 1, 1),
                    ],
                )),
            ),
            (
                "what is above may differ until it is truncated",
                history(then(
                    one(),
                    [
                        copies(2, entry(1, 1, &[11])),
                        appends(1, entry(1, 1, &[12])),
                        learns(2, 1, 1),
                        truncated(2, 1),
                        copies(2, entry(1, 1, &[12])),
                    ],
                )),
            ),
            (
                "a log that begins in the midst of a batch",
                history(then(
                    replicated(&entry(0, 1, &[10, 11])),
                    [
                        trimmed(1, 1),
                        recovered(2, 1, vec![entry(1, 1, &[11])]),
                        learns(2, 1, 2),
                    ],
                )),
            ),
            (
                "a follower that begins anew at such a log start copies the whole batch",
                history(then(
                    replicated(&entry(0, 1, &[10, 11])),
                    [
                        trimmed(1, 1),
                        recovered(2, 1, vec![]),
                        copies(2, entry(0, 1, &[10, 11])),
                        learns(2, 1, 2),
                    ],
                )),
            ),
            (
                "an unclean leader has another log",
                history(then(
                    one(),
                    then(
                        elected_uncleanly(),
                        [recovered(3, 0, vec![entry(0, 1, &[13])]), learns(3, 2, 1)],
                    ),
                )),
            ),
        ],
    }
}
