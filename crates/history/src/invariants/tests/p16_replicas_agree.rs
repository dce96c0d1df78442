//! Histories for P16.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let one = || replicated(&entry(0, 1, &[10]));
    Cases {
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
