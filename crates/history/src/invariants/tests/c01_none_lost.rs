//! Histories for C1.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![send(1, 1, &[10, 11]), acked(1, 0, 1)];
    Cases {
        bad: vec![
            (
                "the tail is lost",
                history(then(sent(), [read_to_end(0, 1, &[(0, 10)])])),
            ),
            ("all is lost", history(then(sent(), [read_to_end(0, 0, &[])]))),
            (
                "another value stands in its place",
                history(then(
                    vec![plain_send(2, 2, &[12])],
                    then(sent(), [read_to_end(0, 2, &[(0, 10), (1, 12)])]),
                )),
            ),
        ],
        good: vec![
            (
                "all is there",
                history(then(sent(), [read_to_end(0, 2, &[(0, 10), (1, 11)])])),
            ),
            (
                "what lies below the log start is gone by right",
                history(then(sent(), [read_to_end(1, 2, &[(1, 11)])])),
            ),
            (
                "nothing is owed of what is unknown",
                history([send(1, 1, &[10]), read_to_end(0, 0, &[])]),
            ),
            (
                "an unclean election may lose it",
                history(then(sent(), then(elected_uncleanly(), [read_to_end(0, 0, &[])]))),
            ),
        ],
    }
}
