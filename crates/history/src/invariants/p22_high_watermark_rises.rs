//! P22: the high watermark of a leader never falls in its epoch.

use tidelog_types::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct HighWatermarkRises {
    /// Of each leadership the high watermark, and the event that moved it there.
    reached: Map<(TopicIdPartition, BrokerId, LeaderEpoch), (Offset, usize)>,
}

impl Check for HighWatermarkRises {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        let What::HighWatermark {
            broker,
            partition,
            epoch,
            to,
            leading: true,
        } = moment.what
        else {
            return Ok(());
        };
        let now = (*to, moment.position);
        match self.reached.insert((*partition, *broker, *epoch), now) {
            Some((before, position)) if before > *to => Err(format!(
                "the high watermark of leader {broker} of {partition} in epoch {epoch} falls to {to}, and was {before} by #{position}"
            )),
            _ => Ok(()),
        }
    }
}
