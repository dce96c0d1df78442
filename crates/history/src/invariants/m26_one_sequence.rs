//! M26: at each index of the metadata log every broker applies the same command and comes to the
//! same state, whether it came there command by command or from a snapshot; and in one life it
//! applies none twice and goes back to none.

use tidelog_types::BrokerId;

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneSequence {
    /// Of each index the command, the state after it, and the event that told so first.
    applied: Map<u64, (u64, u64, usize)>,
    /// How far each process is, and the event that told so.
    reached: Map<BrokerId, (u64, usize)>,
}

impl Check for OneSequence {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        let (broker, index, command, state) = match moment.what {
            What::Applied {
                broker,
                index,
                command,
                state,
            } => (broker, index, command, state),
            What::Crashed { broker } | What::DiskLost { broker, .. } => {
                self.reached.remove(broker);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match self.reached.insert(*broker, (*index, moment.position)) {
            Some((before, position)) if before >= *index => {
                return Err(format!(
                    "broker {broker} applies index {index} of the metadata log, and has applied {before} by #{position}"
                ));
            }
            _ => {}
        }
        let now = (*command, *state, moment.position);
        let (first_command, first_state, position) = *self.applied.entry(*index).or_insert(now);
        let differs = if first_command != *command {
            "another command"
        } else if first_state != *state {
            "another state"
        } else {
            return Ok(());
        };
        Err(format!(
            "broker {broker} has {differs} at index {index} of the metadata log than #{position} told"
        ))
    }
}
