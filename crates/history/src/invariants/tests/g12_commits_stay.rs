//! Histories for G12.

use super::Cases;
use crate::event::CommitResult::{Acknowledged, Refused, Unknown};
use crate::script::*;

pub(super) fn cases() -> Cases {
    let two = || {
        vec![
            commit(1, 5),
            committed(1, Acknowledged),
            commit(2, 9),
            committed(2, Acknowledged),
        ]
    };
    let answers = |request, offset| [offset_asked(request), offset_answered(request, offset)];
    Cases {
        bad: vec![
            (
                "it goes back by itself",
                history(then(two(), answers(3, Some(5)))),
            ),
            ("it is forgotten", history(then(two(), answers(3, None)))),
            ("nobody committed it", history(then(two(), answers(3, Some(7))))),
            (
                "what a deleted group committed comes back",
                history(
                    [
                        &two()[..],
                        &[delete(3), committed(3, Acknowledged)],
                        &answers(4, Some(9)),
                    ]
                    .concat(),
                ),
            ),
            (
                "what was committed after a deletion is forgotten",
                history(
                    [
                        &[delete(1), committed(1, Acknowledged)][..],
                        &two(),
                        &answers(3, None),
                    ]
                    .concat(),
                ),
            ),
            (
                "a refused commit is answered",
                history([&[commit(1, 5), committed(1, Refused)][..], &answers(2, Some(5))].concat()),
            ),
            (
                "a commit that was answered is refused",
                history(
                    [
                        &[commit(1, 5)][..],
                        &answers(2, Some(5)),
                        &[committed(1, Refused)],
                    ]
                    .concat(),
                ),
            ),
            (
                "what was seen of an unknown commit is forgotten",
                history(
                    [
                        &[
                            commit(1, 5),
                            committed(1, Acknowledged),
                            commit(2, 9),
                            committed(2, Unknown),
                        ][..],
                        &answers(3, Some(9)),
                        &answers(4, Some(5)),
                    ]
                    .concat(),
                ),
            ),
        ],
        good: vec![
            (
                "the last one is answered",
                history(then(two(), answers(3, Some(9)))),
            ),
            ("nothing is committed yet", history(answers(1, None))),
            (
                "a deleted group has committed nothing",
                history(
                    [
                        &two()[..],
                        &[delete(3), committed(3, Acknowledged)],
                        &answers(4, None),
                    ]
                    .concat(),
                ),
            ),
            (
                "an unknown deletion may take effect late, or never",
                history(
                    [
                        &two()[..],
                        &[delete(3), committed(3, Unknown)],
                        &answers(4, Some(9)),
                        &answers(5, None),
                    ]
                    .concat(),
                ),
            ),
            (
                "an unknown commit may take effect late, or never",
                history(
                    [
                        &[
                            commit(1, 5),
                            committed(1, Unknown),
                            commit(2, 9),
                            committed(2, Acknowledged),
                        ][..],
                        &answers(3, Some(9)),
                        &answers(4, Some(5)),
                    ]
                    .concat(),
                ),
            ),
            (
                "of two that overlap either may be the last",
                history(
                    [
                        &[
                            commit(1, 5),
                            commit(2, 9),
                            committed(1, Acknowledged),
                            committed(2, Acknowledged),
                        ][..],
                        &answers(3, Some(5)),
                        &answers(4, Some(5)),
                    ]
                    .concat(),
                ),
            ),
            (
                "a commit that ends while one asks may or may not be answered",
                history([
                    commit(1, 5),
                    committed(1, Acknowledged),
                    commit(2, 9),
                    offset_asked(3),
                    committed(2, Acknowledged),
                    offset_answered(3, Some(5)),
                ]),
            ),
            (
                "a group commits a lower offset",
                history(
                    [
                        &two()[..],
                        &[commit(3, 5), committed(3, Acknowledged)],
                        &answers(4, Some(5)),
                    ]
                    .concat(),
                ),
            ),
        ],
    }
}
