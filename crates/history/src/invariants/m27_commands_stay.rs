//! M27: a command whose proposer was told that it is committed is what stands at its index, and in
//! the end every broker has it.
//!
//! Brokers hear of a commit by the next heartbeat, so what was acknowledged in the very last
//! moments of a run is not demanded.

use std::collections::VecDeque;
use std::time::Duration;

use tidelog_types::BrokerId;

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

/// How long a broker may take to hear of what is committed, once a run has settled.
const HEARSAY: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct CommandsStay {
    /// Of each index what was applied there first, and the event.
    applied: Map<u64, (u64, usize)>,
    /// Of each index what was acknowledged there, and the event.
    acknowledged: Map<u64, (u64, usize)>,
    /// The highest index acknowledged longer ago than that.
    settled: u64,
    /// What was acknowledged since, and when.
    recent: VecDeque<(Duration, u64)>,
    /// How far each broker is, by what it applied on the disk that it has.
    reached: Map<BrokerId, u64>,
    /// Somebody told what is applied: without a word of it nothing can be demanded.
    is_told: bool,
}

impl Check for CommandsStay {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        match moment.what {
            What::Applied {
                broker,
                index,
                command,
                ..
            } => {
                self.is_told = true;
                let reached = self.reached.entry(*broker).or_default();
                *reached = (*reached).max(*index);
                self.applied.entry(*index).or_insert((*command, moment.position));
                match self.acknowledged.get(index) {
                    Some((acknowledged, position)) if acknowledged != command => Err(format!(
                        "broker {broker} applies another command at index {index} than #{position} acknowledged"
                    )),
                    _ => Ok(()),
                }
            }
            What::CommandAcknowledged { index, command } => {
                self.recent.push_back((moment.at, *index));
                self.settle(moment.at);
                let now = (*command, moment.position);
                let earlier = *self.acknowledged.entry(*index).or_insert(now);
                let others = [Some(earlier), self.applied.get(index).copied()];
                match others.into_iter().flatten().find(|(other, _)| other != command) {
                    Some((_, position)) => Err(format!(
                        "a command is acknowledged at index {index}, where #{position} has another one"
                    )),
                    None => Ok(()),
                }
            }
            // Whoever had it may have been the only one: on a new disk it is to be reached again.
            What::DiskLost { broker, .. } => {
                self.reached.remove(broker);
                Ok(())
            }
            What::Ended { up } if self.is_told => {
                self.settle(moment.at);
                let reached = |broker: &BrokerId| self.reached.get(broker).copied().unwrap_or_default();
                match up.iter().find(|broker| reached(broker) < self.settled) {
                    Some(broker) => Err(format!(
                        "broker {broker} has applied up to index {} in the end, and index {} was acknowledged",
                        reached(broker),
                        self.settled
                    )),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl CommandsStay {
    fn settle(&mut self, now: Duration) {
        let is_old = |(at, _): &mut (Duration, u64)| *at + HEARSAY <= now;
        while let Some((_, index)) = self.recent.pop_front_if(is_old) {
            self.settled = self.settled.max(index);
        }
    }
}
