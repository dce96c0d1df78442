//! Histories for C8.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let sent = || vec![send(1, 1, &[10, 11]), acked(1, 0, 3)];
    Cases {
        bad: vec![
            (
                "a deposed leader tells the past",
                history(then(sent(), [end_asked(1, Some(3)), end_answered(1, 1, 3)])),
            ),
            (
                "a newer epoch covers the older ones",
                history(then(sent(), [end_asked(1, Some(5)), end_answered(1, 0, 5)])),
            ),
        ],
        good: vec![
            (
                "all is covered",
                history(then(sent(), [end_asked(1, Some(3)), end_answered(1, 2, 3)])),
            ),
            (
                "a reader that carries an older epoch, or none, may be told the past",
                history(then(
                    sent(),
                    [
                        end_asked(1, Some(2)),
                        end_answered(1, 0, 2),
                        end_asked(2, None),
                        end_answered(2, 0, 2),
                    ],
                )),
            ),
            (
                "what is acknowledged while one asks may or may not be covered",
                history([
                    send(1, 1, &[10, 11]),
                    end_asked(1, Some(3)),
                    acked(1, 0, 3),
                    end_answered(1, 0, 3),
                ]),
            ),
        ],
    }
}
