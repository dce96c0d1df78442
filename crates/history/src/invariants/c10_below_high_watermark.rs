//! C10: a leader hands consumers nothing above its own high watermark: what it learned in this
//! life, or had noted on its disk.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct BelowHighWatermark;

impl Check for BelowHighWatermark {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Serves {
            broker,
            partition,
            until,
        } = moment.what
        else {
            return Ok(());
        };
        let high_watermark = world
            .replica(*partition, *broker)
            .map(|replica| replica.high_watermark)
            .unwrap_or_default();
        if *until <= high_watermark {
            return Ok(());
        }
        Err(format!(
            "broker {broker} hands out {partition} up to {until}, and its high watermark is {high_watermark}"
        ))
    }
}
