//! One partition's batches on their way: what is sent, what is sent again, and what is given up. No
//! I/O and no clock.
//!
//! The batches stand in a line, in the order of their sequences, from the first whose fate is open:
//!
//! 1. At most `max_in_flight` of them span the line. A broker remembers the last five batches of a
//!    producer (R9), so whatever in the line is sent again is recognised if it was stored before.
//!    The limit is a distance, not a count: a batch at the head that waits for its answer holds the
//!    line even when those behind it have theirs.
//! 2. A batch gets its sequence when it is first sent, and is sent again with the same one, in the
//!    order of the line. A refusal for a sequence out of order means nothing while something ahead
//!    of the batch is open: it is sent again after that. At the head of the line it is final.
//! 3. A batch is *unresolved* once an attempt ended without saying whether the batch was appended:
//!    the stream was lost, the wait for replicas timed out. That attempt may even be read by the
//!    broker later. A later refusal does not change it; only success does.
//! 4. A batch that leaves the line without success leaves a gap, and a broker takes nothing behind
//!    a gap in that epoch. If it was never appended, nothing behind it was or will be: those are
//!    *void*. If it may have been, those that are unresolved themselves are sent again as they are,
//!    and what becomes of them tells.
//! 5. When nothing is in flight and nothing unresolved, the epoch is raised (KIP-360) and what is
//!    left, all of it certainly never written, is numbered anew from 0. Nothing that may have been
//!    written is ever numbered anew: it could be stored twice. It succeeds with its old number or
//!    fails, saying so.
//!
//! The epoch belongs to the partition's line: a gap in one partition holds up no other. That is
//! enough, since brokers keep a producer's epoch and sequences by partition.

use std::collections::VecDeque;
use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{ErrorCode, PartitionError, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

use crate::pauses;

/// Names a batch within its producer; later ones are larger.
pub type BatchId = u64;

/// Whose sequences a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The producer's id.
    pub id: ProducerId,
    /// Its epoch in this partition.
    pub epoch: ProducerEpoch,
}

/// What holds for every line of a producer.
#[derive(Debug, Clone, Copy)]
pub struct LineSettings {
    /// Whether batches carry sequences.
    pub idempotent: bool,
    /// How many batches may span the line.
    pub max_in_flight: u64,
}

/// Why an attempt failed, as far as a line must know it.
pub trait Cause: Clone {
    /// What a broker refused it with; `None` if no broker did.
    fn code(&self) -> Option<ErrorCode>;
    /// Whether trying again may help.
    fn is_retriable(&self) -> bool;
}

impl Cause for PartitionError {
    fn code(&self) -> Option<ErrorCode> {
        Some(self.code)
    }

    fn is_retriable(&self) -> bool {
        self.code.is_retriable()
    }
}

/// A batch that is sent for the first time.
#[derive(Debug, Clone, Copy)]
pub struct NewBatch {
    /// Its name; larger than those of all batches before it.
    pub id: BatchId,
    /// How many sequences it takes.
    pub record_count: u32,
    /// When its records are given up.
    pub deadline: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Answer<E> {
    /// Stored, now or by an earlier attempt.
    Stored {
        /// The offset of its first record.
        base_offset: u64,
    },
    /// Refused by a broker.
    Refused {
        error: E,
        /// Whether there is a better broker to ask than the one that refused.
        at_once: bool,
    },
    /// No answer will come.
    Lost { error: E },
}

/// Why a batch fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why<E> {
    /// Its time is over.
    TimedOut {
        /// The last failure since something succeeded.
        last: Option<E>,
    },
    /// A broker's refusal that is final.
    Refused(E),
}

/// What a driver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<E> {
    /// Send this batch, stamped so.
    Send {
        batch: BatchId,
        /// Absent without idempotence.
        stamp: Option<ProducerStamp>,
    },
    /// The records are acknowledged.
    Complete {
        batch: BatchId,
        /// The offset of its first record.
        base_offset: u64,
    },
    /// The records failed.
    Fail {
        batch: BatchId,
        why: Why<E>,
        /// Whether they may stand in the log all the same.
        maybe_written: bool,
    },
    /// Ask for the epoch after this one.
    RaiseEpoch(Identity),
}

/// The line of one partition.
#[derive(Debug)]
pub struct Line<E> {
    settings: LineSettings,
    identity: Option<Identity>,
    next_sequence: Sequence,
    entries: VecDeque<Entry>,
    next_ordinal: u64,
    /// Counts sends, so that one can tell which of two came later.
    next_turn: u64,
    /// Something left the line without success: the epoch must be raised before anything new is
    /// sent.
    broken: bool,
    /// The next epoch was asked for.
    raising: bool,
    /// Refusals in a row, for the pause after them.
    failures: u32,
    retry_at: Option<Duration>,
    last_error: Option<E>,
    /// Something came back since something new was sent.
    returned: bool,
}

#[derive(Debug)]
struct Entry {
    id: BatchId,
    record_count: u32,
    deadline: Duration,
    ordinal: u64,
    stamp: Option<ProducerStamp>,
    /// When it was last sent, in turns.
    turn: u64,
    flight: Option<Flight>,
    /// Its last attempt was refused because of something ahead of it: sent again only behind that.
    held: bool,
    unresolved: bool,
    void: bool,
    /// Its records were given up; it stays only until its attempt comes back.
    given_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    /// Whether nothing was ahead of it when it was sent.
    at_head: bool,
}

impl<E: Cause> Line<E> {
    /// An empty line; an idempotent one sends nothing before it is [identified](Self::identified).
    pub fn new(settings: LineSettings, identity: Option<Identity>) -> Self {
        Self {
            settings,
            identity,
            next_sequence: Sequence::ZERO,
            entries: VecDeque::new(),
            next_ordinal: 0,
            next_turn: 1,
            broken: false,
            raising: false,
            failures: 0,
            retry_at: None,
            last_error: None,
            returned: false,
        }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it waits for an identity before it sends anything.
    pub fn needs_identity(&self) -> bool {
        self.settings.idempotent && self.identity.is_none()
    }

    /// Whether a new batch may be sent now.
    pub fn takes_more(&self, now: Duration) -> bool {
        let span = self
            .entries
            .front()
            .map_or(0, |head| self.next_ordinal - head.ordinal);
        span < self.settings.max_in_flight
            && !self.broken
            && !self.needs_identity()
            && self.may_retry(now)
            && self.entries.iter().all(|entry| entry.flight.is_some())
    }

    /// Whether a batch may be sent that could still grow: if nothing is in flight, or something
    /// returned since the last one.
    pub fn takes_partial(&self) -> bool {
        self.entries.is_empty() || self.returned
    }

    /// Why nothing gets through, for whoever must give up: the first cause since the last success.
    pub fn note(&mut self, error: &E) {
        self.last_error = Some(error.clone());
    }

    /// When time has something to do here, later than now: what may be sent again already waits for
    /// a broker, not for time.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let open = self.entries.iter().filter(|entry| !entry.given_up);
        let deadline = open.map(|entry| entry.deadline).min();
        let retry = self
            .retry_at
            .filter(|at| *at > now && self.entries.iter().any(|entry| entry.flight.is_none()));
        [deadline, retry].into_iter().flatten().min()
    }

    /// A new batch, to be sent at once: only if the line [takes more](Self::takes_more).
    pub fn send(&mut self, batch: NewBatch) -> Effect<E> {
        let stamp = self
            .identity
            .map(|identity| self.stamp(identity, batch.record_count));
        self.entries.push_back(Entry {
            id: batch.id,
            record_count: batch.record_count,
            deadline: batch.deadline,
            ordinal: self.next_ordinal,
            stamp,
            turn: 0,
            flight: None,
            held: false,
            unresolved: false,
            void: false,
            given_up: false,
        });
        self.next_ordinal += 1;
        self.returned = false;
        self.dispatch(self.entries.len() - 1)
    }

    /// Sends again what is to be sent again.
    pub fn resend(&mut self, now: Duration) -> Vec<Effect<E>> {
        let mut effects = Vec::new();
        if self.raising || self.needs_identity() || !self.may_retry(now) {
            return effects;
        }
        let end = if self.broken {
            // Only to learn what became of what may have been written; the rest waits for the next
            // epoch.
            self.entries
                .iter()
                .rposition(|entry| entry.unresolved)
                .map_or(0, |last| last + 1)
        } else {
            self.entries.len()
        };
        for index in 0..end {
            let entry = &self.entries[index];
            if entry.flight.is_some() {
                continue;
            }
            let ahead = index.checked_sub(1).map(|ahead| self.entries[ahead].turn);
            if entry.void || (entry.held && ahead.is_some_and(|turn| turn < entry.turn)) {
                break;
            }
            effects.push(self.dispatch(index));
        }
        effects
    }

    /// An attempt came back, or will not. Every attempt does exactly one of both.
    pub fn answered(&mut self, batch: BatchId, answer: Answer<E>, now: Duration) -> Vec<Effect<E>> {
        let mut effects = Vec::new();
        let Some(index) = self.entries.iter().position(|entry| entry.id == batch) else {
            return effects;
        };
        let Some(flight) = self.entries[index].flight.take() else {
            return effects;
        };
        self.returned = true;
        match answer {
            Answer::Stored { base_offset } => {
                self.failures = 0;
                self.last_error = None;
                if let Some(entry) = self.entries.remove(index)
                    && !entry.given_up
                {
                    effects.push(Effect::Complete { batch, base_offset });
                }
            }
            Answer::Refused { error, at_once } => {
                self.refused(index, flight, &error, at_once, now, &mut effects);
            }
            Answer::Lost { error } => {
                self.may_have_been_appended(index);
                self.retry(index, &error, false, now, &mut effects);
            }
        }
        self.raise_epoch(&mut effects);
        effects
    }

    /// Gives up whose time is over.
    pub fn expire(&mut self, now: Duration) -> Vec<Effect<E>> {
        let mut effects = Vec::new();
        let mut index = 0;
        while let Some(entry) = self.entries.get(index) {
            if entry.given_up || entry.deadline > now {
                index += 1;
                continue;
            }
            let why = Why::TimedOut {
                last: self.last_error.clone(),
            };
            let maybe_written = entry.may_be_written();
            if entry.flight.is_some() {
                effects.push(Effect::Fail {
                    batch: entry.id,
                    why,
                    maybe_written,
                });
                self.entries[index].given_up = true;
                index += 1;
            } else {
                self.leave(index, Some((why, maybe_written)), &mut effects);
            }
        }
        self.raise_epoch(&mut effects);
        effects
    }

    /// The identity to count sequences in from now on. What is in the line, certainly never
    /// written, is numbered anew.
    pub fn identified(&mut self, identity: Identity) {
        assert!(
            self.entries
                .iter()
                .all(|entry| entry.flight.is_none() && !entry.unresolved),
            "R9: what may have been written keeps its sequence"
        );
        self.identity = Some(identity);
        self.next_sequence = Sequence::ZERO;
        for index in 0..self.entries.len() {
            let stamp = self.stamp(identity, self.entries[index].record_count);
            let entry = &mut self.entries[index];
            entry.stamp = Some(stamp);
            (entry.held, entry.void) = (false, false);
        }
        (self.broken, self.raising) = (false, false);
        self.retry_at = None;
    }

    /// Another broker leads: what waited because of the last one goes at once.
    pub fn leader_changed(&mut self) {
        self.retry_at = None;
    }

    /// Gives everything up; tells of each batch whether it may have been written.
    pub fn abort(&mut self) -> Vec<(BatchId, bool)> {
        let open = self.entries.drain(..).filter(|entry| !entry.given_up);
        open.map(|entry| (entry.id, entry.may_be_written())).collect()
    }

    /// The last failure since something succeeded.
    pub fn last_error(&self) -> Option<&E> {
        self.last_error.as_ref()
    }

    fn refused(
        &mut self,
        index: usize,
        flight: Flight,
        error: &E,
        at_once: bool,
        now: Duration,
        effects: &mut Vec<Effect<E>>,
    ) {
        match error.code() {
            Some(code) if self.settings.idempotent && is_about_sequences(code) => {
                self.sequence_refused(index, flight, error, effects);
            }
            Some(ErrorCode::DuplicateSequenceNumber) => {
                // It stands in the log, so there is no gap; but nobody remembers where.
                if let Some(entry) = self.entries.remove(index)
                    && !entry.given_up
                {
                    effects.push(Effect::Fail {
                        batch: entry.id,
                        why: Why::Refused(error.clone()),
                        maybe_written: true,
                    });
                }
            }
            code => {
                if code.is_some_and(is_indeterminate) {
                    self.may_have_been_appended(index);
                }
                if error.is_retriable() {
                    self.retry(index, error, at_once, now, effects);
                } else {
                    let failure = (Why::Refused(error.clone()), self.entries[index].unresolved);
                    self.leave(index, Some(failure), effects);
                }
            }
        }
    }

    fn sequence_refused(&mut self, index: usize, flight: Flight, error: &E, effects: &mut Vec<Effect<E>>) {
        let entry = &mut self.entries[index];
        if entry.given_up {
            self.leave(index, None, effects);
        } else if !flight.at_head {
            entry.held = true;
        } else if entry.unresolved {
            self.leave(index, Some((Why::Refused(error.clone()), true)), effects);
        } else {
            // The partition's memory of the producer does not reach up to here: it expired, or the
            // log lost its end.
            self.broken = true;
            self.void_from(index);
        }
    }

    fn retry(&mut self, index: usize, error: &E, at_once: bool, now: Duration, effects: &mut Vec<Effect<E>>) {
        self.note(error);
        if self.entries[index].given_up {
            self.leave(index, None, effects);
        } else if self.may_retry(now) {
            self.failures += 1;
            // Two brokers may each name the other.
            let pause = !at_once || self.failures > 2;
            self.retry_at = pause.then(|| now + pauses::after(self.failures));
        }
    }

    /// Takes a batch out without success: why, and whether it may have been written.
    fn leave(&mut self, index: usize, failure: Option<(Why<E>, bool)>, effects: &mut Vec<Effect<E>>) {
        let Some(entry) = self.entries.remove(index) else {
            return;
        };
        if let Some((why, maybe_written)) = failure
            && !entry.given_up
        {
            effects.push(Effect::Fail {
                batch: entry.id,
                why,
                maybe_written,
            });
        }
        if entry.stamp.is_some() {
            self.broken = true;
            if !entry.unresolved {
                self.void_from(index);
            }
        }
    }

    fn void_from(&mut self, index: usize) {
        for entry in self.entries.range_mut(index..) {
            (entry.void, entry.unresolved) = (true, false);
        }
    }

    fn may_have_been_appended(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.unresolved = !entry.void && !mutant::is_on(Mutant::ForgetDoubt);
    }

    fn raise_epoch(&mut self, effects: &mut Vec<Effect<E>>) {
        let open = |entry: &Entry| entry.flight.is_some() || entry.unresolved;
        if self.broken && !self.raising && !self.entries.iter().any(open) {
            self.raising = true;
            effects.extend(self.identity.map(Effect::RaiseEpoch));
        }
    }

    fn dispatch(&mut self, index: usize) -> Effect<E> {
        if self.entries[index].turn > 0 && mutant::is_on(Mutant::ResendUnderNewSequence) {
            let count = self.entries[index].record_count;
            self.entries[index].stamp = self.identity.map(|identity| self.stamp(identity, count));
        }
        let entry = &mut self.entries[index];
        entry.turn = self.next_turn;
        self.next_turn += 1;
        entry.held = false;
        entry.flight = Some(Flight { at_head: index == 0 });
        Effect::Send {
            batch: entry.id,
            stamp: entry.stamp,
        }
    }

    fn stamp(&mut self, identity: Identity, record_count: u32) -> ProducerStamp {
        let base_sequence = self.next_sequence;
        self.next_sequence = base_sequence.advanced_by(record_count.into());
        ProducerStamp {
            id: identity.id,
            epoch: identity.epoch,
            base_sequence,
        }
    }

    fn may_retry(&self, now: Duration) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }
}

impl Entry {
    fn may_be_written(&self) -> bool {
        !self.void && (self.flight.is_some() || self.unresolved) && !mutant::is_on(Mutant::DenyDoubt)
    }
}

/// Refusals of the sequence check: nothing was appended.
fn is_about_sequences(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
    )
}

/// Refusals after which the batch may stand in the log all the same (R2).
fn is_indeterminate(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::RequestTimedOut
            | ErrorCode::StorageError
            | ErrorCode::UnknownServerError
    )
}

#[cfg(test)]
mod tests;
