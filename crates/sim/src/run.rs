//! One run, from a seed to a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_history::event::Owed;
use tidelog_history::{Invariant, What};

use crate::panics;
use crate::recorder::{Breach, Broken, Options, Recorder, Seen};
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
    /// What is broken.
    pub broken: Broken,
    /// And how, in words.
    pub what: String,
    /// The newest events of the history, as lines.
    pub tail: Vec<String>,
}

/// What did not happen in time: the invariant that promises it, and the rest in words.
type Late = (Invariant, String);

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Verdict {
    run_with(seed, options, World::live)
}

/// Lets the world of a seed live as told. If that panics, it is what the run came to.
fn run_with(seed: u64, options: Options, live: impl FnOnce(&mut World) -> Result<(), Late>) -> Verdict {
    let mut world = None;
    let lived = panics::caught(|| {
        let world = world.insert(World::new(seed, options));
        if let Err((invariant, late)) = live(world) {
            world.context.history.fail(invariant, &late);
        }
        world.context.history.finish();
    });
    let mut history = world.map_or_else(|| Recorder::new(options), |world| world.context.history);
    if let Err(panic) = lived {
        history.break_off(Broken::Panic, panic);
    }
    let violation = history.violation.take().map(|Breach { broken, what }| Violation {
        broken,
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

/// What L31 says is due.
fn late(why: impl Into<String>) -> Late {
    (Invariant::L31, why.into())
}

impl World {
    /// The whole life of a run. An error says what did not happen in time.
    fn live(&mut self) -> Result<(), Late> {
        self.wait(Duration::from_secs(20), |world| world.is_formed())
            .ok_or_else(|| late("the cluster did not come about"))?;
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
            .ok_or_else(|| late(format!("nothing is acknowledged in {:?}", self.context.awaiting)))?;
        let recovery = self.context.now.saturating_sub(healed);
        self.context.history.seen.recovery_ms = recovery.as_millis() as u64;
        self.wait(ALIVE_WITHIN, |world| world.clients.have_visited())
            .ok_or_else(|| late("not every partition is read"))?;
        self.settle()
    }

    /// What was sent comes to its end, everything is read, the group is handed everything.
    fn settle(&mut self) -> Result<(), Late> {
        let until = self.context.now + Duration::from_secs(1);
        self.run_until(until);
        self.clients.stop_sending();
        self.wait(SETTLED_WITHIN, |world| world.clients.are_done_sending())
            .ok_or_else(|| late("what was sent comes to no end"))?;
        self.clients.audit(&mut self.context);
        self.wait(SETTLED_WITHIN, |world| world.clients.audited().is_some())
            .ok_or_else(|| late("not everything can be read"))?;
        let ends: BTreeMap<_, _> = self.clients.audited().unwrap_or_default();
        self.wait(SETTLED_WITHIN, |world| {
            world.clients.are_settled(&ends, &mut world.context)
        })
        .ok_or_else(|| late("the group is not handed everything"))?;
        let until = self.context.now + Duration::from_secs(3);
        self.run_until(until);
        self.wait(SETTLED_WITHIN, |world| world.have_applied_the_same())
            .ok_or_else(|| {
                let why = "the brokers do not come to know the same metadata";
                (Invariant::M27, why.to_owned())
            })?;
        for host in &self.hosts {
            if let Some(process) = &host.process {
                process.note_everything_derived(&mut self.context);
            }
        }
        // All of them: one that goes down after healing is a violation.
        let up = self.hosts.iter().map(|host| host.broker).collect();
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

    /// Lets time pass until something is so; `None` if it is not within that time. A violation ends
    /// the wait, too.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::describe;

    #[test]
    fn a_panic_fails_its_seed_with_what_happened_before() {
        let verdict = run_with(7, Options::default(), |world| {
            world.run_until(Duration::from_secs(1));
            panic!("a rule is broken");
        });
        let violation = verdict.violation.as_ref().unwrap();
        assert_eq!(violation.broken, Broken::Panic);
        assert!(violation.what.contains("a rule is broken"), "{}", violation.what);
        assert!(violation.what.contains(file!()), "{}", violation.what);
        assert_eq!(violation.tail.len() as u64, verdict.seen.events.min(400));
        assert!(verdict.seen.events > 0);
        let told = describe(&verdict, Some("mutant:read-above-high-watermark"));
        let newest = violation.tail.last().unwrap();
        let command = "cargo xtask sim --seed 7 --mutant mutant:read-above-high-watermark --trace";
        for part in [newest, &violation.what, "seed 7: panic", command] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }

    #[test]
    fn what_is_broken_before_a_panic_is_what_counts() {
        let verdict = run_with(7, Options::default(), |world| {
            world.context.history.fail(Invariant::L31, "late");
            panic!("and then this");
        });
        let violation = verdict.violation.unwrap();
        assert_eq!(violation.broken, Broken::Invariant(Invariant::L31));
        assert_eq!(violation.what, "L31: late");
    }
}
