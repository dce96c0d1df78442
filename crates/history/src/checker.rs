//! Takes a history and stops at the first event that breaks an invariant.

use std::fmt;
use std::time::Duration;

use crate::event::Event;
use crate::invariant::Invariant;
use crate::invariants::{self, Check};
use crate::world::Moment;
use crate::world::World;

/// What no correct cluster does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant is broken.
    pub invariant: Invariant,
    /// The number of the event that breaks it: its index in the history, from 0.
    pub position: usize,
    /// When that event happened, since the run began.
    pub at: Duration,
    /// What is wrong, where, and with which earlier event (`#` and its number) it collides.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is broken by event #{} at {:?}: {} ({}: {})",
            self.invariant,
            self.position,
            self.at,
            self.message,
            self.invariant,
            self.invariant.statement()
        )
    }
}

impl std::error::Error for Violation {}

/// Judges one history, event by event. After the first violation it is of no more use.
pub struct Checker {
    world: World,
    checks: Vec<(Invariant, Box<dyn Check>)>,
    taken: usize,
    last_at: Duration,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Checker {
    /// A checker of a history that begins.
    pub fn new() -> Self {
        Self {
            world: World::default(),
            checks: invariants::all(),
            taken: 0,
            last_at: Duration::ZERO,
        }
    }

    /// How many events it has taken: the number of the next one.
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &Event) -> Result<(), Violation> {
        let moment = Moment {
            position: self.taken,
            at: event.at,
            what: &event.what,
        };
        self.taken += 1;
        self.last_at = event.at;
        for (invariant, check) in &mut self.checks {
            if let Err(message) = check.before(&moment, &self.world) {
                return Err(violation(*invariant, &moment, message));
            }
        }
        self.world.apply(&moment);
        for (invariant, check) in &mut self.checks {
            if let Err(message) = check.after(&moment, &self.world) {
                return Err(violation(*invariant, &moment, message));
            }
        }
        Ok(())
    }

    /// Takes note that the history ends here. A run that breaks off owes only what was due by the
    /// time of its last event; what a whole run owes is judged at [`Ended`](crate::What::Ended).
    pub fn finish(&mut self) -> Result<(), Violation> {
        for (invariant, check) in &mut self.checks {
            if let Err(message) = check.finish(self.last_at) {
                return Err(Violation {
                    invariant: *invariant,
                    position: self.taken.saturating_sub(1),
                    at: self.last_at,
                    message,
                });
            }
        }
        Ok(())
    }
}

/// Judges a whole history.
pub fn check(history: &[Event]) -> Result<(), Violation> {
    let mut checker = Checker::new();
    for event in history {
        checker.take(event)?;
    }
    checker.finish()
}

fn violation(invariant: Invariant, moment: &Moment<'_>, message: String) -> Violation {
    Violation {
        invariant,
        position: moment.position,
        at: moment.at,
        message,
    }
}
