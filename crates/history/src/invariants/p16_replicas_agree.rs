//! P16: below its high watermark a replica has what every other has below its own.
//!
//! Each high watermark commits what it covers, and what is committed is compared batch by batch
//! when the next one covers it. A replica's batches are looked at once in each life.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct ReplicasAgree;

impl Check for ReplicasAgree {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::HighWatermark {
            broker,
            partition,
            to,
            ..
        } = moment.what
        else {
            return Ok(());
        };
        match &world.compared().difference {
            Some(difference) => Err(format!(
                "below the high watermark {to} of broker {broker} in {partition}, {difference}"
            )),
            None => Ok(()),
        }
    }
}
