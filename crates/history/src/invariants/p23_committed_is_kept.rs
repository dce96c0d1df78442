//! P23: a truncation removes nothing that is committed: neither what this replica knew to be, nor
//! what others do.
//!
//! What lies below the log start of some replica is gone by right: a follower that was away for
//! long begins anew from there. And a replica that nobody counts on may still follow a leader that
//! was deposed, which lacks what its successor has committed since.

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
