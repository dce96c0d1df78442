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
