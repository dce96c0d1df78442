//! Histories for L31.

use super::Cases;
use crate::event::{Owed, What};
use crate::script::*;

pub(super) fn cases() -> Cases {
    let healed = |reads, writes| What::Healed {
        owed: vec![Owed {
            partition: p0(),
            reads,
            writes,
        }],
    };
    let ended = || What::Ended { up: brokers(&[1]) };
    Cases {
        bad: vec![
            (
                "it is not read in time",
                timed([(5, healed(true, false)), (36, read(1, 0, 0, &[]))]),
            ),
            (
                "it is not written in time",
                timed([
                    (5, healed(false, true)),
                    (6, send(1, 1, &[10])),
                    (36, acked(1, 0, 1)),
                ]),
            ),
            (
                "the run breaks off when the time is up",
                timed([(5, healed(true, false)), (35, send(1, 1, &[10]))]),
            ),
            (
                "a send from before healing does not count",
                timed([
                    (4, send(1, 1, &[10])),
                    (5, healed(false, true)),
                    (6, acked(1, 0, 1)),
                    (7, ended()),
                ]),
            ),
            (
                "the run ends without it",
                timed([
                    (5, healed(true, true)),
                    (6, read(1, 0, 0, &[])),
                    (6, read(1, 0, 0, &[])),
                    (7, ended()),
                ]),
            ),
            (
                "the answer to a read from before healing does not count",
                timed([(5, healed(true, false)), (6, read(1, 0, 0, &[])), (7, ended())]),
            ),
            (
                "nor does one of each of two readers",
                timed([
                    (5, healed(true, false)),
                    (6, read(1, 0, 0, &[])),
                    (6, read(2, 0, 0, &[])),
                    (7, ended()),
                ]),
            ),
            (
                "to be told where it ends is not to read it",
                timed([
                    (5, healed(true, false)),
                    (6, end_asked(1, None)),
                    (7, end_answered(1, 0, 1)),
                    (8, ended()),
                ]),
            ),
        ],
        good: vec![
            (
                "it is read and written in time",
                timed([
                    (5, healed(true, true)),
                    (6, send(1, 1, &[10])),
                    (20, acked(1, 0, 1)),
                    (34, read(1, 0, 1, &[(0, 10)])),
                    (35, read(1, 1, 1, &[])),
                    (90, ended()),
                ]),
            ),
            (
                "it is read to its end",
                timed([
                    (5, healed(true, false)),
                    (6, read_to_end(0, 0, &[])),
                    (90, ended()),
                ]),
            ),
            (
                "nothing is owed",
                timed([(5, healed(false, false)), (90, ended())]),
            ),
            (
                "the run breaks off",
                timed([(5, healed(true, true)), (6, send(1, 1, &[10]))]),
            ),
        ],
    }
}
