//! C4: a record of an idempotent producer stands at one offset only.

use tidelog_types::Offset;

use super::{Check, Moment, Verdict};
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct AtMostOnce {
    /// Of each value the offset that it stands at, and the event that told so first.
    places: Paged<(Offset, usize)>,
}

impl Check for AtMostOnce {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        world.show_placed(moment.what, |_, placed| {
            for (offset, value) in placed {
                let Some((id, send, _)) = world.sent(value).filter(|(_, send, _)| send.idempotent) else {
                    continue;
                };
                let now = (offset, moment.position);
                let (before, position) = self.places.get_or_insert(value.0, now);
                if before != offset {
                    return Err(format!(
                        "value {} of the idempotent send {} stands at offset {offset} of {}, and at offset {before} by #{position}",
                        value.0, id.0, send.partition
                    ));
                }
            }
            Ok(())
        })
    }
}
