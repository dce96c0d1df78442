//! Records of one partition that wait to be sent, in batches. Filled by whoever enqueues, emptied
//! by the sender; the lock is held for the copy of one record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_record::{BatchBuilder, BuildError, Compression, HeaderRef, NewRecord};
use tidelog_types::TopicPartition;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::delivery::{Completion, DeliveryFuture, Settler};
use super::topics::Topic;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;

/// The smallest buffer a batch begins with, bytes.
const SMALLEST_BUFFER: usize = 1024;

/// What batches are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSettings {
    pub(crate) compression: Compression,
    /// A batch of more than one record stays within it, header included, uncompressed.
    pub(crate) batch_size: usize,
}

/// One partition's queue.
#[derive(Debug)]
pub(crate) struct PartitionQueue {
    /// Names it within the producer.
    pub(crate) id: u64,
    pub(crate) partition: TopicPartition,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: BatchSettings,
    open: Option<WaitingBatch>,
    /// Batches that grow no more.
    full: VecDeque<WaitingBatch>,
    /// Every batch that is not settled, oldest first.
    unsettled: VecDeque<Arc<Completion>>,
    /// Whether the sender knows that there is something new.
    scheduled: bool,
    /// Size of the last batch: the next one is likely to be as large.
    last_size: usize,
    closed: bool,
    /// The topic is gone: records for its name go elsewhere.
    retired: bool,
}

/// A batch that nobody sent yet.
#[derive(Debug)]
pub(crate) struct WaitingBatch {
    pub(crate) builder: BatchBuilder,
    pub(crate) settler: Settler,
    pub(crate) opened_at: Instant,
}

/// A record that was put into a batch.
pub(crate) struct Enqueued {
    pub(crate) delivery: DeliveryFuture,
    /// Whether the sender must be told, which then counts as told.
    pub(crate) wake: bool,
}

/// Why a record was not put into a batch.
#[derive(Debug)]
pub(crate) enum NotEnqueued {
    /// The batch was full and the record may go elsewhere. The flag says whether the sender must be
    /// told.
    BatchFull {
        wake: bool,
    },
    /// The topic is gone, and the record may go to the one that has its name now.
    Retired,
    Failed(Error),
}

/// What the sender gets.
#[derive(Debug)]
pub(crate) enum Taken {
    Batch(WaitingBatch),
    /// A batch lingers until then.
    Lingers(Instant),
    Nothing,
}

/// Which batches the sender takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeRule {
    pub(crate) now: Instant,
    pub(crate) linger: Duration,
    /// Whether one that still grows is taken, once it lingered.
    pub(crate) partial: bool,
}

impl PartitionQueue {
    pub(crate) fn new(id: u64, partition: TopicPartition, settings: BatchSettings) -> Self {
        Self {
            id,
            partition,
            state: Mutex::new(State {
                settings,
                open: None,
                full: VecDeque::new(),
                unsettled: VecDeque::new(),
                scheduled: false,
                last_size: SMALLEST_BUFFER,
                closed: false,
                retired: false,
            }),
        }
    }

    /// Copies a record into the open batch. If there is no room in it a new one is begun, unless
    /// `only_if_fits`. `charge` bytes of buffer memory go over to the batch with the record.
    pub(crate) fn append(
        &self,
        record: &Record,
        timestamp_ms: i64,
        room: &Arc<Semaphore>,
        charge: usize,
        only_if_fits: bool,
    ) -> Result<Enqueued, NotEnqueued> {
        let headers = record.headers.iter().map(|header| HeaderRef {
            key: &header.key,
            value: header.value.as_deref(),
        });
        let new = NewRecord::new(timestamp_ms, record.key.as_deref(), record.value.as_deref())
            .with_headers(headers);
        let mut state = self.state.lock();
        if state.closed {
            return Err(NotEnqueued::Failed(closed()));
        }
        if state.retired {
            return Err(NotEnqueued::Retired);
        }
        let mut news = false;
        let limit = state.settings.batch_size;
        if state
            .open
            .as_ref()
            .is_some_and(|open| !open.builder.would_fit(&new, limit))
        {
            state.close_open();
            news = true;
            if only_if_fits {
                let wake = !std::mem::replace(&mut state.scheduled, true);
                return Err(NotEnqueued::BatchFull { wake });
            }
        }
        if state.open.is_none() {
            state.begin(self, room);
            news = true;
        }
        let enqueued = state.append(new, timestamp_ms, charge);
        let delivery = enqueued.map_err(|error| NotEnqueued::Failed(refused(&error)))?;
        let wake = news && !std::mem::replace(&mut state.scheduled, true);
        Ok(Enqueued { delivery, wake })
    }

    /// The sender's turn: what is enqueued from now on is news again.
    pub(crate) fn unschedule(&self) {
        self.state.lock().scheduled = false;
    }

    /// The next batch to send. A topic's keyless records move on when theirs was taken.
    pub(crate) fn take(&self, rule: TakeRule, topic: &Topic) -> Taken {
        let mut state = self.state.lock();
        if let Some(batch) = state.full.pop_front() {
            return Taken::Batch(batch);
        }
        let Some(open) = state.open.as_ref().filter(|_| rule.partial) else {
            return Taken::Nothing;
        };
        let due = open.opened_at + rule.linger;
        if due > rule.now {
            return Taken::Lingers(due);
        }
        state.close_open();
        topic.move_on(self.partition.partition);
        state.full.pop_front().map_or(Taken::Nothing, Taken::Batch)
    }

    /// Takes out the batches that were begun before, oldest first: their time is over.
    pub(crate) fn take_older(&self, than: Instant) -> Vec<WaitingBatch> {
        let mut state = self.state.lock();
        let mut old = Vec::new();
        if state.open.as_ref().is_some_and(|open| open.opened_at <= than) {
            state.close_open();
        }
        while let Some(batch) = state.full.pop_front_if(|batch| batch.opened_at <= than) {
            old.push(batch);
        }
        old
    }

    /// Takes no record any more, and gives up every batch that was not taken.
    pub(crate) fn retire(&self) -> Vec<WaitingBatch> {
        let mut state = self.state.lock();
        state.retired = true;
        state.close_open();
        std::mem::take(&mut state.full).into()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state.lock().retired
    }

    /// When the oldest batch was begun.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let state = self.state.lock();
        let oldest = state.full.front().or(state.open.as_ref());
        oldest.map(|batch| batch.opened_at)
    }

    /// Closes the open batch, so that it is sent without lingering, and tells of every batch that
    /// is not settled; true if the sender must be told. With `for_ever` no record is taken after
    /// this.
    pub(crate) fn flush(&self, for_ever: bool) -> (Vec<Arc<Completion>>, bool) {
        let mut state = self.state.lock();
        state.closed |= for_ever;
        state.close_open();
        state.forget_settled();
        let unsettled: Vec<_> = state.unsettled.iter().cloned().collect();
        let wake = !state.full.is_empty() && !std::mem::replace(&mut state.scheduled, true);
        (unsettled, wake)
    }

    /// Forgets the batches that are settled by now.
    pub(crate) fn settled(&self) {
        self.state.lock().forget_settled();
    }
}

impl State {
    fn begin(&mut self, queue: &PartitionQueue, room: &Arc<Semaphore>) {
        let completion = Completion::new(queue.partition.clone());
        self.unsettled.push_back(Arc::clone(&completion));
        let capacity = self
            .last_size
            .next_power_of_two()
            .clamp(SMALLEST_BUFFER, self.settings.batch_size.max(SMALLEST_BUFFER));
        self.open = Some(WaitingBatch {
            builder: BatchBuilder::with_capacity(self.settings.compression, capacity),
            settler: Settler::new(completion, Arc::clone(room)),
            opened_at: Instant::now(),
        });
    }

    fn append<'a, H>(
        &mut self,
        record: NewRecord<'a, H>,
        timestamp_ms: i64,
        charge: usize,
    ) -> Result<DeliveryFuture, BuildError>
    where
        H: IntoIterator<Item = HeaderRef<'a>> + Clone,
    {
        let open = self.open.as_mut().expect("a batch was begun just now");
        match open.builder.append(record) {
            Ok(offset_delta) => {
                open.settler.charge(charge);
                let completion = Arc::clone(open.settler.completion());
                Ok(DeliveryFuture::new(completion, offset_delta, timestamp_ms))
            }
            Err(error) => {
                // A batch without records must not stay: there is nothing to send.
                if open.builder.is_empty() {
                    self.open = None;
                    self.forget_settled();
                }
                Err(error)
            }
        }
    }

    fn close_open(&mut self) {
        if let Some(batch) = self.open.take() {
            self.last_size = batch.builder.size_estimate();
            self.full.push_back(batch);
        }
    }

    fn forget_settled(&mut self) {
        while self.unsettled.pop_front_if(|batch| batch.is_settled()).is_some() {}
    }
}

/// What every call on a closed producer is answered.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the producer was closed: build another one")
}

fn refused(error: &BuildError) -> Error {
    let kind = match error {
        BuildError::Timestamp { .. } => ErrorKind::InvalidArgument,
        error => ErrorKind::Refused(error.code()),
    };
    Error::new(kind, error.to_string())
}
