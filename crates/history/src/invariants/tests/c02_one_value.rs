//! Histories for C2.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![plain_send(1, 1, &[10]), plain_send(2, 2, &[20])];
    Cases {
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
