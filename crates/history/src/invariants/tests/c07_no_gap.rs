//! Histories for C7.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![send(1, 1, &[10, 11, 12, 13])];
    let with = |events: Vec<What>| history(then(sent(), events));
    Cases {
        bad: vec![
            (
                "an offset is skipped",
                with(vec![read(1, 0, 3, &[(0, 10), (2, 12)])]),
            ),
            (
                "the last offset is missing",
                with(vec![read(1, 0, 2, &[(0, 10)])]),
            ),
            (
                "an answer begins before it was asked",
                with(vec![read(1, 1, 2, &[(0, 10), (1, 11)])]),
            ),
            ("offsets fall", with(vec![read(1, 0, 2, &[(1, 11), (0, 10)])])),
            (
                "a reader skips a record between two answers",
                with(vec![read(1, 0, 1, &[(0, 10)]), read(1, 2, 3, &[(2, 12)])]),
            ),
            (
                "reading to the end leaves one out",
                with(vec![read_to_end(0, 2, &[(1, 11)])]),
            ),
            (
                "the log start that explains the gap is no replica's",
                with(vec![
                    recovered(1, 0, vec![entry(0, 1, &[10, 11, 12, 13])]),
                    trimmed(1, 1),
                    read_from_start(1, 0, 3, &[(2, 12)], 2),
                ]),
            ),
        ],
        good: vec![
            (
                "one answer goes on where the other ended",
                with(vec![
                    read(1, 0, 1, &[(0, 10)]),
                    read(1, 1, 1, &[]),
                    read(1, 1, 3, &[(1, 11), (2, 12)]),
                ]),
            ),
            (
                "what lies below the log start may be missing",
                with(vec![
                    read_from_start(1, 0, 3, &[(2, 12)], 2),
                    read_to_end(2, 3, &[(2, 12)]),
                    read_from_start(1, 3, 3, &[], 2),
                ]),
            ),
            (
                "a replica was trimmed up to the log start that explains the gap",
                with(vec![
                    recovered(1, 0, vec![entry(0, 1, &[10, 11, 12, 13])]),
                    trimmed(1, 2),
                    read_from_start(1, 0, 3, &[(2, 12)], 2),
                ]),
            ),
            (
                "a reader skips what was deleted meanwhile",
                with(vec![
                    read(1, 0, 1, &[(0, 10)]),
                    read_from_start(1, 2, 3, &[(2, 12)], 2),
                ]),
            ),
            (
                "a reader goes back",
                with(vec![read(1, 0, 1, &[(0, 10)]), read(1, 0, 1, &[(0, 10)])]),
            ),
        ],
    }
}
