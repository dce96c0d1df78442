//! From a command to its effects.
//!
//! One command at a time is decided and appended; a decision's effects wait for the high watermark
//! while the next commands are worked off.
//!
//! ```text
//! take ─▶ decide ─▶ append, batch by batch ─▶ apply ─▶ (high watermark) ─▶ tell
//!                        │ refused
//!                        ├─ a command that was given: its giver is told
//!                        └─ a command that was due: it becomes due again later
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{Offset, PartitionError};

use crate::machine::{Machine, Now, Refusal};

/// A machine at work in one leadership.
///
/// The driver gives commands with [`Self::take`] while nothing is under way, reports moves of the
/// high watermark with [`Self::advance`], and performs the steps that [`Self::next`] returns until
/// there is none.
#[derive(Debug)]
pub struct Turn<M: Machine> {
    machine: M,
    high_watermark: Offset,
    log_end: Offset,
    effects: VecDeque<M::Effect>,
    under_way: Option<UnderWay<M>>,
    follow_ups: VecDeque<M::Command>,
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a, R, E> {
    /// Append these records, then report [`Turn::appended`] or [`Turn::refused`].
    Append {
        /// The records, in the order of the log.
        records: &'a [R],
        /// All of them make one batch; else the driver appends as many of the first as it likes, at
        /// least one.
        as_one: bool,
    },
    /// Tell this; report [`Turn::unheard`] if its addressee takes nothing any more.
    Tell(E),
}

/// A decision whose records are being appended.
#[derive(Debug)]
struct UnderWay<M: Machine> {
    command: M::Command,
    origin: Origin,
    decision: M::Decision,
    appended: usize,
    end: Option<Offset>,
    now: Now,
}

/// Where a command came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody gave it.
    Given,
    /// It takes note of a refusal, or of an addressee that is gone.
    FollowUp,
    /// Time or a changed view made it due.
    Due,
}

impl<M: Machine> Turn<M> {
    /// A machine that replayed everything below `end`, which is replicated.
    pub fn new(mut machine: M, end: Offset, now: Now) -> Self {
        machine.start(end, now);
        Self {
            machine,
            high_watermark: end,
            log_end: end,
            effects: VecDeque::new(),
            under_way: None,
            follow_ups: VecDeque::new(),
        }
    }

    /// The machine, to read from.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to show it a changed view of the world.
    pub const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Up to where the log is known to be replicated.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Where the last append ended.
    pub const fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Whether something can only be told once the high watermark moved.
    pub fn awaits_replication(&self) -> bool {
        self.machine.pending_count() > 0
    }

    /// Whether a decision's records are being appended: then no command is taken.
    pub fn is_appending(&self) -> bool {
        self.under_way.is_some()
    }

    /// The command whose records are being appended.
    pub fn under_way(&self) -> Option<&M::Command> {
        self.under_way.as_ref().map(|under_way| &under_way.command)
    }

    /// Whether the command under way was due by itself: its refusal is told to nobody.
    pub fn is_due(&self) -> bool {
        let is_due = |under_way: &UnderWay<M>| under_way.origin == Origin::Due;
        self.under_way.as_ref().is_some_and(is_due)
    }

    /// Whether some records of the decision under way stand in the log, and some do not.
    pub fn has_appended_some(&self) -> bool {
        self.under_way
            .as_ref()
            .is_some_and(|under_way| under_way.end.is_some())
    }

    /// The latest moment at which to ask [`Self::next`] again, by the monotonic clock.
    pub fn next_deadline(&self) -> Duration {
        self.machine.next_deadline()
    }

    /// Takes a command that somebody gave. The driver has just asked the log whether the broker
    /// still leads.
    pub fn take(&mut self, command: M::Command, now: Now) {
        self.begin(command, Origin::Given, now);
    }

    /// Everything below the high watermark is replicated.
    pub fn advance(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        let covered = if mutant::is_on(Mutant::TellBeforeReplicated) {
            self.log_end
        } else {
            self.high_watermark
        };
        self.effects.extend(self.machine.advance(covered));
    }

    /// What to do next; `None` until a command, a move of the high watermark or time brings more.
    pub fn next(&mut self, now: Now) -> Option<Step<'_, M::Record, M::Effect>> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(Step::Tell(effect));
        }
        while self.under_way.is_none() {
            if let Some(command) = self.follow_ups.pop_front() {
                self.begin(command, Origin::FollowUp, now);
            } else {
                let command = self.machine.due(now)?;
                self.begin(command, Origin::Due, now);
            }
            if let Some(effect) = self.effects.pop_front() {
                return Some(Step::Tell(effect));
            }
        }
        let under_way = self.under_way.as_ref()?;
        let may_be_cut = M::may_be_cut(&under_way.decision);
        Some(Step::Append {
            records: &M::records(&under_way.decision)[under_way.appended..],
            as_one: !may_be_cut,
        })
    }

    /// The first `count` of the records to append stand in the log, up to `end`.
    pub fn appended(&mut self, count: usize, end: Offset) {
        assert!(
            count > 0 && end > self.log_end,
            "{count} records were appended up to {end}, and the log ended at {}",
            self.log_end
        );
        self.log_end = end;
        let Some(mut under_way) = self.under_way.take() else {
            unreachable!("records were appended that no decision asked for");
        };
        under_way.appended += count;
        under_way.end = Some(end);
        let wanted = M::records(&under_way.decision).len();
        assert!(
            under_way.appended == wanted || M::may_be_cut(&under_way.decision),
            "{} of {wanted} records were appended, which belong together",
            under_way.appended
        );
        if under_way.appended == wanted {
            self.apply(under_way.decision, under_way.end, under_way.now);
        } else {
            self.under_way = Some(under_way);
        }
    }

    /// The log refused the records to append. What was appended of the decision before stands,
    /// without its effects.
    pub fn refused(&mut self, error: PartitionError) {
        self.not_appended(M::refusal(Refusal::Log(error)));
    }

    /// The records to append do not fit a batch, for this reason.
    pub fn too_large(&mut self, why: String) {
        self.not_appended(M::refusal(Refusal::TooLarge(why)));
    }

    /// The addressee of an effect takes nothing any more.
    pub fn unheard(&mut self, effect: &M::Effect) {
        self.follow_ups.extend(M::unheard(effect));
    }

    fn begin(&mut self, command: M::Command, origin: Origin, now: Now) {
        assert!(
            self.under_way.is_none(),
            "a command is taken while another's records are being appended"
        );
        let decision = self.machine.decide(&command, now);
        if M::records(&decision).is_empty() {
            self.apply(decision, None, now);
            return;
        }
        self.under_way = Some(UnderWay {
            command,
            origin,
            decision,
            appended: 0,
            end: None,
            now,
        });
    }

    fn apply(&mut self, decision: M::Decision, end: Option<Offset>, now: Now) {
        self.machine.apply(decision, end, now);
        // A decision without records waits only for what it builds on.
        self.advance(self.high_watermark);
    }

    fn not_appended(&mut self, error: PartitionError) {
        let Some(under_way) = self.under_way.take() else {
            unreachable!("an append was refused that no decision asked for");
        };
        let UnderWay {
            command,
            origin,
            decision,
            appended,
            end,
            now,
        } = under_way;
        if end.is_some() {
            let stands = if mutant::is_on(Mutant::ApplyWhatWasRefused) {
                decision
            } else {
                M::first_records(decision, appended)
            };
            self.apply(stands, end, now);
        }
        match origin {
            Origin::Given => {
                let refused = M::refused(&command, error);
                self.effects.extend(refused.effects);
                self.follow_ups.extend(refused.then);
            }
            Origin::Due => self.machine.postpone(&command, now),
            Origin::FollowUp => {}
        }
    }
}

#[cfg(test)]
mod tests;
