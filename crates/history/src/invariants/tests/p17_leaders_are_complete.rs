//! Histories for P17.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let one = || replicated(&entry(0, 1, &[10, 11]));
    let second = || registered(registration(Some(2), 2, 2, &[2, 3], &[]));
    Cases {
        bad: vec![
            (
                "it lacks the tail",
                history(then(one(), [second(), recovered(2, 0, vec![]), leads(2, 2, 2)])),
            ),
            (
                "it has something else in its place",
                history(then(
                    one(),
                    [
                        second(),
                        recovered(2, 0, vec![entry(0, 1, &[10, 12])]),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "it lacks what was acknowledged too early",
                history(then(
                    then(vec![send(1, 1, &[12])], one()),
                    [
                        appends(1, entry(2, 1, &[12])),
                        acked(1, 2, 1),
                        second(),
                        leads(2, 2, 2),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "it has all of it, and more",
                history(then(
                    one(),
                    [copies(2, entry(2, 1, &[12])), second(), leads(2, 2, 2)],
                )),
            ),
            (
                "it has what retention left",
                history(then(
                    one(),
                    [
                        second(),
                        recovered(2, 1, vec![entry(0, 1, &[10, 11])]),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "a broker hears late that it led, of an epoch that is over",
                history(then(
                    one(),
                    [
                        second(),
                        registered(registration(Some(3), 3, 3, &[1, 3], &[])),
                        leads(3, 3, 3),
                        appends(3, entry(2, 3, &[12])),
                        copies(1, entry(2, 3, &[12])),
                        durable(3, 3),
                        durable(1, 3),
                        commits(3, 3, 3),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "that it led in an epoch that is over, after a restarted replica told what later ones committed",
                history(then(
                    one(),
                    [
                        second(),
                        registered(registration(Some(3), 3, 3, &[1, 3], &[])),
                        leads(3, 3, 3),
                        appends(3, entry(2, 3, &[12])),
                        copies(1, entry(2, 3, &[12])),
                        durable(3, 3),
                        durable(1, 3),
                        commits(3, 3, 3),
                        recovered(1, 0, vec![entry(0, 1, &[10, 11]), entry(2, 3, &[12])]),
                        learns(1, 1, 3),
                        leads(2, 2, 2),
                    ],
                )),
            ),
            (
                "an unclean leader may lack it",
                history(then(
                    one(),
                    then(elected_uncleanly(), [recovered(3, 0, vec![]), leads(3, 2, 2)]),
                )),
            ),
        ],
    }
}
