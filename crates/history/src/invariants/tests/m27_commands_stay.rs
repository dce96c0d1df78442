//! Histories for M27.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let applied = |id, index, command| What::Applied {
        broker: broker(id),
        index,
        command,
        state: 0,
    };
    let acknowledged = |index, command| What::CommandAcknowledged { index, command };
    let ended = || What::Ended { up: brokers(&[1, 2]) };
    Cases {
        bad: vec![
            (
                "another command takes its place",
                history([acknowledged(5, 50), applied(1, 5, 51)]),
            ),
            (
                "another one stood there",
                history([applied(1, 5, 51), acknowledged(5, 50)]),
            ),
            (
                "two are acknowledged",
                history([acknowledged(5, 50), acknowledged(5, 51)]),
            ),
            (
                "a broker lacks it in the end",
                timed([
                    (0, applied(1, 5, 50)),
                    (0, applied(2, 4, 40)),
                    (1, acknowledged(5, 50)),
                    (3, ended()),
                ]),
            ),
            (
                "a broker had it, and does not get it again after its disk was lost",
                timed([
                    (0, applied(1, 5, 50)),
                    (0, applied(2, 5, 50)),
                    (1, acknowledged(5, 50)),
                    (2, disk_lost(2)),
                    (3, applied(2, 4, 40)),
                    (9, ended()),
                ]),
            ),
            (
                "the only one that had it loses its disk",
                timed([
                    (0, applied(1, 5, 50)),
                    (1, acknowledged(5, 50)),
                    (2, disk_lost(1)),
                    (9, ended()),
                ]),
            ),
        ],
        good: vec![
            (
                "all have it, and more",
                timed([
                    (0, applied(1, 5, 50)),
                    (1, acknowledged(5, 50)),
                    (2, applied(2, 5, 50)),
                    (2, applied(2, 6, 60)),
                    (9, ended()),
                ]),
            ),
            (
                "a broker has not heard yet of the very last one",
                timed([
                    (0, applied(1, 5, 50)),
                    (0, applied(2, 5, 50)),
                    (1, acknowledged(5, 50)),
                    (9, applied(1, 6, 60)),
                    (9, acknowledged(6, 60)),
                    (10, ended()),
                ]),
            ),
            (
                "a lost disk is filled again",
                timed([
                    (0, applied(1, 5, 50)),
                    (0, applied(2, 5, 50)),
                    (1, acknowledged(5, 50)),
                    (2, disk_lost(2)),
                    (3, applied(2, 6, 60)),
                    (9, ended()),
                ]),
            ),
            (
                "who is down need not have it",
                timed([
                    (0, acknowledged(5, 50)),
                    (1, applied(1, 5, 50)),
                    (1, applied(2, 5, 50)),
                    (1, applied(3, 4, 40)),
                    (9, ended()),
                ]),
            ),
        ],
    }
}
