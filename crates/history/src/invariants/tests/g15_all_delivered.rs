//! Histories for G15.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![send(1, 1, &[10, 11])];
    Cases {
        bad: vec![
            (
                "a record that is read was not delivered",
                history(then(
                    sent(),
                    [read_to_end(0, 2, &[(0, 10), (1, 11)]), delivered(0), settled()],
                )),
            ),
            (
                "a committed record was not delivered",
                history(then(
                    replicated(&entry(0, 1, &[10, 11])),
                    [delivered(1), settled()],
                )),
            ),
        ],
        good: vec![
            (
                "all were, one twice",
                history(then(
                    sent(),
                    [
                        delivered(0),
                        delivered(0),
                        delivered(1),
                        read_to_end(0, 2, &[(0, 10), (1, 11)]),
                        settled(),
                    ],
                )),
            ),
            (
                "what retention deleted need not be",
                history(then(
                    replicated(&entry(0, 1, &[10, 11])),
                    [trimmed(1, 1), delivered(1), settled()],
                )),
            ),
        ],
    }
}
