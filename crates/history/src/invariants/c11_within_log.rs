//! C11: an offset that a leader tells lies within its log.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct WithinLog;

impl Check for WithinLog {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::TellsOffset {
            broker,
            partition,
            offset,
        } = moment.what
        else {
            return Ok(());
        };
        let (log_start, end) = world
            .replica(*partition, *broker)
            .map(|replica| (replica.log_start, replica.end))
            .unwrap_or_default();
        if (log_start..=end).contains(offset) {
            return Ok(());
        }
        Err(format!(
            "broker {broker} tells offset {offset} of {partition}, and its log goes from {log_start} to {end}"
        ))
    }
}
