//! One partition's batches on their way: what is sent, what is sent again, and what is given up. No I/O and no clock.
//!
//! The batches stand in a line, in the order of their sequences, from the first whose fate is open:
//!
//! 1. At most `max_in_flight` of them span the line. A broker remembers the last five batches of a producer (R9), so whatever in the line
//!    is sent again is recognised if it was stored before. The limit is a distance, not a count: a batch at the head that
//!    waits for its answer holds the line even when those behind it have theirs.
//! 2. A batch gets its sequence when it is first sent, and is sent again with the same one, in the order of the line. A refusal for a
//!    sequence out of order means nothing while something ahead of the batch is open: it is sent again after that. At
//!    the head of the line it is final.
//! 3. A batch is *unresolved* once an attempt ended without saying whether the batch was appended: the stream was lost, the wait for replicas
//!    timed out. That attempt may even be read by the broker later. A later refusal does not change it; only success does.
//! 4. A batch that leaves the line without success leaves a gap, and a broker takes nothing behind a gap in that epoch. If it was never
//!    appended, nothing behind it was or will be: those are *void*. If it may have been, those that are unresolved themselves are sent
//!    again as they are, and what becomes of them tells.
//! 5. When nothing is in flight and nothing unresolved, the epoch is raised (KIP-360) and what is left, all of it certainly never
//!    written, is numbered anew from 0. Nothing that may have been written is ever numbered anew: it could be stored twice. It
//!    succeeds with its old number or fails, saying so.
//!
//! The epoch belongs to the partition's line: a gap in one partition holds up no other. That is enough, since brokers keep a producer's
//! epoch and sequences by partition.

use std::collections::VecDeque;
use std::time::Duration;

use tidelog_types::{ErrorCode, ProducerEpoch, ProducerId, ProducerStamp, Sequence};

use crate::backoff;
use crate::error::{Error, ErrorKind};

/// Names a batch within its producer; later ones are larger.
pub(crate) type BatchId = u64;

/// Whose sequences a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// What holds for every line of a producer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineSettings {
    pub(crate) idempotent: bool,
    pub(crate) max_in_flight: u64,
    /// For the sentence that says that it passed.
    pub(crate) delivery_timeout: Duration,
}

/// A batch that is sent for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewBatch {
    pub(crate) id: BatchId,
    pub(crate) record_count: u32,
    /// When its records are given up.
    pub(crate) deadline: Duration,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Stored, now or by an earlier attempt.
    Stored { base_offset: u64 },
    /// Refused; `at_once` if there is a better broker to ask than the one that was.
    Refused { error: Error, at_once: bool },
    /// No answer will come.
    Lost { error: Error },
}

/// What a driver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this batch, stamped so.
    Send {
        batch: BatchId,
        stamp: Option<ProducerStamp>,
    },
    /// The records are acknowledged.
    Complete { batch: BatchId, base_offset: u64 },
    /// The records failed.
    Fail { batch: BatchId, error: Error },
    /// Ask for the epoch after this one.
    RaiseEpoch(Identity),
}

/// The line of one partition.
#[derive(Debug)]
pub(crate) struct Line {
    settings: LineSettings,
    identity: Option<Identity>,
    next_sequence: Sequence,
    entries: VecDeque<Entry>,
    next_ordinal: u64,
    /// Counts sends, so that one can tell which of two came later.
    next_turn: u64,
    /// Something left the line without success: the epoch must be raised before anything new is sent.
    broken: bool,
    /// The next epoch was asked for.
    raising: bool,
    /// Refusals in a row, for the pause after them.
    failures: u32,
    retry_at: Option<Duration>,
    last_error: Option<Error>,
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

impl Line {
    /// An empty line; an idempotent one sends nothing before it is [identified](Self::identified).
    pub(crate) fn new(settings: LineSettings, identity: Option<Identity>) -> Self {
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
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn needs_identity(&self) -> bool {
        self.settings.idempotent && self.identity.is_none()
    }

    /// Whether a new batch may be sent now.
    pub(crate) fn takes_more(&self, now: Duration) -> bool {
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

    /// Whether a batch may be sent that could still grow: if nothing is in flight, or something returned since the last one.
    pub(crate) fn takes_partial(&self) -> bool {
        self.entries.is_empty() || self.returned
    }

    /// Why nothing gets through, for whoever must give up: the first cause since the last success.
    pub(crate) fn note(&mut self, error: &Error) {
        self.last_error = Some(error.clone());
    }

    /// When time has something to do here, later than now: what may be sent again already waits for a broker, not for time.
    pub(crate) fn next_wake(&self, now: Duration) -> Option<Duration> {
        let open = self.entries.iter().filter(|entry| !entry.given_up);
        let deadline = open.map(|entry| entry.deadline).min();
        let retry = self
            .retry_at
            .filter(|at| *at > now && self.entries.iter().any(|entry| entry.flight.is_none()));
        [deadline, retry].into_iter().flatten().min()
    }

    /// A new batch, to be sent at once: only if the line [takes more](Self::takes_more).
    pub(crate) fn send(&mut self, batch: NewBatch) -> Effect {
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
    pub(crate) fn resend(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.raising || self.needs_identity() || !self.may_retry(now) {
            return effects;
        }
        let end = if self.broken {
            // Only to learn what became of what may have been written; the rest waits for the next epoch.
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
    pub(crate) fn answered(&mut self, batch: BatchId, answer: Answer, now: Duration) -> Vec<Effect> {
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
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut index = 0;
        while let Some(entry) = self.entries.get(index) {
            if entry.given_up || entry.deadline > now {
                index += 1;
                continue;
            }
            let error = self.timed_out(entry.may_be_written());
            if entry.flight.is_some() {
                let batch = entry.id;
                self.entries[index].given_up = true;
                effects.push(Effect::Fail { batch, error });
                index += 1;
            } else {
                self.leave(index, Some(error), &mut effects);
            }
        }
        self.raise_epoch(&mut effects);
        effects
    }

    /// The identity to count sequences in from now on. What is in the line, certainly never written, is numbered anew.
    pub(crate) fn identified(&mut self, identity: Identity) {
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
    pub(crate) fn leader_changed(&mut self) {
        self.retry_at = None;
    }

    /// Gives everything up.
    pub(crate) fn abort(&mut self, error: &Error) -> Vec<Effect> {
        let open = self.entries.drain(..).filter(|entry| !entry.given_up);
        open.map(|entry| Effect::Fail {
            batch: entry.id,
            error: error.clone().with_maybe_written(entry.may_be_written()),
        })
        .collect()
    }

    fn refused(
        &mut self,
        index: usize,
        flight: Flight,
        error: &Error,
        at_once: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
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
                    let error = error.clone().with_maybe_written(true);
                    effects.push(Effect::Fail {
                        batch: entry.id,
                        error,
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
                    let error = error.clone().with_maybe_written(self.entries[index].unresolved);
                    self.leave(index, Some(error), effects);
                }
            }
        }
    }

    fn sequence_refused(&mut self, index: usize, flight: Flight, error: &Error, effects: &mut Vec<Effect>) {
        let entry = &mut self.entries[index];
        if entry.given_up {
            self.leave(index, None, effects);
        } else if !flight.at_head {
            entry.held = true;
        } else if entry.unresolved {
            self.leave(index, Some(error.clone().with_maybe_written(true)), effects);
        } else {
            // The partition's memory of the producer does not reach up to here: it expired, or the log lost its end.
            self.broken = true;
            self.void_from(index);
        }
    }

    fn retry(
        &mut self,
        index: usize,
        error: &Error,
        at_once: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.note(error);
        if self.entries[index].given_up {
            self.leave(index, None, effects);
        } else if self.may_retry(now) {
            self.failures += 1;
            // Two brokers may each name the other.
            let pause = !at_once || self.failures > 2;
            self.retry_at = pause.then(|| now + backoff::after(self.failures));
        }
    }

    /// Takes a batch out without success.
    fn leave(&mut self, index: usize, error: Option<Error>, effects: &mut Vec<Effect>) {
        let Some(entry) = self.entries.remove(index) else {
            return;
        };
        if let Some(error) = error
            && !entry.given_up
        {
            effects.push(Effect::Fail {
                batch: entry.id,
                error,
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
        entry.unresolved = !entry.void;
    }

    fn raise_epoch(&mut self, effects: &mut Vec<Effect>) {
        let open = |entry: &Entry| entry.flight.is_some() || entry.unresolved;
        if self.broken && !self.raising && !self.entries.iter().any(open) {
            self.raising = true;
            effects.extend(self.identity.map(Effect::RaiseEpoch));
        }
    }

    fn dispatch(&mut self, index: usize) -> Effect {
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

    /// The error of records whose time is over.
    pub(crate) fn timed_out(&self, maybe_written: bool) -> Error {
        let timeout = self.settings.delivery_timeout;
        let cause = match &self.last_error {
            Some(error) => format!("the last failure: {error}"),
            None => "no broker answered in time".to_owned(),
        };
        Error::new(
            ErrorKind::TimedOut,
            format!("not delivered within {timeout:?} (delivery_timeout); {cause}"),
        )
        .with_maybe_written(maybe_written)
    }
}

impl Entry {
    fn may_be_written(&self) -> bool {
        !self.void && (self.flight.is_some() || self.unresolved)
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
