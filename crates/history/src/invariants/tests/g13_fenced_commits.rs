//! Histories for G13.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let taken = |member: Option<u32>, held| {
        history([What::CommitTaken {
            group: name("g"),
            member: member.map(|epoch| (name("m"), epoch)),
            held,
        }])
    };
    Cases {
        bad: vec![
            ("of an older epoch", taken(Some(3), Some(4))),
            ("of a removed member", taken(Some(3), None)),
        ],
        good: vec![
            ("of a member in its epoch", taken(Some(4), Some(4))),
            ("of a consumer that is no member", taken(None, None)),
        ],
    }
}
