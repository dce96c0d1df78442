//! Histories for M30.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let voted = |node, term, candidate| What::Voted {
        node,
        term,
        candidate,
    };
    Cases {
        bad: vec![
            (
                "two candidates in a term",
                history([voted(1, 5, 2), voted(1, 5, 3)]),
            ),
            ("an older term", history([voted(1, 5, 2), voted(1, 4, 2)])),
            (
                "an emptied disk votes as the node it was",
                history([voted(1, 5, 2), disk_lost(1), voted(1, 6, 2)]),
            ),
        ],
        good: vec![(
            "a vote is repeated, others vote otherwise, a lost disk votes as another node",
            history([
                voted(1, 5, 2),
                voted(1, 5, 2),
                voted(2, 5, 3),
                voted(1, 6, 3),
                disk_lost(1),
                voted(101, 6, 2),
            ]),
        )],
    }
}
