//! What became of a record: one completion a batch, and a cheap future for each of its records.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_types::TopicPartition;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::record::RecordMetadata;

/// Resolves when a record is acknowledged or has failed. Dropping it takes nothing back: the record
/// is sent all the same.
///
/// ```no_run
/// # async fn example(producer: tidelog_client::Producer) -> tidelog_client::Result<()> {
/// use tidelog_client::Record;
///
/// let mut deliveries = Vec::new();
/// for item in ["bolt", "nut", "washer"] {
///     deliveries.push(producer.enqueue(Record::to("orders").value(item)).await?);
/// }
/// for delivery in deliveries {
///     println!("stored at {}", delivery.await?.offset);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "whether the record was stored is known only by what this resolves to"]
pub struct DeliveryFuture {
    batch: Arc<Completion>,
    offset_delta: u32,
    timestamp_ms: i64,
    /// Where this future's waker stands among the batch's.
    slot: Option<usize>,
}

/// What the records of a batch share.
#[derive(Debug)]
pub(crate) struct Completion {
    partition: TopicPartition,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first record's offset.
    outcome: Option<Result<u64>>,
    wakers: Vec<Waker>,
}

/// The side that settles a batch, with its share of the buffer memory. Dropped unsettled, it fails
/// the records: no future waits for ever, whatever becomes of the task that sends.
#[derive(Debug)]
pub(crate) struct Settler {
    completion: Arc<Completion>,
    room: Arc<Semaphore>,
    charged_bytes: usize,
    /// Whether it was ever handed to a stream.
    pub(crate) sent: bool,
}

impl DeliveryFuture {
    pub(crate) fn new(batch: Arc<Completion>, offset_delta: u32, timestamp_ms: i64) -> Self {
        Self {
            batch,
            offset_delta,
            timestamp_ms,
            slot: None,
        }
    }
}

impl Future for DeliveryFuture {
    type Output = Result<RecordMetadata>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.batch.poll(&mut this.slot, context).map(|outcome| {
            outcome.map(|base_offset| RecordMetadata {
                topic: this.batch.partition.topic.clone(),
                partition: this.batch.partition.partition.0,
                offset: base_offset + u64::from(this.offset_delta),
                timestamp_ms: this.timestamp_ms,
            })
        })
    }
}

impl fmt::Debug for DeliveryFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryFuture")
            .field("partition", &self.batch.partition)
            .field("timestamp_ms", &self.timestamp_ms)
            .finish_non_exhaustive()
    }
}

impl Completion {
    pub(crate) fn new(partition: TopicPartition) -> Arc<Self> {
        Arc::new(Self {
            partition,
            state: Mutex::default(),
        })
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().outcome.is_some()
    }

    /// Waits until the batch is settled.
    pub(crate) async fn settled(&self) -> Result<()> {
        let mut slot = None;
        std::future::poll_fn(|context| self.poll(&mut slot, context))
            .await
            .map(|_| ())
    }

    fn poll(&self, slot: &mut Option<usize>, context: &Context<'_>) -> Poll<Result<u64>> {
        let mut state = self.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        match *slot {
            Some(index) => state.wakers[index].clone_from(context.waker()),
            None => {
                *slot = Some(state.wakers.len());
                state.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }

    fn settle(&self, outcome: Result<u64>) {
        let wakers = {
            let mut state = self.state.lock();
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Settler {
    pub(crate) fn new(completion: Arc<Completion>, room: Arc<Semaphore>) -> Self {
        Self {
            completion,
            room,
            charged_bytes: 0,
            sent: false,
        }
    }

    pub(crate) fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// Takes over buffer memory that was reserved for a record.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.charged_bytes += bytes;
    }

    /// Tells the records' futures, and gives the buffer memory back.
    pub(crate) fn settle(self, outcome: Result<u64>) {
        self.completion.settle(outcome);
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        let error = Error::new(
            ErrorKind::Closed,
            "the producer was dropped before the record was acknowledged; close it to wait",
        );
        self.completion.settle(Err(error.with_maybe_written(self.sent)));
        self.room.add_permits(self.charged_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> Arc<Completion> {
        let partition = tidelog_types::PartitionIndex(2);
        let topic = "orders".parse().unwrap();
        Completion::new(TopicPartition { topic, partition })
    }

    #[tokio::test]
    async fn each_record_learns_its_own_offset() {
        let batch = completion();
        let room = Arc::new(Semaphore::new(0));
        let mut settler = Settler::new(Arc::clone(&batch), Arc::clone(&room));
        settler.charge(70);
        let records = [0, 1].map(|delta| DeliveryFuture::new(Arc::clone(&batch), delta, 1000));
        let waiting = tokio::spawn(futures::future::join_all(records));
        tokio::task::yield_now().await;
        settler.settle(Ok(40));
        let offsets = waiting
            .await
            .unwrap()
            .into_iter()
            .map(|told| told.unwrap().offset);
        assert_eq!(offsets.collect::<Vec<_>>(), [40, 41]);
        assert_eq!(room.available_permits(), 70);
    }

    #[tokio::test]
    async fn an_unsettled_batch_that_is_dropped_fails_and_says_whether_it_was_sent() {
        for sent in [false, true] {
            let batch = completion();
            let mut settler = Settler::new(Arc::clone(&batch), Arc::new(Semaphore::new(0)));
            settler.sent = sent;
            drop(settler);
            let error = DeliveryFuture::new(batch, 0, 0).await.unwrap_err();
            assert_eq!((error.kind(), error.maybe_written()), (ErrorKind::Closed, sent));
        }
    }

    #[tokio::test]
    async fn polling_again_and_again_keeps_one_waker() {
        let batch = completion();
        let mut delivery = DeliveryFuture::new(Arc::clone(&batch), 0, 0);
        for _ in 0..3 {
            assert!(futures::poll!(&mut delivery).is_pending());
        }
        assert_eq!(batch.state.lock().wakers.len(), 1);
    }
}
