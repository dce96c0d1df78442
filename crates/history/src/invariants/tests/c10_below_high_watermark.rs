//! Histories for C10.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let serves = |until| What::Serves {
        broker: broker(1),
        partition: p0(),
        until: tidelog_types::Offset(until),
    };
    let one = || replicated(&entry(0, 1, &[10]));
    Cases {
        bad: vec![
            (
                "what is not committed yet is served",
                history(then(one(), [appends(1, entry(1, 1, &[11])), serves(2)])),
            ),
            (
                "a lost disk knows of nothing",
                history(then(one(), [disk_lost(1), serves(1)])),
            ),
            (
                "a restarted leader has not noted what its former life knew",
                history(then(
                    one(),
                    [
                        recovered(1, 0, vec![entry(0, 1, &[10])]),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "what is committed is served",
                history(then(one(), [appends(1, entry(1, 1, &[11])), serves(1)])),
            ),
            (
                "a restarted leader goes by the high watermark it noted",
                history(then(
                    one(),
                    [
                        recovered(1, 0, vec![entry(0, 1, &[10])]),
                        learns(1, 1, 1),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
            (
                "and by the log start that its disk has",
                history(then(
                    one(),
                    [
                        recovered(1, 1, vec![entry(0, 1, &[10])]),
                        leads(1, 4, 2),
                        serves(1),
                    ],
                )),
            ),
        ],
    }
}
