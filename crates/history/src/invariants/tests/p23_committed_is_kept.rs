//! Histories for P23.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let one = || replicated(&entry(0, 1, &[10]));
    Cases {
        bad: vec![
            ("what is committed", history(then(one(), [truncated(2, 0)]))),
            (
                "what the replica knew to be committed",
                history(then(one(), [learns(2, 1, 1), truncated(2, 0)])),
            ),
            (
                "what this replica alone calls committed",
                history([copies(2, entry(0, 1, &[10])), learns(2, 1, 1), truncated(2, 0)]),
            ),
            (
                "what a member holds",
                history([
                    copies(2, entry(0, 0, &[10])),
                    durable(2, 1),
                    registered(registration(Some(3), 2, 2, &[2, 3], &[])),
                    recovered(3, 0, vec![entry(0, 0, &[10])]),
                    leads(3, 1, 2),
                    commits(3, 2, 1),
                    truncated(2, 0),
                ]),
            ),
            (
                "more than what differs",
                history(then(one(), [copies(2, entry(1, 1, &[11])), truncated(2, 0)])),
            ),
        ],
        good: vec![
            (
                "what is not committed",
                history(then(
                    one(),
                    [copies(2, entry(1, 1, &[11])), truncated(2, 1), truncated(2, 5)],
                )),
            ),
            (
                "what differs from the committed log",
                history(then(
                    one(),
                    [recovered(2, 0, vec![entry(0, 0, &[11])]), truncated(2, 0)],
                )),
            ),
            (
                "what came back because an earlier truncation did not reach the disk",
                history([
                    recovered(2, 0, vec![entry(0, 0, &[11])]),
                    truncated(2, 0),
                    copies(2, entry(0, 1, &[10])),
                    learns(2, 1, 1),
                    recovered(2, 0, vec![entry(0, 0, &[11])]),
                    truncated(2, 0),
                ]),
            ),
            (
                "what retention deleted elsewhere",
                history(then(
                    one(),
                    [learns(2, 1, 1), trimmed(1, 1), truncated(2, 0), trimmed(2, 1)],
                )),
            ),
            (
                "what nobody counts on, by a leader that is deposed",
                history([
                    copies(2, entry(0, 0, &[10])),
                    registered(registration(Some(3), 2, 2, &[3], &[])),
                    recovered(3, 0, vec![entry(0, 0, &[10])]),
                    leads(3, 1, 2),
                    commits(3, 2, 1),
                    truncated(2, 0),
                ]),
            ),
            (
                "what an unclean election gave up",
                history(then(one(), then(elected_uncleanly(), [truncated(2, 0)]))),
            ),
        ],
    }
}
