//! One partition's batches on their way, by the rules of the real client's line: what is sent again, what is given up, and when a new
//! producer epoch is due.
//!
//! 1. At most five batches span the line; each keeps its sequence for as long as it may have been written.
//! 2. A refusal for a sequence out of order is final only at the head of the line.
//! 3. What left the line without success leaves a gap: once nothing is in flight or unresolved, the epoch is raised, and what is left,
//!    certainly never written, is numbered anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidelog_history::event::{SendId, Value};
use tidelog_types::{
    ErrorCode, LeaderEpoch, Offset, PartitionError, ProducerEpoch, ProducerId, ProducerStamp, Sequence,
};

use crate::message::Payload;

/// How many batches may span the line: as many as a broker remembers.
const MAX_SPAN: u64 = 5;

/// What became of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    Stored(Offset, LeaderEpoch),
    Refused(PartitionError),
    Lost,
}

/// What a producer does.
#[derive(Debug)]
pub(super) enum Step {
    Send(SendId, Arc<Payload>),
    Complete(SendId, Offset, LeaderEpoch),
    /// Given up; whether it may be written.
    Fail(SendId, bool),
    RaiseEpoch,
}

/// The line of one partition.
#[derive(Debug)]
pub(super) struct Line {
    is_idempotent: bool,
    identity: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: Sequence,
    entries: VecDeque<Entry>,
    next_ordinal: u64,
    next_turn: u64,
    broken: bool,
    raising: bool,
    retry_at: Duration,
}

#[derive(Debug)]
struct Entry {
    send: SendId,
    values: Vec<Value>,
    deadline: Duration,
    ordinal: u64,
    stamp: Option<ProducerStamp>,
    turn: u64,
    /// On its way; whether it was sent from the head of the line.
    flight: Option<bool>,
    held: bool,
    unresolved: bool,
    void: bool,
    given_up: bool,
}

impl Line {
    pub(super) fn new(is_idempotent: bool) -> Self {
        Self {
            is_idempotent,
            identity: None,
            next_sequence: Sequence::ZERO,
            entries: VecDeque::new(),
            next_ordinal: 0,
            next_turn: 1,
            broken: false,
            raising: false,
            retry_at: Duration::ZERO,
        }
    }

    pub(super) fn needs_identity(&self) -> bool {
        self.is_idempotent && self.identity.is_none()
    }

    pub(super) fn identity(&self) -> Option<(ProducerId, ProducerEpoch)> {
        self.identity
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a new batch may be sent now.
    pub(super) fn takes_more(&self, now: Duration) -> bool {
        let span = self
            .entries
            .front()
            .map_or(0, |head| self.next_ordinal - head.ordinal);
        span < MAX_SPAN
            && !self.broken
            && !self.needs_identity()
            && self.retry_at <= now
            && self.entries.iter().all(|entry| entry.flight.is_some())
    }

    /// Sends a new batch, if the line takes more.
    pub(super) fn send(&mut self, send: SendId, values: Vec<Value>, deadline: Duration) -> Step {
        let stamp = self
            .identity
            .map(|identity| self.stamp(identity, values.len() as u64));
        self.entries.push_back(Entry {
            send,
            values,
            deadline,
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
        self.dispatch(self.entries.len() - 1)
    }

    /// Sends again what is to be sent again.
    pub(super) fn resend(&mut self, now: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.raising || self.needs_identity() || self.retry_at > now {
            return steps;
        }
        let end = if self.broken {
            let last = self.entries.iter().rposition(|entry| entry.unresolved);
            last.map_or(0, |last| last + 1)
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
            steps.push(self.dispatch(index));
        }
        steps
    }

    /// An attempt came back, or will not.
    pub(super) fn answered(&mut self, send: SendId, outcome: Outcome, retry_at: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(index) = self.entries.iter().position(|entry| entry.send == send) else {
            return steps;
        };
        let Some(at_head) = self.entries[index].flight.take() else {
            return steps;
        };
        match outcome {
            Outcome::Stored(offset, epoch) => {
                let given_up = self.entries.remove(index).is_some_and(|entry| entry.given_up);
                if !given_up {
                    steps.push(Step::Complete(send, offset, epoch));
                }
            }
            Outcome::Refused(error) => self.refused(index, at_head, error.code, retry_at, &mut steps),
            Outcome::Lost => {
                self.may_have_been_appended(index);
                self.retry(index, retry_at, &mut steps);
            }
        }
        self.raise_epoch(&mut steps);
        steps
    }

    /// Gives up whose time is over.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut index = 0;
        while let Some(entry) = self.entries.get(index) {
            if entry.given_up || entry.deadline > now {
                index += 1;
                continue;
            }
            if entry.flight.is_some() {
                steps.push(Step::Fail(entry.send, !entry.void));
                self.entries[index].given_up = true;
                index += 1;
            } else {
                let maybe_written = !entry.void && entry.unresolved;
                self.leave(index, Some(maybe_written), &mut steps);
            }
        }
        self.raise_epoch(&mut steps);
        steps
    }

    /// The identity to count sequences in from now on.
    pub(super) fn identified(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        self.identity = Some((id, epoch));
        self.next_sequence = Sequence::ZERO;
        for index in 0..self.entries.len() {
            let count = self.entries[index].values.len() as u64;
            let stamp = self.stamp((id, epoch), count);
            let entry = &mut self.entries[index];
            entry.stamp = Some(stamp);
            (entry.held, entry.void) = (false, false);
        }
        (self.broken, self.raising) = (false, false);
        self.retry_at = Duration::ZERO;
    }

    fn refused(
        &mut self,
        index: usize,
        at_head: bool,
        code: ErrorCode,
        retry_at: Duration,
        steps: &mut Vec<Step>,
    ) {
        let is_about_sequences = matches!(
            code,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
        );
        if self.is_idempotent && is_about_sequences {
            return self.sequence_refused(index, at_head, steps);
        }
        if code == ErrorCode::DuplicateSequenceNumber {
            // It stands in the log, but nobody remembers where.
            if let Some(entry) = self.entries.remove(index).filter(|entry| !entry.given_up) {
                steps.push(Step::Fail(entry.send, true));
            }
            return;
        }
        if matches!(
            code,
            ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::RequestTimedOut
                | ErrorCode::StorageError
                | ErrorCode::UnknownServerError
        ) {
            self.may_have_been_appended(index);
        }
        if code.is_retriable() {
            self.retry(index, retry_at, steps);
        } else {
            let maybe_written = self.entries[index].unresolved;
            self.leave(index, Some(maybe_written), steps);
        }
    }

    fn sequence_refused(&mut self, index: usize, at_head: bool, steps: &mut Vec<Step>) {
        let entry = &mut self.entries[index];
        if entry.given_up {
            self.leave(index, None, steps);
        } else if !at_head {
            entry.held = true;
        } else if entry.unresolved {
            self.leave(index, Some(true), steps);
        } else {
            self.broken = true;
            self.void_from(index);
        }
    }

    fn retry(&mut self, index: usize, retry_at: Duration, steps: &mut Vec<Step>) {
        if self.entries[index].given_up {
            self.leave(index, None, steps);
        } else {
            self.retry_at = self.retry_at.max(retry_at);
        }
    }

    fn leave(&mut self, index: usize, fails: Option<bool>, steps: &mut Vec<Step>) {
        let Some(entry) = self.entries.remove(index) else {
            return;
        };
        if let Some(maybe_written) = fails.filter(|_| !entry.given_up) {
            steps.push(Step::Fail(entry.send, maybe_written));
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

    fn raise_epoch(&mut self, steps: &mut Vec<Step>) {
        let open = |entry: &Entry| entry.flight.is_some() || entry.unresolved;
        if self.broken && !self.raising && !self.entries.iter().any(open) {
            self.raising = true;
            steps.push(Step::RaiseEpoch);
        }
    }

    fn dispatch(&mut self, index: usize) -> Step {
        let entry = &mut self.entries[index];
        entry.turn = self.next_turn;
        self.next_turn += 1;
        entry.held = false;
        entry.flight = Some(index == 0);
        let payload = Payload {
            values: entry.values.clone(),
            stamp: entry.stamp,
        };
        Step::Send(entry.send, Arc::new(payload))
    }

    fn stamp(&mut self, (id, epoch): (ProducerId, ProducerEpoch), count: u64) -> ProducerStamp {
        let base_sequence = self.next_sequence;
        self.next_sequence = base_sequence.advanced_by(count);
        ProducerStamp {
            id,
            epoch,
            base_sequence,
        }
    }
}
