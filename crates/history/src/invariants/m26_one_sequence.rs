//! M26: at each index of the metadata log every broker applies the same command and comes to the same state.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct OneSequence {
    /// Of each index the command, the state after it, and the event that told so first.
    applied: Map<u64, (u64, u64, usize)>,
}

impl Check for OneSequence {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        let What::Applied {
            broker,
            index,
            command,
            state,
        } = moment.what
        else {
            return Ok(());
        };
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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let applied = |id, index, command, state| What::Applied {
        broker: broker(id),
        index,
        command,
        state,
    };
    super::tests::Cases {
        bad: vec![
            (
                "two commands",
                history([applied(1, 5, 50, 500), applied(2, 5, 51, 500)]),
            ),
            (
                "two states",
                history([applied(1, 5, 50, 500), applied(2, 5, 50, 501)]),
            ),
            (
                "a broker that restarts comes to another state",
                history([applied(1, 5, 50, 500), applied(1, 5, 50, 501)]),
            ),
        ],
        good: vec![(
            "all apply the same, some again",
            history([
                applied(1, 5, 50, 500),
                applied(1, 6, 50, 501),
                applied(2, 5, 50, 500),
                applied(1, 6, 50, 501),
            ]),
        )],
    }
}
