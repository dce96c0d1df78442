//! The history of a run as it is written: handed to the checker, counted, and its newest part kept
//! to be shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Debug};
use std::time::Duration;

use tidelog_history::event::Name;
use tidelog_history::{Checker, Digest, Event, Invariant, Violation, What};
use tidelog_types::{LeaderEpoch, Offset, PartitionIndex};

/// Events that are kept to be shown with a violation.
const KEPT: usize = 400;

/// What a run got to: a run that never gets somewhere proves nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events of the history.
    pub events: u64,
    /// Things that broke.
    pub faults: u64,
    /// Answered requests of clients.
    pub operations: u64,
    /// Records whose produce was acknowledged.
    pub acknowledged: u64,
    /// Produces whose fate their producer never learned.
    pub unknown: u64,
    /// Produces that were answered as duplicates.
    pub duplicates: u64,
    /// Log tails that were cut off.
    pub truncations: u64,
    /// Producers' states that were rebuilt from a log.
    pub rebuilds: u64,
    /// Followers' fetches that waited for a turn to read the disk.
    pub deferred_fetches: u64,
    /// Leaderships that began.
    pub leaderships: u64,
    /// Leaders that came from the eligible leader replicas.
    pub elected_from_elr: u64,
    /// Replicas that joined an ISR.
    pub joins: u64,
    /// Brokers that were fenced.
    pub fencings: u64,
    /// Brokers that fenced themselves.
    pub self_fencings: u64,
    /// Leaderships of the metadata log.
    pub metadata_leaders: u64,
    /// Voters whose disk was lost and whose place another directory took.
    pub voters_replaced: u64,
    /// Coordinators that began to serve.
    pub coordinators: u64,
    /// Members that were removed for their silence.
    pub members_removed: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Commits of members that were no longer what they took themselves for, refused.
    pub zombie_commits: u64,
    /// Coordinators that loaded anew in the same leadership.
    pub interrupted_coordinators: u64,
    /// Decisions of coordinators of which the log took a part and refused the rest.
    pub cut_decisions: u64,
    /// Members that were cut off because they did not read what they were told.
    pub slow_members: u64,
    /// Groups that were deleted.
    pub deleted_groups: u64,
    /// Produces refused for too small an ISR.
    pub under_min_isr: u64,
    /// Log starts that were moved.
    pub trims: u64,
    /// Changes of min.insync.replicas.
    pub alterations: u64,
    /// Longest time from healing to an acknowledgement everywhere, milliseconds.
    pub recovery_ms: u64,
}

impl Seen {
    /// Adds another run's: figures are summed, of times the worst is kept.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, more)) in self.fields().into_iter().zip(other.figures()) {
            *sum += more;
        }
        self.recovery_ms = self.recovery_ms.max(other.recovery_ms);
    }

    /// Every figure with its name.
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        let mut figures: Vec<_> = copy
            .fields()
            .into_iter()
            .map(|(name, figure)| (name, *figure))
            .collect();
        figures.push(("worst time to acknowledge after healing, ms", self.recovery_ms));
        figures
    }

    /// The figures that are summed.
    fn fields(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("events", &mut self.events),
            ("faults", &mut self.faults),
            ("operations", &mut self.operations),
            ("acknowledged records", &mut self.acknowledged),
            ("sends of unknown fate", &mut self.unknown),
            ("duplicates", &mut self.duplicates),
            ("fetches that waited to read", &mut self.deferred_fetches),
            ("leaderships", &mut self.leaderships),
            ("elections from the ELR", &mut self.elected_from_elr),
            ("joins of an ISR", &mut self.joins),
            ("truncations", &mut self.truncations),
            ("producers' states rebuilt", &mut self.rebuilds),
            ("refused for too small an ISR", &mut self.under_min_isr),
            ("fencings", &mut self.fencings),
            ("fencings of oneself", &mut self.self_fencings),
            ("metadata leaderships", &mut self.metadata_leaders),
            ("voters replaced", &mut self.voters_replaced),
            ("coordinators loaded", &mut self.coordinators),
            ("members removed", &mut self.members_removed),
            ("commits", &mut self.commits),
            ("commits refused", &mut self.zombie_commits),
            ("coordinators interrupted", &mut self.interrupted_coordinators),
            ("decisions of coordinators cut", &mut self.cut_decisions),
            ("slow members cut off", &mut self.slow_members),
            ("groups deleted", &mut self.deleted_groups),
            ("log starts moved", &mut self.trims),
            ("changes of min.insync.replicas", &mut self.alterations),
        ]
    }
}

/// How a run is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Print every event.
    pub trace: bool,
    /// Keep a digest of every event's text.
    pub digest: bool,
}

/// What a run broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Invariant(Invariant),
    /// An assertion, or something else that makes a program panic.
    Panic,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant(invariant) => f.pad(invariant.name()),
            Self::Panic => f.pad("panic"),
        }
    }
}

/// The first thing that is wrong in a run.
#[derive(Debug, Clone)]
pub(crate) struct Breach {
    pub(crate) broken: Broken,
    pub(crate) what: String,
}

/// Writes a history.
pub(crate) struct Recorder {
    options: Options,
    checker: Checker,
    kept: VecDeque<Event>,
    digest: Digest,
    pub(crate) seen: Seen,
    /// The first thing that was wrong.
    pub(crate) violation: Option<Breach>,
    /// The newest metadata index whose changes stand in the history.
    pub(crate) metadata_index: u64,
    /// Up to where what became of members in each partition of the offsets topic stands in the
    /// history.
    members: BTreeMap<PartitionIndex, Offset>,
    /// What coordinators appended of members for their silence.
    silent: BTreeSet<Place>,
}

/// Where a record of a coordinator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// In which partition of the offsets topic.
    pub(crate) partition: PartitionIndex,
    /// Appended in which epoch.
    pub(crate) epoch: LeaderEpoch,
    /// The offset after it.
    pub(crate) end: Offset,
}

impl Recorder {
    /// An empty one.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            checker: Checker::new(),
            kept: VecDeque::with_capacity(KEPT),
            digest: Digest::default(),
            seen: Seen::default(),
            violation: None,
            metadata_index: 0,
            members: BTreeMap::new(),
            silent: BTreeSet::new(),
        }
    }

    /// Writes an event.
    pub(crate) fn record(&mut self, at: Duration, what: What) {
        let event = Event { at, what };
        self.seen.events += 1;
        if self.options.digest {
            self.digest.take(&event);
        }
        if self.options.trace {
            println!("{event}");
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        // Kept before it is judged: also of a check that panics the event is shown.
        self.kept.push_back(event);
        if self.violation.is_none()
            && let Some(event) = self.kept.back()
            && let Err(violation) = self.checker.take(event)
        {
            self.violated(&violation);
        }
    }

    /// The history is at its end.
    pub(crate) fn finish(&mut self) {
        if self.violation.is_none()
            && let Err(violation) = std::mem::take(&mut self.checker).finish()
        {
            self.violated(&violation);
        }
    }

    /// An invariant is broken in a way that no event shows.
    pub(crate) fn fail(&mut self, invariant: Invariant, why: &str) {
        let what = format!("{invariant}: {why}");
        self.break_off(Broken::Invariant(invariant), what);
    }

    /// Something is wrong, in words. What comes after the first thing counts no more.
    pub(crate) fn break_off(&mut self, broken: Broken, what: String) {
        self.violation.get_or_insert(Breach { broken, what });
    }

    fn violated(&mut self, violation: &Violation) {
        let broken = Broken::Invariant(violation.invariant);
        self.break_off(broken, violation.to_string());
    }

    /// The digest of the history so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// The newest events, as lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.kept.iter().map(ToString::to_string).collect()
    }

    /// A coordinator appended this of a member for its silence.
    pub(crate) fn was_silent(&mut self, place: Place) {
        self.silent.insert(place);
    }

    /// Writes down what became of a member by a record that is replicated, unless it stands in the
    /// history already. That one left its own events say.
    pub(crate) fn became(&mut self, at: Duration, place: Place, what: What) {
        let known = self.members.entry(place.partition).or_default();
        if place.end <= *known {
            return;
        }
        *known = place.end;
        let is_removal = matches!(what, What::MemberRemoved { .. });
        if is_removal && !self.silent.remove(&place) {
            return;
        }
        self.seen.members_removed += u64::from(is_removal);
        self.record(at, what);
    }
}

/// A member, a group, in a history.
pub(crate) fn name(text: &str) -> Name {
    text.into()
}

/// A digest of what a value prints as.
pub(crate) fn digest_of(value: &impl Debug) -> u64 {
    Digest::of_value(value)
}

/// The digest of a value on top of another.
pub(crate) fn digest_onto(before: u64, value: &impl Debug) -> u64 {
    Digest::of_value(&(before, value))
}
