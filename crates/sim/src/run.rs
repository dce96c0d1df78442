//! One run, from a seed to a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::Owed;

use crate::recorder::{Seen, Watching};
use crate::world::World;

/// How long a healed cluster may take to be written and read everywhere (L31).
const ALIVE_WITHIN: Duration = Duration::from_secs(30);
/// How long what is left to do may take after that.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// What it got to.
    pub seen: Seen,
    /// A digest of its whole history, if that was asked for.
    pub digest: u64,
    /// What was wrong, if anything was.
    pub violation: Option<Violation>,
}

/// What was wrong in a run.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The invariant, and how it is broken.
    pub what: String,
    /// The newest events of the history, as lines.
    pub tail: Vec<String>,
}

/// How a run is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Print every event.
    pub trace: bool,
    /// Keep a digest of every event's text.
    pub digest: bool,
}

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Verdict {
    let watching = Watching {
        trace: options.trace,
        digest: options.digest,
    };
    let mut world = World::new(seed, watching);
    if let Err(late) = world.live() {
        world.context.history.fail(late);
    }
    let history = &mut world.context.history;
    if history.violation.is_none() {
        history.finish();
    }
    let violation = history.violation.clone().map(|what| Violation {
        what,
        tail: history.tail(),
    });
    Verdict {
        seed,
        seen: history.seen,
        digest: history.digest(),
        violation,
    }
}

impl World {
    /// The whole life of a run. An error says what did not happen in time.
    fn live(&mut self) -> Result<(), String> {
        self.wait(Duration::from_secs(20), |world| world.is_formed())
            .ok_or_else(|| "L31: the cluster did not come about".to_owned())?;
        self.begin_faults();
        let faulty = self.context.config.faulty * 3;
        self.wait(faulty, |world| world.is_through());
        let rest = self.context.random.millis(500, 4000);
        let until = self.context.now + rest;
        self.run_until(until);
        self.heal_everything();
        let owed = self.partitions().into_iter().map(|partition| Owed {
            partition,
            reads: true,
            writes: true,
        });
        let owed = owed.collect();
        self.context.awaiting = self.partitions().into_iter().collect();
        let healed = self.context.now;
        self.context.record(What::Healed { owed });
        self.context.healed = self.context.fresh();
        self.clients.visit(&mut self.context);
        self.wait(ALIVE_WITHIN, |world| world.context.awaiting.is_empty())
            .ok_or_else(|| format!("L31: nothing is acknowledged in {:?}", self.context.awaiting))?;
        let recovery = self.context.now.saturating_sub(healed);
        self.context.history.seen.recovery_ms = recovery.as_millis() as u64;
        self.wait(ALIVE_WITHIN, |world| world.clients.have_visited())
            .ok_or_else(|| "L31: not every partition is read".to_owned())?;
        self.settle()
    }

    /// What was sent comes to its end, everything is read, the group is handed everything.
    fn settle(&mut self) -> Result<(), String> {
        let until = self.context.now + Duration::from_secs(1);
        self.run_until(until);
        self.clients.stop_sending();
        self.wait(SETTLED_WITHIN, |world| world.clients.are_done_sending())
            .ok_or_else(|| "L31: what was sent comes to no end".to_owned())?;
        self.clients.audit(&mut self.context);
        self.wait(SETTLED_WITHIN, |world| world.clients.audited().is_some())
            .ok_or_else(|| "L31: not everything can be read".to_owned())?;
        let ends: BTreeMap<_, _> = self.clients.audited().unwrap_or_default();
        self.wait(SETTLED_WITHIN, |world| {
            world.clients.are_settled(&ends, &mut world.context)
        })
        .ok_or_else(|| "L31: the group is not handed everything".to_owned())?;
        let until = self.context.now + Duration::from_secs(3);
        self.run_until(until);
        self.wait(SETTLED_WITHIN, |world| world.have_applied_the_same())
            .ok_or_else(|| "M27: the brokers do not come to know the same metadata".to_owned())?;
        for host in &self.hosts {
            if let Some(process) = &host.process {
                process.note_everything_derived(&mut self.context);
            }
        }
        let up = self.hosts.iter().filter(|host| host.process.is_some());
        let up = up.map(|host| host.broker).collect();
        self.context.record(What::Ended { up });
        Ok(())
    }

    fn have_applied_the_same(&self) -> bool {
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let indices: BTreeSet<_> = processes.map(|process| process.applied().index).collect();
        indices.len() == 1
    }

    fn is_formed(&self) -> bool {
        let count = self.context.config.topics.len() + 1;
        self.newest_image()
            .is_some_and(|image| image.topics().len() == count)
    }

    /// Lets time pass until something is so; `None` if it is not within that time. A violation ends the wait, too.
    fn wait(&mut self, within: Duration, mut is_so: impl FnMut(&mut Self) -> bool) -> Option<()> {
        let until = self.context.now + within;
        while !is_so(self) {
            if self.context.now >= until {
                return None;
            }
            let next = (self.context.now + LOOK).min(until);
            if !self.run_until(next) {
                return Some(());
            }
        }
        Some(())
    }
}
