//! Histories for M26.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let applied = |id, index, command, state| What::Applied {
        broker: broker(id),
        index,
        command,
        state,
    };
    Cases {
        bad: vec![
            (
                "two commands",
                history([applied(1, 5, 50, 500), applied(2, 5, 51, 500)]),
            ),
            (
                "two states",
                history([applied(1, 5, 50, 500), applied(2, 5, 50, 501)]),
            ),
            (
                "a broker that restarts comes to another state",
                history([applied(1, 5, 50, 500), crashed(1), applied(1, 5, 50, 501)]),
            ),
            (
                "a broker comes from a snapshot to another state",
                history([
                    applied(1, 5, 50, 500),
                    applied(1, 6, 60, 600),
                    applied(2, 6, 60, 601),
                ]),
            ),
            (
                "a command is applied twice",
                history([applied(1, 5, 50, 500), applied(1, 5, 50, 500)]),
            ),
            (
                "a broker goes back",
                history([
                    applied(1, 5, 50, 500),
                    applied(1, 6, 60, 600),
                    applied(1, 5, 50, 500),
                ]),
            ),
        ],
        good: vec![(
            "all apply the same, some again in another life, some from a snapshot on",
            history([
                applied(1, 5, 50, 500),
                applied(1, 6, 50, 501),
                applied(2, 5, 50, 500),
                crashed(1),
                applied(1, 6, 50, 501),
                applied(3, 6, 50, 501),
            ]),
        )],
    }
}
