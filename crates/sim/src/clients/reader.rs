//! Readers: they start from anywhere, carry the newest leader epoch they have seen, and start anew.
//! After healing one of them visits every partition, and one reads everything to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::{ReadRecord, Reader as ReaderId};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, TopicIdPartition};

use super::leaders::{Leaders, Question};
use crate::context::Context;
use crate::disk::Batch;
use crate::message::{Address, Answer, Ask, Message};
use crate::network::Heard;

/// A reader of one partition at a time.
pub(super) struct Reader {
    address: Address,
    leaders: Leaders,
    partition: TopicIdPartition,
    id: ReaderId,
    epoch: Option<LeaderEpoch>,
    position: Option<Offset>,
    /// Where the log begins, by the broker that was asked for its ends. The next leader may not
    /// have heard of that trim yet.
    begins: Offset,
    asked: Option<Question<()>>,
    ask_at: Duration,
    /// What is left to be visited, the next one last, by a reader that visits.
    visit: Option<Vec<TopicIdPartition>>,
    /// What is left to be read to the end, by a reader that does.
    pub(super) audit: Option<Audit>,
}

/// A read of everything.
#[derive(Debug, Default)]
pub(super) struct Audit {
    left: Vec<TopicIdPartition>,
    bounds: Option<(Offset, Offset)>,
    records: Vec<ReadRecord>,
    /// Where each partition ended.
    pub(super) ends: BTreeMap<TopicIdPartition, Offset>,
    pub(super) is_done: bool,
}

impl Reader {
    pub(super) fn new(address: Address, context: &mut Context) -> Self {
        let partitions = context.config.partitions();
        let partition = context.random.pick(&partitions).expect("a run has partitions");
        Self {
            address,
            leaders: Leaders::default(),
            partition,
            id: ReaderId(context.fresh() as u32),
            epoch: None,
            position: None,
            begins: Offset::ZERO,
            asked: None,
            ask_at: Duration::ZERO,
            visit: None,
            audit: None,
        }
    }

    /// One that reads something in every partition. The first comes twice: what a reader is
    /// answered first it may have asked for at any time, as far as the history shows.
    pub(super) fn visiting(address: Address, context: &mut Context) -> Self {
        let mut left = context.config.partitions();
        left.extend(left.first().copied());
        let mut reader = Self::new(address, context);
        if let Some(partition) = left.last() {
            reader.partition = *partition;
        }
        reader.visit = Some(left);
        reader
    }

    /// Whether it has visited every partition.
    pub(super) fn has_visited(&self) -> bool {
        self.visit.as_ref().is_some_and(Vec::is_empty)
    }

    fn is_done(&self) -> bool {
        self.has_visited() || self.audit.as_ref().is_some_and(|audit| audit.is_done)
    }

    /// One that reads all partitions from start to end.
    pub(super) fn auditing(address: Address, context: &mut Context) -> Self {
        let left = context.config.partitions();
        let mut reader = Self::new(address, context);
        if let Some(partition) = left.last() {
            reader.partition = *partition;
        }
        reader.audit = Some(Audit {
            left,
            ..Audit::default()
        });
        reader
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        self.leaders.refresh(self.address, context);
        if self.asked.as_ref().is_some_and(|asked| asked.is_over(context)) {
            self.asked = None;
            self.leaders.refused(self.partition, None);
        }
        if self.asked.is_some() || self.ask_at > context.now || self.is_done() {
            return;
        }
        if self.audit.is_none() && self.visit.is_none() && context.random.per_mille(4) {
            self.start_anew(context);
        }
        let Some((leader, epoch)) = self.leaders.of(self.partition) else {
            return;
        };
        let leader_epoch = Some(self.epoch.map_or(epoch, |seen| seen.max(epoch)));
        let (ask, wait) = match self.position {
            None => (
                Ask::Ends {
                    partition: self.partition,
                    leader_epoch,
                },
                Duration::ZERO,
            ),
            Some(offset) => {
                let max_wait = context.random.millis(0, 500);
                let ask = Ask::Fetch {
                    partition: self.partition,
                    leader_epoch,
                    offset,
                    max_batches: context.random.between(1, 20) as usize,
                    max_wait,
                };
                (ask, max_wait)
            }
        };
        self.asked = Some(Question::ask(self.address, leader, ask, wait, (), context));
    }

    pub(super) fn hear(&mut self, heard: Heard, context: &mut Context) {
        let Heard::Datagram(_, Message::Answer { id, answer }) = heard else {
            return;
        };
        if self.leaders.take(id, &answer) || self.asked.take_if(|asked| asked.is_answered_by(id)).is_none() {
            return;
        }
        context.history.seen.operations += 1;
        match answer {
            Answer::Ends {
                start,
                end,
                leader_epoch,
            } => self.found_ends(start, end, leader_epoch, context),
            Answer::Fetched {
                batches,
                log_start,
                leader_epoch,
                next,
            } => {
                self.epoch = self.epoch.max(Some(leader_epoch));
                self.read(&batches, log_start, next, context);
            }
            Answer::Refused(error) => {
                self.leaders.refused(self.partition, Some(&error));
                self.ask_at = context.now + context.random.millis(5, 150);
                if error.code == ErrorCode::OffsetOutOfRange {
                    self.start_anew(context);
                }
            }
            _ => {}
        }
    }

    fn found_ends(&mut self, start: Offset, end: Offset, epoch: LeaderEpoch, context: &mut Context) {
        self.epoch = self.epoch.max(Some(epoch));
        self.begins = start;
        if let Some(audit) = &mut self.audit {
            audit.bounds = Some((start, end));
            audit.records.clear();
            self.position = Some(start);
            self.finish_partition(context);
            return;
        }
        if self.visit.is_some() {
            self.position = Some(start);
            return;
        }
        let from = match context.random.below(3) {
            0 => start,
            1 => end,
            _ => Offset(context.random.between(start.0, end.0)),
        };
        self.position = Some(from);
    }

    fn read(&mut self, batches: &[Batch], log_start: Offset, next: Offset, context: &mut Context) {
        let Some(from) = self.position else { return };
        let records: Vec<_> = records_of(batches)
            .filter(|record| record.offset >= from)
            .collect();
        if let Some(audit) = &mut self.audit {
            audit.records.extend(&records);
        }
        if next > from {
            context.record(What::Read {
                reader: self.id,
                partition: self.partition,
                from,
                next,
                records,
                log_start: log_start.max(self.begins),
            });
        }
        self.position = Some(next);
        if next > from {
            self.visit_next();
        }
        self.finish_partition(context);
        self.ask_at = context.now + context.random.micros(200, 60_000);
    }

    /// Something was read in the partition: a reader that visits goes on to the next one.
    fn visit_next(&mut self) {
        let Some(left) = &mut self.visit else { return };
        left.pop();
        if let Some(next) = left.last() {
            self.partition = *next;
        }
        self.epoch = None;
        self.position = None;
    }

    fn finish_partition(&mut self, context: &mut Context) {
        let Some(audit) = &mut self.audit else { return };
        let Some((start, end)) = audit.bounds.filter(|(_, end)| self.position >= Some(*end)) else {
            return;
        };
        let records: Vec<_> = std::mem::take(&mut audit.records);
        context.record(What::ReadToEnd {
            partition: self.partition,
            log_start: start,
            end: end.max(self.position.unwrap_or(end)),
            records,
        });
        audit.ends.insert(self.partition, end);
        audit.bounds = None;
        audit.left.pop();
        let next = audit.left.last().copied();
        audit.is_done = next.is_none();
        if let Some(next) = next {
            self.partition = next;
        }
        self.epoch = None;
        self.position = None;
        self.id = ReaderId(context.fresh() as u32);
    }

    fn start_anew(&mut self, context: &mut Context) {
        self.position = None;
        if self.visit.is_some() {
            return;
        }
        self.id = ReaderId(context.fresh() as u32);
        if self.audit.is_none() {
            let partitions = context.config.partitions();
            if let Some(partition) = context.random.pick(&partitions)
                && partition != self.partition
            {
                self.partition = partition;
                self.epoch = None;
            }
        }
    }
}

/// The records of batches.
pub(super) fn records_of(batches: &[Batch]) -> impl Iterator<Item = ReadRecord> {
    batches.iter().flat_map(|batch| {
        let first = batch.info.base_offset;
        batch
            .entry
            .values
            .iter()
            .zip(0..)
            .map(move |(value, at)| ReadRecord {
                offset: first + at,
                value: *value,
            })
    })
}
