//! What a replica has in every role: its log's ends, its epochs, its producers.

use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BatchInfo, EpochEntry, Offset, ProducerState};

use crate::effect::Effect;
use crate::{EpochCache, ProducerTable};

/// A log as it was found on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogState {
    /// The first readable offset.
    pub log_start: Offset,
    /// The offset after the last batch.
    pub log_end: Offset,
    /// The last high watermark noted.
    pub high_watermark: Offset,
    /// The leader-epoch cache, rising.
    pub epochs: Vec<EpochEntry>,
    /// Idempotent producers.
    pub producers: Vec<ProducerState>,
}

/// A log in use.
///
/// ```text
///   log start ≤ high watermark ≤ durable end ≤ written end ≤ log end      (on a leader)
/// ```
/// On a follower the high watermark may be past its durable end: it is the leader's word, up to the
/// log end.
#[derive(Debug, Clone)]
pub struct ReplicaLog {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) written_end: Offset,
    pub(crate) log_end: Offset,
    pub(crate) epochs: EpochCache,
    pub(crate) producers: ProducerTable,
    /// Where a truncation ended the log that is not durable yet. Its report is still to come.
    cut: Option<Offset>,
}

impl ReplicaLog {
    /// A recovered log: what was found on disk is durable.
    pub fn recovered(state: LogState, now: Duration) -> Self {
        assert!(
            state.log_start <= state.log_end,
            "a log begins at or before its end"
        );
        Self {
            log_start: state.log_start,
            high_watermark: state.high_watermark.clamp(state.log_start, state.log_end),
            durable_end: state.log_end,
            written_end: state.log_end,
            log_end: state.log_end,
            epochs: EpochCache::new(state.epochs, state.log_start),
            producers: ProducerTable::recovered(state.producers, state.log_end, now),
            cut: None,
        }
    }

    /// The first readable offset.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Up to where consumers read.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Up to where everything is on stable storage here.
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Up to where followers read.
    pub fn written_end(&self) -> Offset {
        self.written_end
    }

    /// The offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// The leader-epoch cache.
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    /// The producers.
    pub fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// Whether everything that was enqueued is durable: no report of progress is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.durable_end == self.log_end && self.cut.is_none()
    }

    /// A report of progress up to `end` came. Says whether it is the first one since a truncation:
    /// the truncation is durable.
    pub(crate) fn end_cut(&mut self, end: Offset) -> bool {
        self.cut.take_if(|to| *to <= end).is_some()
    }

    /// Takes note of a batch that is enqueued at the end.
    pub(crate) fn push(&mut self, batch: &BatchInfo, now: Duration) -> Option<EpochEntry> {
        assert_eq!(
            batch.base_offset, self.log_end,
            "a batch begins where the log ends"
        );
        self.producers.replay(batch, now);
        self.log_end = batch.end_offset();
        self.epochs.replay(batch)
    }

    /// Moves the written end; an older report changes nothing.
    pub(crate) fn written(&mut self, end: Offset) -> bool {
        let moved = end > self.written_end;
        self.written_end = self.written_end.max(end.min(self.log_end));
        if mutant::is_on(Mutant::AcknowledgeBeforeSync) {
            self.durable_end = self.durable_end.max(self.written_end);
        }
        moved
    }

    /// Moves the durable end; an older report changes nothing.
    pub(crate) fn durable(&mut self, end: Offset) -> bool {
        let moved = end > self.durable_end;
        self.durable_end = self.durable_end.max(end.min(self.log_end));
        // What is durable has been written, whichever of the two reports came first.
        self.written_end = self.written_end.max(self.durable_end);
        moved
    }

    /// Moves the high watermark forward; never back.
    pub(crate) fn advance_high_watermark(&mut self, to: Offset, effects: &mut Vec<Effect>) {
        if to > self.high_watermark {
            assert!(to <= self.log_end, "the high watermark lies within the log");
            self.high_watermark = to;
            self.producers.committed(to);
            effects.push(Effect::HighWatermark(to));
        }
    }

    /// Removes the tail. Only while quiet: then no late report of what is removed can be taken for
    /// one of what takes its place.
    pub(crate) fn truncate(
        &mut self,
        to: Offset,
        changes: crate::producers::ProducerChanges,
        effects: &mut Vec<Effect>,
    ) {
        assert!(
            self.is_quiet(),
            "R5: a log is truncated only while nothing is under way"
        );
        let below = self.high_watermark > to;
        if !mutant::is_on(Mutant::StaleEpochCache) {
            self.epochs.truncate(to);
        }
        self.log_end = to;
        self.written_end = to;
        self.durable_end = to;
        self.cut = Some(to);
        effects.push(Effect::Truncate {
            to,
            producers: changes.changed,
            forgotten: changes.forgotten,
        });
        if below {
            effects.push(Effect::TruncatedCommitted {
                from: to,
                to: self.high_watermark,
            });
            self.high_watermark = to;
        }
    }

    /// Empties the log and begins it anew.
    pub(crate) fn reset(&mut self, start: Offset, effects: &mut Vec<Effect>) {
        assert!(
            self.is_quiet(),
            "R5: a log is reset only while nothing is under way"
        );
        let forgotten = self.producers.clear(start);
        self.epochs.clear();
        let floor = self.log_start;
        self.log_start = start;
        self.log_end = start;
        self.written_end = start;
        self.durable_end = start;
        self.high_watermark = start;
        self.cut = Some(start);
        effects.push(Effect::Truncate {
            to: floor,
            producers: Vec::new(),
            forgotten,
        });
        effects.push(Effect::Trim { log_start: start });
    }

    /// Moves the log start forward, within what is committed.
    pub(crate) fn trim(&mut self, log_start: Offset, effects: &mut Vec<Effect>) {
        let log_start = log_start.min(self.high_watermark);
        if log_start > self.log_start {
            self.log_start = log_start;
            self.epochs.trim(log_start);
            effects.push(Effect::Trim { log_start });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidelog_types::LeaderEpoch;

    use super::*;

    pub(crate) fn batch(base: u64, count: u64, epoch: u32) -> BatchInfo {
        BatchInfo {
            base_offset: Offset(base),
            last_offset: Offset(base + count - 1),
            leader_epoch: LeaderEpoch(epoch),
            max_timestamp_ms: 0,
            size_bytes: 100,
            producer: None,
        }
    }

    #[test]
    fn late_reports_change_nothing() {
        let mut log = ReplicaLog::recovered(LogState::default(), Duration::ZERO);
        log.push(&batch(0, 5, 1), Duration::ZERO);
        assert!(log.durable(Offset(5)));
        assert!(!log.written(Offset(3)));
        assert!(!log.durable(Offset(4)));
        assert_eq!((log.durable_end(), log.written_end()), (Offset(5), Offset(5)));
    }

    #[test]
    fn a_recovered_high_watermark_lies_within_the_log() {
        let state = LogState {
            log_end: Offset(5),
            high_watermark: Offset(9),
            ..LogState::default()
        };
        assert_eq!(
            ReplicaLog::recovered(state, Duration::ZERO).high_watermark(),
            Offset(5)
        );
    }

    #[test]
    fn trimming_stops_at_what_is_committed() {
        let state = LogState {
            log_end: Offset(9),
            high_watermark: Offset(5),
            ..LogState::default()
        };
        let mut log = ReplicaLog::recovered(state, Duration::ZERO);
        let mut effects = Vec::new();
        log.trim(Offset(8), &mut effects);
        log.trim(Offset(3), &mut effects);
        assert_eq!(effects, [Effect::Trim { log_start: Offset(5) }]);
    }
}
