//! Histories for P22.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let log = || {
        vec![
            leads(1, 1, 1),
            appends(1, entry(0, 1, &[10])),
            appends(1, entry(1, 1, &[11])),
        ]
    };
    Cases {
        bad: vec![(
            "it falls",
            history(then(log(), [commits(1, 1, 2), commits(1, 1, 1)])),
        )],
        good: vec![
            (
                "it rises",
                history(then(log(), [commits(1, 1, 1), commits(1, 1, 2)])),
            ),
            (
                "a restarted replica knows less",
                history(then(
                    log(),
                    [
                        commits(1, 1, 2),
                        recovered(1, 0, vec![entry(0, 1, &[10]), entry(1, 1, &[11])]),
                        learns(1, 2, 1),
                        leads(1, 2, 3),
                        commits(1, 3, 1),
                        commits(1, 3, 2),
                    ],
                )),
            ),
        ],
    }
}
