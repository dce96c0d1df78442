//! What a store should hold, worked out as plainly as can be: lists, scans, no index.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use tidelog_types::{
    EpochEntry, LeaderEpoch, LocalPartition, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    ProducerState, RememberedBatch, Sequence, TopicId, TopicIdPartition,
};
use uuid::Uuid;

use super::BatchSpec;
use crate::{Append, BatchToAppend, PartitionLog, Truncate};

/// A step as it is drawn: which partition is meant, and where, depends on what there is.
#[derive(Debug, Clone)]
pub(crate) enum Draw {
    Create,
    Delete {
        pick: u8,
    },
    Append {
        pick: u8,
        batches: Vec<(u32, usize, i64)>,
        new_epoch: bool,
        producer: Option<u64>,
    },
    Truncate {
        pick: u8,
        back: u64,
    },
    Trim {
        pick: u8,
        ahead: u64,
        past_end: bool,
    },
    Checkpoint {
        pick: u8,
        back: u64,
    },
    Read {
        pick: u8,
        from: u64,
        length: u64,
        max_bytes: usize,
    },
    Find {
        pick: u8,
        timestamp_ms: i64,
    },
    Restart {
        orderly: bool,
    },
}

/// A step as it is done.
#[derive(Debug, Clone)]
pub enum Step {
    /// Creates a partition, which gets that number.
    Create(TopicIdPartition, LocalPartition),
    /// Deletes it.
    Delete(LocalPartition),
    /// See [`LogStore::append`](crate::LogStore::append).
    Append(Append),
    /// See [`LogStore::truncate`](crate::LogStore::truncate).
    Truncate(Truncate),
    /// Advances the log start.
    Trim(LocalPartition, Offset),
    /// Notes the high watermark.
    Checkpoint(LocalPartition, Offset),
    /// See [`LogStore::read`](crate::LogStore::read).
    Read {
        /// Where.
        local: LocalPartition,
        /// The first offset.
        from: Offset,
        /// The end of the offsets.
        until: Offset,
        /// The most bytes, if more than one batch is read.
        max_bytes: usize,
    },
    /// Looks a timestamp up, milliseconds.
    Find(LocalPartition, i64),
    /// Stops the store and starts it again.
    Restart {
        /// Whether it is closed before.
        orderly: bool,
    },
}

pub(crate) fn draws() -> impl Strategy<Value = Draw> {
    let size = prop::sample::select(vec![0usize, 100, 1000, 5000, 70_000]);
    let batches = prop::collection::vec((1u32..12, size, -5i64..40), 1..5);
    let producer = prop::option::of(0u64..4);
    prop_oneof![
        2 => Just(Draw::Create),
        1 => any::<u8>().prop_map(|pick| Draw::Delete { pick }),
        12 => (any::<u8>(), batches, prop::bool::weighted(0.2), producer)
            .prop_map(|(pick, batches, new_epoch, producer)| Draw::Append { pick, batches, new_epoch, producer }),
        3 => (any::<u8>(), 0u64..60).prop_map(|(pick, back)| Draw::Truncate { pick, back }),
        2 => (any::<u8>(), 0u64..40, prop::bool::weighted(0.2))
            .prop_map(|(pick, ahead, past_end)| Draw::Trim { pick, ahead, past_end }),
        2 => (any::<u8>(), 0u64..20).prop_map(|(pick, back)| Draw::Checkpoint { pick, back }),
        5 => (any::<u8>(), 0u64..100, 0u64..100, 0usize..20_000)
            .prop_map(|(pick, from, length, max_bytes)| Draw::Read { pick, from, length, max_bytes }),
        2 => (any::<u8>(), -10i64..300).prop_map(|(pick, timestamp_ms)| Draw::Find { pick, timestamp_ms }),
        1 => any::<bool>().prop_map(|orderly| Draw::Restart { orderly }),
    ]
}

/// Every partition that there should be.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// By their number.
    pub logs: BTreeMap<LocalPartition, RefLog>,
    created: u32,
    /// The last draw, as it came to be done.
    pub(crate) last: Option<Step>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct RefLog {
    /// What it is a replica of.
    pub partition: TopicIdPartition,
    /// The first readable offset.
    pub start: Offset,
    /// The offset after the last batch.
    pub end: Offset,
    high_watermark: Offset,
    /// Oldest first.
    pub batches: Vec<BatchToAppend>,
    epochs: Vec<EpochEntry>,
    producers: BTreeMap<ProducerId, ProducerState>,
}

impl Reference {
    /// Works out what a draw means here, and does it.
    pub(crate) fn draw(&mut self, draw: &Draw) {
        self.last = self.concrete(draw);
        if let Some(step) = self.last.clone() {
            self.apply(&step);
        }
    }

    /// Does what a step does. Reads and restarts change nothing.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Create(partition, local) => {
                self.created += 1;
                self.logs.insert(*local, RefLog::new(*partition));
            }
            Step::Delete(local) => drop(self.logs.remove(local)),
            Step::Append(append) => self.log(append.partition).append(append),
            Step::Truncate(truncate) => self.log(truncate.partition).truncate(truncate),
            Step::Trim(local, start) => self.log(*local).trim(*start),
            Step::Checkpoint(local, offset) => self.log(*local).high_watermark = *offset,
            Step::Read { .. } | Step::Find(..) | Step::Restart { .. } => {}
        }
    }

    fn log(&mut self, local: LocalPartition) -> &mut RefLog {
        self.logs
            .get_mut(&local)
            .expect("a step names a partition there is")
    }

    fn pick(&self, pick: u8) -> Option<(LocalPartition, &RefLog)> {
        let at = usize::from(pick).checked_rem(self.logs.len())?;
        self.logs.iter().nth(at).map(|(&local, log)| (local, log))
    }

    fn concrete(&self, draw: &Draw) -> Option<Step> {
        Some(match *draw {
            Draw::Create => {
                let partition = PartitionIndex(self.created);
                let partition = TopicIdPartition {
                    topic_id: TopicId(Uuid::from_u128(1)),
                    partition,
                };
                Step::Create(partition, LocalPartition(self.created))
            }
            Draw::Delete { pick } => Step::Delete(self.pick(pick)?.0),
            Draw::Append {
                pick,
                ref batches,
                new_epoch,
                producer,
            } => {
                let (local, log) = self.pick(pick)?;
                Step::Append(log.make_append(local, batches, new_epoch, producer))
            }
            Draw::Truncate { pick, back } => {
                let (local, log) = self.pick(pick)?;
                Step::Truncate(log.make_truncate(local, Offset(log.end.0.saturating_sub(back))))
            }
            Draw::Trim {
                pick,
                ahead,
                past_end,
            } => {
                let (local, log) = self.pick(pick)?;
                let inside = (log.start + ahead).min(log.end);
                Step::Trim(local, if past_end { log.end + ahead } else { inside })
            }
            Draw::Checkpoint { pick, back } => {
                let (local, log) = self.pick(pick)?;
                Step::Checkpoint(local, Offset(log.end.0.saturating_sub(back)))
            }
            Draw::Read {
                pick,
                from,
                length,
                max_bytes,
            } => {
                let from = Offset(from);
                Step::Read {
                    local: self.pick(pick)?.0,
                    from,
                    until: from + length,
                    max_bytes,
                }
            }
            Draw::Find { pick, timestamp_ms } => Step::Find(self.pick(pick)?.0, timestamp_ms),
            Draw::Restart { orderly } => Step::Restart { orderly },
        })
    }
}

impl RefLog {
    fn new(partition: TopicIdPartition) -> Self {
        Self {
            partition,
            start: Offset::ZERO,
            end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            batches: Vec::new(),
            epochs: Vec::new(),
            producers: BTreeMap::new(),
        }
    }

    /// An append at the log end. Each batch has a number of records, payload bytes, and
    /// milliseconds that its timestamp is ahead of its base offset.
    pub fn make_append(
        &self,
        partition: LocalPartition,
        batches: &[(u32, usize, i64)],
        new_epoch: bool,
        producer: Option<u64>,
    ) -> Append {
        let latest = self.epochs.last().map(|entry| entry.epoch);
        let epoch = match latest {
            Some(epoch) if !new_epoch => epoch,
            other => other.map_or(LeaderEpoch(1), LeaderEpoch::next),
        };
        let mut base = self.end;
        let mut made = Vec::new();
        for &(count, payload_bytes, lead_ms) in batches {
            let timestamp_ms = base.0 as i64 + lead_ms;
            let seed = base.0 ^ u64::from(epoch.0) << 32;
            made.push(
                BatchSpec {
                    base,
                    count,
                    epoch,
                    timestamp_ms,
                    producer: None,
                    payload_bytes,
                    seed,
                }
                .build(),
            );
            base = base + u64::from(count);
        }
        let last = made.last().expect("at least one batch was drawn").info;
        let remembered = RememberedBatch {
            base_sequence: Sequence::ZERO.advanced_by(last.base_offset.0),
            base_offset: last.base_offset,
            last_offset: last.last_offset,
            timestamp_ms: last.max_timestamp_ms,
        };
        let producer = producer.map(|id| ProducerState {
            id: ProducerId(id),
            epoch: ProducerEpoch(2),
            batches: VecDeque::from([remembered]),
            last_timestamp_ms: last.max_timestamp_ms,
        });
        let begins = latest != Some(epoch);
        Append {
            partition,
            batches: made,
            epochs: begins
                .then_some(EpochEntry {
                    epoch,
                    start_offset: self.end,
                })
                .into_iter()
                .collect(),
            producers: producer.into_iter().collect(),
        }
    }

    /// A truncation, with the producers that it changes.
    pub fn make_truncate(&self, partition: LocalPartition, to: Offset) -> Truncate {
        let mut truncate = Truncate {
            partition,
            to,
            producers: Vec::new(),
            forgotten: Vec::new(),
        };
        for state in self
            .producers
            .values()
            .filter(|state| state.batches[0].last_offset >= to)
        {
            if state.id.0.is_multiple_of(2) {
                truncate.forgotten.push(state.id);
            } else {
                truncate.producers.push(ProducerState {
                    last_timestamp_ms: -1,
                    ..state.clone()
                });
            }
        }
        truncate
    }

    fn append(&mut self, append: &Append) {
        self.end = append.batches.last().expect("at least one").info.end_offset();
        self.batches.extend(append.batches.iter().cloned());
        self.epochs.extend(&append.epochs);
        for state in &append.producers {
            self.producers.insert(state.id, state.clone());
        }
    }

    fn truncate(&mut self, truncate: &Truncate) {
        for state in &truncate.producers {
            self.producers.insert(state.id, state.clone());
        }
        self.producers.retain(|id, _| !truncate.forgotten.contains(id));
        let mut end = self.end.min(truncate.to.max(self.start));
        while let Some(last) = self.batches.last().filter(|batch| batch.info.end_offset() > end) {
            end = end.min(last.info.base_offset);
            self.batches.pop();
        }
        self.end = end.max(self.start);
        let end = self.end;
        self.epochs.retain(|entry| entry.start_offset < end);
        self.high_watermark = self.high_watermark.min(end);
    }

    fn trim(&mut self, start: Offset) {
        self.start = self.start.max(start);
        let start = self.start;
        self.batches.retain(|batch| batch.info.end_offset() > start);
        if start > self.end {
            self.end = start;
            self.epochs.clear();
            self.producers.clear();
        }
    }

    /// What the log remembers.
    pub fn load(&self) -> PartitionLog {
        let mut epochs = self.epochs.clone();
        while epochs.len() > 1 && epochs[1].start_offset <= self.start {
            epochs.remove(0);
        }
        if let Some(first) = epochs.first_mut() {
            first.start_offset = first.start_offset.max(self.start);
        }
        PartitionLog {
            log_start: self.start,
            log_end: self.end,
            high_watermark: self.high_watermark.clamp(self.start, self.end),
            epochs,
            producers: self.producers.values().cloned().collect(),
        }
    }

    /// The batches that a read gives, and where it ends.
    pub(crate) fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> (Vec<BatchToAppend>, Offset) {
        let from = from.max(self.start);
        let mut found: Vec<BatchToAppend> = Vec::new();
        for batch in &self.batches {
            let inside = batch.info.end_offset() > from && batch.info.base_offset < until && from < until;
            let sum: usize = found.iter().map(|batch| batch.bytes.len()).sum();
            if inside && !found.is_empty() && sum + batch.bytes.len() > max_bytes {
                break;
            }
            found.extend(inside.then(|| batch.clone()));
        }
        let next = found.last().map_or(from, |batch| batch.info.end_offset());
        (found, next)
    }

    /// Checks the size that a store tells of it: exact before the first trim, at most 256 KiB too
    /// large after it.
    pub fn check_size(&self, told: u64) {
        let exact: u64 = self.batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        let spare = if self.start == Offset::ZERO { 0 } else { 256 * 1024 };
        assert!(
            (exact..=exact + spare).contains(&told),
            "{} bytes from {} to {} are told to be {told}",
            exact,
            self.start,
            self.end
        );
    }

    pub(crate) fn find(&self, timestamp_ms: i64) -> Option<Offset> {
        let found = self
            .batches
            .iter()
            .find(|batch| batch.info.max_timestamp_ms >= timestamp_ms);
        found.map(|batch| batch.info.base_offset)
    }
}
