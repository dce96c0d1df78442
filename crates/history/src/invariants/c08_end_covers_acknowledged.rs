//! C8: the end that a reader is told covers everything that was acknowledged before it asked, in an
//! epoch that it carries.

use std::collections::BTreeMap;

use tidelog_types::{LeaderEpoch, Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{Request, What};
use crate::hash::Map;
use crate::world::World;

/// An end, and the event that acknowledged the record before it.
type End = (Offset, usize);

#[derive(Default)]
pub(super) struct EndCoversAcknowledged {
    /// Of each partition and epoch the highest end that was acknowledged.
    acknowledged: Map<TopicIdPartition, BTreeMap<LeaderEpoch, End>>,
    /// What the answer to each open question must cover.
    asked: Map<Request, (TopicIdPartition, End)>,
}

impl Check for EndCoversAcknowledged {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::SendAcknowledged {
                send,
                base_offset,
                leader_epoch,
            } => {
                if let Some(send) = world.send(*send) {
                    let end = (*base_offset + send.values.len() as u64, moment.position);
                    let ends = self.acknowledged.entry(send.partition).or_default();
                    let highest = ends.entry(*leader_epoch).or_insert(end);
                    *highest = (*highest).max(end);
                }
                Ok(())
            }
            What::EndAsked {
                request,
                partition,
                leader_epoch: Some(epoch),
            } => {
                let ends = self.acknowledged.get(partition);
                let highest = ends.and_then(|ends| ends.range(..=*epoch).map(|(_, end)| *end).max());
                if let Some(end) = highest {
                    self.asked.insert(*request, (*partition, end));
                }
                Ok(())
            }
            What::EndAnswered {
                request,
                offset,
                leader_epoch,
            } => {
                let Some((partition, (end, position))) = self.asked.remove(request) else {
                    return Ok(());
                };
                if *offset >= end || world.judged(partition).is_none() {
                    return Ok(());
                }
                Err(format!(
                    "the end of {partition} is told to be {offset} in epoch {leader_epoch}; before that was asked, #{position} acknowledged up to {end}"
                ))
            }
            _ => Ok(()),
        }
    }
}
