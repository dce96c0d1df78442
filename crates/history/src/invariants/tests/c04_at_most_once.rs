//! Histories for C4.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    Cases {
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
