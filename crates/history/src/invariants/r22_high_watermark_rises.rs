//! R22: the high watermark of a leader never falls in its epoch.

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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let log = || {
        vec![
            leads(1, 1, 1),
            appends(1, entry(0, 1, &[10])),
            appends(1, entry(1, 1, &[11])),
        ]
    };
    super::tests::Cases {
        bad: vec![(
            "it falls",
            history(then(log(), [commits(1, 1, 2), commits(1, 1, 1)])),
        )],
        good: vec![
            (
                "it rises",
                history(then(log(), [commits(1, 1, 1), commits(1, 1, 2)])),
            ),
            (
                "a restarted replica knows less",
                history(then(
                    log(),
                    [
                        commits(1, 1, 2),
                        recovered(1, 0, vec![entry(0, 1, &[10]), entry(1, 1, &[11])]),
                        learns(1, 2, 1),
                        leads(1, 2, 3),
                        commits(1, 3, 1),
                        commits(1, 3, 2),
                    ],
                )),
            ),
        ],
    }
}
