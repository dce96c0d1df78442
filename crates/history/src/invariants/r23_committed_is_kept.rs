//! R23: a truncation removes nothing that is committed: neither what this replica knew to be, nor what others do.
//!
//! What lies below the log start of some replica is gone by right: a follower that was away for long begins anew from there. And a replica
//! that nobody counts on may still follow a leader that was deposed, which lacks what its successor has committed since.

use tidelog_types::Offset;

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct CommittedIsKept;

impl Check for CommittedIsKept {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Truncated {
            broker,
            partition,
            to,
        } = moment.what
        else {
            return Ok(());
        };
        let Some(known) = world.judged(*partition) else {
            return Ok(());
        };
        let Some(replica) = known.replicas.get(broker) else {
            return Ok(());
        };
        let cut = |offset: Offset, why: &str| {
            Err(format!(
                "broker {broker} truncates {partition} to {to}, and with it offset {offset}, {why}"
            ))
        };
        for entry in replica.entries_from((*to).max(known.log_start)) {
            let first = entry.base_offset.max(*to);
            if first < replica.high_watermark {
                return cut(first, "which is below its own high watermark");
            }
            if known.counts_on(*broker) && known.committed.has(entry) {
                return cut(first, "which is committed and the same here");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let one = || replicated(&entry(0, 1, &[10]));
    super::tests::Cases {
        bad: vec![
            ("what is committed", history(then(one(), [truncated(2, 0)]))),
            (
                "what the replica knew to be committed",
                history(then(one(), [learns(2, 1, 1), truncated(2, 0)])),
            ),
            (
                "what this replica alone calls committed",
                history([copies(2, entry(0, 1, &[10])), learns(2, 1, 1), truncated(2, 0)]),
            ),
            (
                "what a member holds",
                history([
                    copies(2, entry(0, 0, &[10])),
                    durable(2, 1),
                    registered(registration(Some(3), 2, 2, &[2, 3], &[])),
                    recovered(3, 0, vec![entry(0, 0, &[10])]),
                    leads(3, 1, 2),
                    commits(3, 2, 1),
                    truncated(2, 0),
                ]),
            ),
            (
                "more than what differs",
                history(then(one(), [copies(2, entry(1, 1, &[11])), truncated(2, 0)])),
            ),
        ],
        good: vec![
            (
                "what is not committed",
                history(then(
                    one(),
                    [copies(2, entry(1, 1, &[11])), truncated(2, 1), truncated(2, 5)],
                )),
            ),
            (
                "what differs from the committed log",
                history(then(
                    one(),
                    [recovered(2, 0, vec![entry(0, 0, &[11])]), truncated(2, 0)],
                )),
            ),
            (
                "what came back because an earlier truncation did not reach the disk",
                history([
                    recovered(2, 0, vec![entry(0, 0, &[11])]),
                    truncated(2, 0),
                    copies(2, entry(0, 1, &[10])),
                    learns(2, 1, 1),
                    recovered(2, 0, vec![entry(0, 0, &[11])]),
                    truncated(2, 0),
                ]),
            ),
            (
                "what retention deleted elsewhere",
                history(then(
                    one(),
                    [learns(2, 1, 1), trimmed(1, 1), truncated(2, 0), trimmed(2, 1)],
                )),
            ),
            (
                "what nobody counts on, by a leader that is deposed",
                history([
                    copies(2, entry(0, 0, &[10])),
                    registered(registration(Some(3), 2, 2, &[3], &[])),
                    recovered(3, 0, vec![entry(0, 0, &[10])]),
                    leads(3, 1, 2),
                    commits(3, 2, 1),
                    truncated(2, 0),
                ]),
            ),
            (
                "what an unclean election gave up",
                history(then(one(), then(elected_uncleanly(), [truncated(2, 0)]))),
            ),
        ],
    }
}
