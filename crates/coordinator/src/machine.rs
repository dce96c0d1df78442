//! What differs between kinds of coordinators.

use std::fmt::Debug;
use std::time::Duration;

use tidelog_types::{Offset, PartitionError};

/// A state machine over a replicated log: it decides commands, and its state is a replay of its
/// records.
///
/// What it decides builds on every record that was appended. What it tells (answers, events, reads)
/// waits until the high watermark covers all that it builds on, because a record that is not
/// replicated may be lost with its leader.
pub trait Machine {
    /// What it is asked.
    type Command: Debug;
    /// One line of its log.
    type Record: Debug;
    /// Records and effects that a command leads to. A proposal: dropping it leaves no trace.
    type Decision: Debug;
    /// What it tells somebody.
    type Effect: Debug;

    /// Takes in one record of the log, in offset order, before [`Self::start`].
    fn replay(&mut self, record: &Self::Record);

    /// Everything below `end` was replayed and is replicated: from now on it decides.
    fn start(&mut self, end: Offset, now: Now);

    /// Decides a command. Changes nothing.
    fn decide(&self, command: &Self::Command, now: Now) -> Self::Decision;

    /// The records of a decision, in the order of the log.
    fn records(decision: &Self::Decision) -> &[Self::Record];

    /// Whether a decision may be appended in several batches, of which a crash may lose the later
    /// ones. The records of any other decision make one batch.
    fn may_be_cut(decision: &Self::Decision) -> bool;

    /// The first records of a decision that may be cut, without any effect: what is left of it when
    /// the log refused the rest.
    fn first_records(decision: Self::Decision, count: usize) -> Self::Decision;

    /// Takes a decision in, whose records stand in the log up to `end`; `None` for a decision
    /// without records.
    fn apply(&mut self, decision: Self::Decision, end: Option<Offset>, now: Now);

    /// Everything below the high watermark is replicated. Returns the effects that may be told now,
    /// in order.
    fn advance(&mut self, high_watermark: Offset) -> Vec<Self::Effect>;

    /// How many decisions wait for the high watermark.
    fn pending_count(&self) -> usize;

    /// The next command that time or a changed view makes due. Each is applied or postponed before
    /// the next is asked for.
    fn due(&mut self, now: Now) -> Option<Self::Command>;

    /// A due command could not be appended: it becomes due again a little later.
    fn postpone(&mut self, command: &Self::Command, now: Now);

    /// The latest moment at which to ask [`Self::due`] again, by the monotonic clock.
    fn next_deadline(&self) -> Duration;

    /// A command that somebody gave could not be appended, for this error.
    fn refused(command: &Self::Command, error: PartitionError) -> Refused<Self>
    where
        Self: Sized;

    /// The addressee of an effect does not take it any more. Returns the command that takes note of
    /// that.
    fn unheard(effect: &Self::Effect) -> Option<Self::Command>;

    /// A refusal in the words of this kind of coordinator.
    fn refusal(why: Refusal) -> PartitionError;
}

/// What follows when a command could not be appended.
#[derive(Debug)]
pub struct Refused<M: Machine> {
    /// What is told, at once.
    pub effects: Vec<M::Effect>,
    /// A command to run next.
    pub then: Option<M::Command>,
}

/// Why a coordinator does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The broker does not lead the partition, or no more.
    NotHere,
    /// The broker leads the partition, and has not replayed it yet (G12).
    Loading,
    /// The log refused an append, a read, or the leadership.
    Log(PartitionError),
    /// The records of one decision are too large for a batch.
    TooLarge(String),
}

/// The time, on both of the clocks that a coordinator needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary start; never goes back. Deadlines run by it.
    pub monotonic: Duration,
    /// Milliseconds since 1970, by the coordinator's clock. Persisted moments are of it.
    pub wall_ms: i64,
}
