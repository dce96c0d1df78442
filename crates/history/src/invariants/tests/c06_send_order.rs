//! Histories for C6.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![send(1, 1, &[10, 11]), send(1, 2, &[12]), send(2, 3, &[20])];
    Cases {
        bad: vec![
            (
                "a later send stands first",
                history(then(sent(), [read_to_end(0, 3, &[(0, 12), (1, 10), (2, 11)])])),
            ),
            (
                "a batch is turned around",
                history(then(sent(), [read(1, 0, 2, &[(0, 11), (1, 10)])])),
            ),
            (
                "a later send is committed first",
                history(then(
                    then(sent(), replicated(&entry(0, 1, &[12]))),
                    [
                        appends(1, entry(1, 1, &[10, 11])),
                        copies(2, entry(1, 1, &[10, 11])),
                        copies(3, entry(1, 1, &[10, 11])),
                        durable(1, 3),
                        durable(2, 3),
                        durable(3, 3),
                        commits(1, 1, 3),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "each sender's own order, mixed",
                history(then(
                    sent(),
                    [read_to_end(0, 4, &[(0, 10), (1, 11), (2, 20), (3, 12)])],
                )),
            ),
            (
                "without idempotence a retry may come late",
                history([
                    plain_send(1, 1, &[10]),
                    plain_send(1, 2, &[11]),
                    read_to_end(0, 3, &[(0, 11), (1, 10), (2, 11)]),
                ]),
            ),
        ],
    }
}
