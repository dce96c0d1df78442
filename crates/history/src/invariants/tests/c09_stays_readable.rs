//! Histories for C9.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let healed = || What::Healed { owed: Vec::new() };
    let seen = || vec![send(1, 1, &[10, 11]), read(1, 0, 2, &[(0, 10), (1, 11)])];
    Cases {
        bad: vec![
            (
                "what was read is behind the end",
                history(then(seen(), [read_to_end(0, 1, &[(0, 10)])])),
            ),
            (
                "what was read before healing is behind the end",
                history(then(seen(), [healed(), read_to_end(0, 1, &[(0, 10)])])),
            ),
        ],
        good: vec![
            (
                "it is still there",
                history(then(
                    seen(),
                    [
                        read(2, 1, 2, &[(1, 11)]),
                        read(3, 0, 1, &[(0, 10)]),
                        read_to_end(0, 2, &[(0, 10), (1, 11)]),
                    ],
                )),
            ),
            (
                "what is committed late is read before the last answer arrives",
                history([
                    send(1, 1, &[10, 11]),
                    read(1, 0, 1, &[(0, 10)]),
                    healed(),
                    read(1, 1, 2, &[(1, 11)]),
                    read_to_end(0, 1, &[(0, 10)]),
                ]),
            ),
            (
                "retention deleted it",
                history(then(
                    seen(),
                    [read_from_start(2, 0, 2, &[], 2), read_to_end(2, 2, &[])],
                )),
            ),
            (
                "an unclean election lost it",
                history(then(seen(), then(elected_uncleanly(), [read_to_end(0, 0, &[])]))),
            ),
        ],
    }
}
