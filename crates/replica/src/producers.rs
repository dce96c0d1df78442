//! What a log remembers of idempotent producers (R9).
//!
//! The table is a replay of the log's batches (P25), whoever appends them: leader, follower or a
//! scan after a crash. Of what is not committed yet it also keeps how to undo it, since only that
//! can be truncated (P23): so a truncation gives exactly the state that a replay of what is left
//! would give, without reading the log. Only a tail that was recovered from disk has no undo; it
//! takes a scan.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tidelog_types::{
    BatchInfo, ErrorCode, Offset, ProducerId, ProducerStamp, ProducerState, RememberedBatch,
};

/// What a producer's stamp says about a batch, before it is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next one.
    Next,
    /// It was appended before, there.
    Duplicate(RememberedBatch),
    /// It may not be appended.
    Refused(ErrorCode),
}

/// The producers of one partition.
#[derive(Debug, Clone, Default)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Remembered>,
    /// Of each batch appended at or above the committed offset, what its producer was before it;
    /// oldest first.
    undo: VecDeque<Undo>,
    /// From here on, every batch of a producer has its undo.
    undo_from: Offset,
}

/// What truncating changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerChanges {
    /// Producers as they are afterwards, by id.
    pub changed: Vec<ProducerState>,
    /// Producers of whom nothing is left, by id.
    pub forgotten: Vec<ProducerId>,
}

#[derive(Debug, Clone)]
struct Remembered {
    state: ProducerState,
    /// When its last batch was appended here, or the log was recovered.
    appended_at: Duration,
}

#[derive(Debug, Clone)]
struct Undo {
    base_offset: Offset,
    id: ProducerId,
    before: Option<ProducerState>,
}

impl ProducerTable {
    /// The producers of a recovered log that ends at `log_end`.
    pub fn recovered(producers: Vec<ProducerState>, log_end: Offset, now: Duration) -> Self {
        let mut table = Self {
            undo_from: log_end,
            ..Self::default()
        };
        table.replace(producers, now);
        table
    }

    /// Everything remembered of a producer.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&id).map(|remembered| &remembered.state)
    }

    /// All states, by id.
    pub fn states(&self) -> Vec<ProducerState> {
        let mut states: Vec<_> = self
            .producers
            .values()
            .map(|remembered| remembered.state.clone())
            .collect();
        states.sort_by_key(|state| state.id);
        states
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What the table says about a batch of `offset_count` records with this stamp (R9).
    pub fn check(&self, stamp: ProducerStamp, offset_count: u64) -> SequenceCheck {
        let Some(state) = self.get(stamp.id) else {
            return first_of_epoch(stamp, ErrorCode::UnknownProducerId);
        };
        if stamp.epoch < state.epoch {
            return SequenceCheck::Refused(ErrorCode::InvalidProducerEpoch);
        }
        if stamp.epoch > state.epoch {
            return first_of_epoch(stamp, ErrorCode::OutOfOrderSequenceNumber);
        }
        check_in_epoch(state, stamp, offset_count)
    }

    /// Takes note of a batch that is appended: the only way the table grows.
    pub fn replay(&mut self, batch: &BatchInfo, now: Duration) {
        let Some(stamp) = batch.producer else { return };
        let before = self.get(stamp.id).cloned();
        let state = next_state(before.clone(), batch, stamp);
        self.undo.push_back(Undo {
            base_offset: batch.base_offset,
            id: stamp.id,
            before,
        });
        self.producers.insert(
            stamp.id,
            Remembered {
                state,
                appended_at: now,
            },
        );
    }

    /// Drops the undo of what is committed and can no longer be truncated.
    pub fn committed(&mut self, high_watermark: Offset) {
        while self
            .undo
            .front()
            .is_some_and(|undo| undo.base_offset < high_watermark)
        {
            self.undo.pop_front();
        }
        self.undo_from = self.undo_from.max(high_watermark);
    }

    /// Whether a truncation to `to` can be undone from memory. If not, the log up to there must be
    /// scanned and handed to [`ProducerTable::rebuilt`].
    pub fn can_truncate(&self, to: Offset) -> bool {
        self.undo_from <= to
            || !self
                .producers
                .values()
                .any(|remembered| reaches(&remembered.state, to))
    }

    /// Undoes every batch from `to` on.
    pub fn truncate(&mut self, to: Offset, now: Duration) -> ProducerChanges {
        assert!(self.can_truncate(to), "P25: the producers below {to} need a scan");
        let mut touched = Vec::new();
        while let Some(undo) = self.undo.pop_back_if(|undo| undo.base_offset >= to) {
            touched.push(undo.id);
            match undo.before {
                Some(state) => {
                    self.producers.insert(
                        undo.id,
                        Remembered {
                            state,
                            appended_at: now,
                        },
                    );
                }
                None => {
                    self.producers.remove(&undo.id);
                }
            }
        }
        self.undo_from = self.undo_from.min(to);
        self.changes(touched)
    }

    /// Takes what a scan of the log up to `log_end` found. Returns what changed by it.
    pub fn rebuilt(
        &mut self,
        producers: Vec<ProducerState>,
        log_end: Offset,
        now: Duration,
    ) -> ProducerChanges {
        let before: Vec<_> = self
            .producers
            .drain()
            .map(|(id, remembered)| (id, remembered.state))
            .collect();
        self.undo.clear();
        self.undo_from = log_end;
        self.replace(producers, now);
        let differing = before
            .into_iter()
            .filter(|(id, state)| self.get(*id) != Some(state));
        let touched = differing.map(|(id, _)| id).collect();
        self.changes(touched)
    }

    /// Forgets everything, naming whom.
    pub fn clear(&mut self, log_end: Offset) -> Vec<ProducerId> {
        let mut forgotten: Vec<_> = self.producers.drain().map(|(id, _)| id).collect();
        forgotten.sort_unstable();
        self.undo.clear();
        self.undo_from = log_end;
        forgotten
    }

    /// Forgets producers that appended nothing for `expiration` and have nothing uncommitted,
    /// naming them.
    ///
    /// Time counts from the append, not from the records' timestamps, which are the client's: a
    /// backfill of old data must not lose its protection against duplicates.
    pub fn expire(&mut self, now: Duration, expiration: Duration) -> Vec<ProducerId> {
        let uncommitted: HashSet<_> = self.undo.iter().map(|undo| undo.id).collect();
        let idle = |(id, remembered): (&ProducerId, &Remembered)| {
            let old = now.saturating_sub(remembered.appended_at) >= expiration;
            (old && !uncommitted.contains(id)).then_some(*id)
        };
        let mut expired: Vec<_> = self.producers.iter().filter_map(idle).collect();
        expired.sort_unstable();
        for id in &expired {
            self.producers.remove(id);
        }
        expired
    }

    fn replace(&mut self, producers: Vec<ProducerState>, now: Duration) {
        let remembered = producers.into_iter().map(|state| {
            (
                state.id,
                Remembered {
                    state,
                    appended_at: now,
                },
            )
        });
        self.producers = remembered.collect();
    }

    fn changes(&self, mut touched: Vec<ProducerId>) -> ProducerChanges {
        touched.sort_unstable();
        touched.dedup();
        let mut changes = ProducerChanges::default();
        for id in touched {
            match self.get(id) {
                Some(state) => changes.changed.push(state.clone()),
                None => changes.forgotten.push(id),
            }
        }
        changes
    }
}

fn first_of_epoch(stamp: ProducerStamp, otherwise: ErrorCode) -> SequenceCheck {
    if stamp.base_sequence == tidelog_types::Sequence::ZERO {
        SequenceCheck::Next
    } else {
        SequenceCheck::Refused(otherwise)
    }
}

fn check_in_epoch(state: &ProducerState, stamp: ProducerStamp, offset_count: u64) -> SequenceCheck {
    let last_sequence = stamp.base_sequence.advanced_by(offset_count - 1);
    let same = |batch: &&RememberedBatch| {
        batch.base_sequence == stamp.base_sequence && batch.last_sequence() == last_sequence
    };
    if let Some(batch) = state.batches.iter().find(same) {
        return SequenceCheck::Duplicate(*batch);
    }
    let Some(newest) = state.batches.back() else {
        return first_of_epoch(stamp, ErrorCode::OutOfOrderSequenceNumber);
    };
    let expected = newest.last_sequence().advanced_by(1);
    if stamp.base_sequence == expected {
        return SequenceCheck::Next;
    }
    // Sequences wrap, so "before" is the nearer half of the circle.
    let behind = i64::from(newest.last_sequence().to_wire()) - i64::from(last_sequence.to_wire());
    if behind.rem_euclid(1 << 31) < 1 << 30 {
        SequenceCheck::Refused(ErrorCode::DuplicateSequenceNumber)
    } else {
        SequenceCheck::Refused(ErrorCode::OutOfOrderSequenceNumber)
    }
}

fn next_state(before: Option<ProducerState>, batch: &BatchInfo, stamp: ProducerStamp) -> ProducerState {
    let mut batches = match before {
        Some(state) if state.epoch == stamp.epoch => state.batches,
        _ => VecDeque::with_capacity(ProducerState::REMEMBERED_BATCHES),
    };
    if batches.len() == ProducerState::REMEMBERED_BATCHES {
        batches.pop_front();
    }
    batches.push_back(RememberedBatch {
        base_sequence: stamp.base_sequence,
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        timestamp_ms: batch.max_timestamp_ms,
    });
    ProducerState {
        id: stamp.id,
        epoch: stamp.epoch,
        batches,
        last_timestamp_ms: batch.max_timestamp_ms,
    }
}

fn reaches(state: &ProducerState, offset: Offset) -> bool {
    state
        .batches
        .back()
        .is_some_and(|batch| batch.last_offset >= offset)
}

#[cfg(test)]
mod tests;
