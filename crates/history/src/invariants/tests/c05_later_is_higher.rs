//! Histories for C5.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let first = || vec![plain_send(1, 1, &[10]), acked(1, 5, 1), plain_send(2, 2, &[20])];
    Cases {
        bad: vec![
            (
                "a later send is acknowledged before it",
                history(then(first(), [acked(2, 3, 1)])),
            ),
            (
                "a later send is read before it",
                history(then(first(), [read(1, 3, 4, &[(3, 20)])])),
            ),
        ],
        good: vec![
            (
                "a later send stands behind it",
                history(then(first(), [acked(2, 6, 1)])),
            ),
            (
                "of two that overlap either may come first",
                history([
                    plain_send(1, 1, &[10]),
                    plain_send(2, 2, &[20]),
                    acked(1, 5, 1),
                    acked(2, 3, 1),
                ]),
            ),
        ],
    }
}
