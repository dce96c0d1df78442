//! C2: an offset has one value for ever: in acknowledgements, in what is read, in the committed
//! log.

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::Value;
use crate::hash::Map;
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneValue {
    /// Of each offset the value, and the event that told it first.
    known: Map<TopicIdPartition, Paged<(Value, usize)>>,
}

impl Check for OneValue {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        world.show_placed(moment.what, |partition, placed| {
            let known = self.known.entry(partition).or_default();
            for (offset, value) in placed {
                let (before, position) = known.get_or_insert(offset.0, (value, moment.position));
                if before != value {
                    return Err(format!(
                        "offset {offset} of {partition} holds value {}, and held value {} by #{position}",
                        value.0, before.0
                    ));
                }
            }
            Ok(())
        })
    }
}
