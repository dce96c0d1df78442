//! One partition that is read: where it stands, what was fetched ahead, and whether it may be
//! handed out or fetched now.
//!
//! A slot lives as long as one ownership: a partition that is given up and comes back gets another
//! slot, so that a late answer to the first finds nobody.

use std::collections::VecDeque;

use tidelog_record::{Batch, DEFAULT_OPENED_BYTES, IntoRecords};
use tidelog_types::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::time::Instant;

use super::marks::Marks;
use super::options::StartAt;
use super::repeated::Repeated;
use crate::error::Error;
use crate::offsets::OffsetAt;
use crate::record::ConsumedRecord;
use crate::wire::session::Assigned;

/// Answers without anything for a partition, while others of the same question had something,
/// before it is asked for among the idle ones.
const COLD_AFTER: u8 = 3;

/// Whether a partition is ours to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is read.
    Reading,
    /// Assigned, and the application has not been told yet.
    Arriving,
    /// Being given up, or lost: nothing of it is handed out any more.
    Leaving,
}

/// Where reading begins, until that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// It is known.
    Known,
    /// It is to be looked up.
    Wanted(Lookup),
    /// It is being looked up.
    Asked(Lookup),
}

/// What is to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// What the group committed.
    Committed,
    /// An offset of the log.
    Log(OffsetAt),
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: TopicPartition,
    /// The topic that is read: one that is made anew under its name is another one, and this
    /// partition none of it.
    pub(super) topic_id: TopicId,
    /// In which life of the member its group assigned it; none in assigned mode.
    pub(super) life: Option<u64>,
    pub(super) standing: Standing,
    pub(super) paused: bool,
    pub(super) start: Start,
    /// The next record to hand out has at least this offset.
    pub(super) position: Offset,
    /// Where the next fetch begins: behind what is buffered.
    pub(super) fetch_offset: Offset,
    /// The newest leader epoch that an answer carried (R6).
    pub(super) seen_epoch: Option<LeaderEpoch>,
    pub(super) high_watermark: Option<Offset>,
    /// The question that is out for it.
    pub(super) in_flight: Option<u64>,
    /// Failures in a row, and when to try again.
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
    /// Since when nobody knows the partition.
    pub(super) unknown_since: Option<Instant>,
    pub(super) marks: Marks,
    /// Stands among the partitions that have something to hand out.
    pub(super) queued: bool,
    /// The position fell out of the log: marks made before it still count.
    was_reset: bool,
    misses: u8,
    buffer: VecDeque<Batch>,
    open: Option<Open>,
    buffered_bytes: usize,
    /// What the application is told behind what is buffered. If it is final, reading does not go
    /// on.
    failure: Option<Repeated>,
}

/// The batch that is being handed out.
#[derive(Debug)]
struct Open {
    records: IntoRecords,
    left: u32,
    next_offset: Offset,
    epoch: LeaderEpoch,
    size_bytes: usize,
}

impl Slot {
    pub(super) fn new(read: Assigned, life: Option<u64>) -> Self {
        Self {
            partition: read.partition,
            topic_id: read.topic_id,
            life,
            standing: Standing::Arriving,
            paused: false,
            start: Start::Wanted(Lookup::Committed),
            position: Offset::ZERO,
            fetch_offset: Offset::ZERO,
            seen_epoch: None,
            high_watermark: None,
            in_flight: None,
            failures: 0,
            not_before: None,
            unknown_since: None,
            marks: Marks::from(Offset::ZERO),
            queued: false,
            was_reset: false,
            misses: 0,
            buffer: VecDeque::new(),
            open: None,
            buffered_bytes: 0,
            failure: None,
        }
    }

    /// Goes on from somewhere else: what was fetched, asked or wrong before counts no more.
    pub(super) fn seek(&mut self, to: StartAt) {
        self.drop_buffer();
        self.failure = None;
        self.failures = 0;
        self.not_before = None;
        self.was_reset = false;
        match to {
            StartAt::Offset(offset) => self.begin_at(Offset(offset)),
            StartAt::At(at) => self.start = Start::Wanted(Lookup::Log(at)),
        }
    }

    /// Reading begins here.
    pub(super) fn begin_at(&mut self, offset: Offset) {
        self.start = Start::Known;
        (self.position, self.fetch_offset) = (offset, offset);
        if self.was_reset && self.marks.begins_at_most(offset) {
            self.marks.nothing_until(offset);
        } else {
            self.marks = Marks::from(offset);
        }
        self.was_reset = false;
        self.recovered();
    }

    /// The position fell out of the log. What is buffered is handed out, then reading goes on where
    /// this finds it.
    pub(super) fn reset_to(&mut self, at: OffsetAt) {
        self.start = Start::Wanted(Lookup::Log(at));
        self.was_reset = true;
    }

    /// What is buffered is forgotten, and an answer that is on its way is not taken.
    pub(super) fn drop_buffer(&mut self) {
        self.buffer.clear();
        self.open = None;
        self.buffered_bytes = 0;
        self.in_flight = None;
        self.fetch_offset = self.position;
    }

    /// As a group assigns it.
    pub(super) fn as_assigned(&self) -> Assigned {
        Assigned {
            partition: self.partition.clone(),
            topic_id: self.topic_id,
        }
    }

    pub(super) fn see_epoch(&mut self, epoch: LeaderEpoch) {
        self.seen_epoch = self.seen_epoch.max(Some(epoch));
    }

    /// What is buffered is handed out, then the error, again and again: until a seek if it is
    /// final, else until a success.
    pub(super) fn fail(&mut self, error: Error) {
        match &mut self.failure {
            Some(failure) => failure.renew(error),
            None => self.failure = Some(Repeated::new(error)),
        }
    }

    /// Whether it is not read any more, for a final error.
    fn is_stopped(&self) -> bool {
        let failure = self.failure.as_ref();
        failure.is_some_and(|failure| !failure.error().is_retriable())
    }

    /// Until when there is nothing to hand out but an error that was told a moment ago.
    pub(super) fn repeats_at(&self, now: Instant) -> Option<Instant> {
        let has_records = self.open.is_some() || !self.buffer.is_empty();
        self.failure.as_ref().filter(|_| !has_records)?.waits_until(now)
    }

    pub(super) fn back_off(&mut self, now: Instant) {
        self.failures += 1;
        self.not_before = Some(now + crate::backoff::after(self.failures));
    }

    pub(super) fn succeeded(&mut self) {
        self.unknown_since = None;
        self.recovered();
    }

    /// What passes has passed.
    fn recovered(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.failure.take_if(|failure| failure.error().is_retriable());
    }

    /// Whether fetches tend to bring something: such partitions are asked for apart from the idle
    /// ones.
    pub(super) fn is_hot(&self) -> bool {
        self.misses < COLD_AFTER
    }

    /// A question about it was answered without anything for it: because it waited in vain, or
    /// because others had something.
    pub(super) fn missed(&mut self, waited: bool) {
        self.misses = if waited {
            COLD_AFTER
        } else {
            self.misses.saturating_add(1)
        };
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Whether it may be asked for, if there is room and nothing is out for it.
    pub(super) fn wants_fetch(&self, cap_bytes: usize) -> bool {
        self.standing == Standing::Reading
            && self.start == Start::Known
            && !self.paused
            && !self.is_stopped()
            && self.in_flight.is_none()
            && self.buffered_bytes < cap_bytes
    }

    /// Whether its start is to be looked up.
    pub(super) fn wants_lookup(&self) -> Option<Lookup> {
        match self.start {
            Start::Wanted(lookup)
                if self.standing == Standing::Reading && !self.is_stopped() && self.buffered_bytes == 0 =>
            {
                Some(lookup)
            }
            _ => None,
        }
    }

    /// Takes in fetched batches, in offset order. What lies below the position is left out.
    pub(super) fn take_in(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            let next = batch.header().last_offset().next();
            if next <= self.fetch_offset {
                continue;
            }
            self.misses = 0;
            self.fetch_offset = next;
            self.buffered_bytes += batch.bytes().len();
            self.buffer.push_back(batch);
        }
        self.pass_emptied();
    }

    /// Whether there is something to hand out now.
    pub(super) fn has_something(&self) -> bool {
        self.standing == Standing::Reading
            && !self.paused
            && !self.marks.is_full()
            && (self.open.is_some() || !self.buffer.is_empty() || self.failure.is_some())
    }

    /// The next record; `None` where a batch is at its end, or nothing is there. The position is
    /// then behind it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Result<ConsumedRecord, Error>> {
        loop {
            if self.open.is_none() && !self.open_next() {
                return self.tell_failure(now);
            }
            let open = self.open.as_mut()?;
            let record = match open.records.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    self.corrupt(self.position, &error);
                    return self.tell_failure(now);
                }
                None => {
                    self.finish_batch();
                    continue;
                }
            };
            open.left = open.left.saturating_sub(1);
            if record.offset < self.position {
                continue;
            }
            let epoch = open.epoch;
            self.position = record.offset.next();
            self.marks.handed_out(record.offset, epoch);
            if open.left == 0 {
                self.finish_batch();
            }
            return Some(Ok(ConsumedRecord {
                topic: self.partition.topic.clone(),
                topic_id: self.topic_id,
                partition: self.partition.partition.0,
                offset: record.offset.0,
                leader_epoch: epoch.0,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
            }));
        }
    }

    fn tell_failure(&mut self, now: Instant) -> Option<Result<ConsumedRecord, Error>> {
        self.failure.as_mut()?.tell(now).map(Err)
    }

    /// Whether a batch was begun and is not at its end.
    pub(super) fn is_within_batch(&self) -> bool {
        self.open.is_some()
    }

    /// Something that was read does not parse: it is said with its place, and nothing behind it is
    /// handed out.
    fn corrupt(&mut self, at: Offset, cause: &dyn std::fmt::Display) {
        let error = super::errors::damaged(&self.partition, at, cause);
        self.drop_buffer();
        self.fail(error);
    }

    fn open_next(&mut self) -> bool {
        let Some(batch) = self.buffer.pop_front() else {
            return false;
        };
        match batch.open(DEFAULT_OPENED_BYTES) {
            Ok(records) => {
                let header = batch.header();
                self.open = Some(Open {
                    left: header.record_count,
                    next_offset: header.last_offset().next(),
                    epoch: header.leader_epoch.unwrap_or_default(),
                    size_bytes: batch.bytes().len(),
                    records: records.into_iter(),
                });
                true
            }
            Err(error) => {
                self.corrupt(batch.header().base_offset, &error);
                false
            }
        }
    }

    fn finish_batch(&mut self) {
        if let Some(open) = self.open.take() {
            self.buffered_bytes -= open.size_bytes;
            self.pass(open.next_offset);
        }
        self.pass_emptied();
    }

    /// Batches without records for the application are passed at once, so that a reader at the end
    /// of a log knows that it is there.
    fn pass_emptied(&mut self) {
        while self.open.is_none()
            && let Some(batch) = self.buffer.pop_front_if(|batch| is_empty(batch))
        {
            self.buffered_bytes -= batch.bytes().len();
            self.pass(batch.header().last_offset().next());
        }
    }

    fn pass(&mut self, next: Offset) {
        if next > self.position {
            self.position = next;
            self.marks.nothing_until(next);
        }
    }
}

fn is_empty(batch: &Batch) -> bool {
    batch.header().record_count == 0 || batch.header().attributes.is_control()
}

#[cfg(test)]
mod tests {
    use tidelog_record::EmptiedRange;

    use super::*;
    use crate::consumer::testing::{assigned, batch, values};

    fn slot(at: u64) -> Slot {
        let mut slot = Slot::new(assigned("t", 0), None);
        slot.standing = Standing::Reading;
        slot.begin_at(Offset(at));
        slot
    }

    fn drain(slot: &mut Slot) -> Vec<u64> {
        let mut offsets = Vec::new();
        while slot.has_something()
            && let Some(record) = slot.next(Instant::now())
        {
            offsets.push(record.unwrap().offset);
        }
        offsets
    }

    #[test]
    fn a_batch_that_begins_below_the_position_is_entered_in_its_middle() {
        let mut slot = slot(7);
        slot.take_in(vec![batch(0, 5), batch(5, 5), batch(10, 2)]);
        assert_eq!(slot.fetch_offset, Offset(12));
        assert_eq!(drain(&mut slot), [7, 8, 9, 10, 11]);
        assert_eq!((slot.position, slot.buffered_bytes()), (Offset(12), 0));
    }

    #[test]
    fn emptied_batches_move_the_position_without_a_record() {
        let emptied = |from, to| {
            Batch::header_only(EmptiedRange {
                base_offset: Offset(from),
                last_offset: Offset(to),
                leader_epoch: LeaderEpoch(1),
                max_timestamp_ms: -1,
                producer: None,
            })
            .unwrap()
        };
        let mut slot = slot(0);
        slot.take_in(vec![emptied(0, 9)]);
        assert_eq!(slot.position, Offset(10));
        slot.take_in(vec![batch(10, 1), emptied(11, 20)]);
        assert_eq!(drain(&mut slot), [10]);
        assert_eq!(slot.position, Offset(21));
        slot.marks.mark(Offset(10));
        assert_eq!(slot.marks.committable().unwrap().offset, Offset(21));
    }

    #[test]
    fn values_share_the_batchs_buffer() {
        let whole = batch(0, 1);
        let range = whole.bytes().as_ptr_range();
        let mut slot = slot(0);
        slot.take_in(vec![whole.clone()]);
        let value = slot.next(Instant::now()).unwrap().unwrap().value.unwrap();
        assert!(range.contains(&value.as_ptr()));
        assert_eq!(value, values(0));
    }

    #[test]
    fn what_does_not_parse_is_named_and_stays_until_a_seek() {
        let mut slot = slot(0);
        slot.take_in(vec![batch(0, 2)]);
        slot.corrupt(Offset(2), &"bad");
        assert!(slot.has_something() && !slot.wants_fetch(1));
        let mut now = Instant::now();
        let error = slot.next(now).unwrap().unwrap_err();
        assert!(
            error.message().contains("t-0") && error.message().contains("offset 2"),
            "{error}"
        );
        assert_eq!(slot.next(now), None, "told a moment ago");
        now = slot.repeats_at(now).unwrap();
        assert_eq!(slot.next(now), Some(Err(error)));
        slot.seek(StartAt::Offset(3));
        assert!(slot.wants_fetch(1) && !slot.has_something());
    }

    #[test]
    fn what_passes_is_told_while_it_lasts_and_reading_goes_on() {
        let unknown = || {
            let code = tidelog_types::ErrorCode::UnknownTopicOrPartition;
            Error::new(crate::error::ErrorKind::Refused(code), "nobody knows it")
        };
        let mut slot = slot(0);
        slot.take_in(vec![batch(0, 1)]);
        slot.fail(unknown());
        assert!(slot.wants_fetch(1 << 20), "it is tried again");
        let mut now = Instant::now();
        assert_eq!(slot.next(now).unwrap().unwrap().offset, 0);
        for _ in 0..3 {
            assert_eq!(slot.next(now), Some(Err(unknown())));
            slot.fail(unknown());
            assert_eq!(slot.next(now), None);
            now = slot.repeats_at(now).unwrap();
        }
        slot.succeeded();
        slot.take_in(vec![batch(1, 1)]);
        assert_eq!(drain(&mut slot), [1]);
        assert!(!slot.has_something());
    }
}
