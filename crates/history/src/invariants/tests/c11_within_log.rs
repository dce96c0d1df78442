//! Histories for C11.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let tells = |offset| What::TellsOffset {
        broker: broker(1),
        partition: p0(),
        offset: tidelog_types::Offset(offset),
    };
    let log = || vec![recovered(1, 2, vec![entry(0, 1, &[10, 11, 12, 13])])];
    Cases {
        bad: vec![
            ("past the end", history(then(log(), [tells(5)]))),
            ("before the start", history(then(log(), [tells(1)]))),
            (
                "of a log that was truncated",
                history(then(log(), [truncated(1, 3), tells(4)])),
            ),
        ],
        good: vec![(
            "both ends, and an empty log",
            history(then(log(), [tells(2), tells(4), trimmed(1, 4), tells(4)])),
        )],
    }
}
