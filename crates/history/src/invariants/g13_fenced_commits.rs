//! G13: a coordinator takes a member's commit only in the epoch that it gave that member.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct FencedCommits;

impl Check for FencedCommits {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        let What::CommitTaken { group, member, held } = moment.what else {
            return Ok(());
        };
        let Some((member, epoch)) = member else {
            return Ok(());
        };
        match held {
            Some(held) if held == epoch => Ok(()),
            Some(held) => Err(format!(
                "group {group} takes a commit of member {member} in epoch {epoch}, and its epoch is {held}"
            )),
            None => Err(format!(
                "group {group} takes a commit of member {member} in epoch {epoch}, and has no such member"
            )),
        }
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let taken = |member: Option<u32>, held| {
        history([What::CommitTaken {
            group: name("g"),
            member: member.map(|epoch| (name("m"), epoch)),
            held,
        }])
    };
    super::tests::Cases {
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
