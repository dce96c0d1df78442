//! What an application holds.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tidelog_record::HEADER_BYTES;
use tidelog_types::{ErrorCode, TopicName};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::builder::{ProducerBuilder, Settings};
use super::delivery::{Completion, DeliveryFuture};
use super::driver::Driver;
use super::queue::{NotEnqueued, PartitionQueue, closed};
use super::send_error::SendError;
use super::topics::{Topic, Topics};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Record, RecordMetadata};

/// How long a record waits for a topic that the cluster does not know, or not yet; never longer
/// than the delivery timeout.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a record for a partition that its topic does not have waits for the news that the topic
/// was made anew: as long as brokers lag behind each other.
const NEWS_TIMEOUT: Duration = Duration::from_millis(400);

/// Sends records. Cheap to clone; clones share buffer, connections and order. By default every
/// record is stored on all in-sync replicas, once, and in the order in which one task enqueued
/// those of a partition, whatever has to be retried.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use std::time::Duration;
/// use tidelog_client::Record;
///
/// let producer = client.producer().build().await?;
/// let stored = producer.send(Record::to("orders").key("customer-7").value("two bolts")).await?;
/// println!("{}-{} at {}", stored.topic, stored.partition, stored.offset);
/// producer.close(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Batches
/// A batch is sent as soon as nothing of its partition is in flight. While something is, the next
/// one grows, until it is full or an answer comes. So a lone record waits for nothing, and a flood
/// is sent in large batches.
///
/// # When a record fails
/// What may succeed later is tried until the delivery timeout, and order is kept meanwhile. A
/// record that fails all the same tells by [`Error::maybe_written`] whether it may stand in the
/// log: such a record, sent again by the application, may be stored twice.
///
/// A topic that is deleted fails the records that wait for it with `UNKNOWN_TOPIC_ID`, for good.
/// None of them goes to a topic that is made anew under its name; the next record that is enqueued
/// does.
///
/// # Dropping
/// When the last clone is dropped without [`close`](Self::close), records that are not acknowledged
/// are abandoned: their futures resolve to [`ErrorKind::Closed`], with `maybe_written` for those
/// that were sent. What was sent is stored whole or not at all, batch by batch.
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Ends the driver with the last clone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    settings: Settings,
    client: Client,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abort.cancel();
    }
}

/// What the handles and the driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) topics: Topics,
    /// Buffer memory, bytes; closed when no record is taken any more.
    pub(crate) room: Arc<Semaphore>,
    /// Partitions with something new for the driver.
    scheduled: Mutex<Vec<(Arc<PartitionQueue>, Arc<Topic>)>>,
    pub(crate) wake: Notify,
    /// Ends the driver at once: what is unsettled fails.
    pub(crate) abort: CancellationToken,
    /// With what it fails, unless the producer was just dropped.
    pub(crate) abort_reason: OnceLock<Error>,
    /// Cancelled by the driver when it ended.
    pub(crate) ended: CancellationToken,
}

impl Producer {
    pub(crate) fn start(client: Client, settings: Settings) -> Self {
        let metadata = Arc::clone(&client.inner.metadata);
        let shared = Arc::new(Shared {
            topics: Topics::new(metadata, settings.batches()),
            room: Arc::new(Semaphore::new(settings.buffer_memory)),
            scheduled: Mutex::default(),
            wake: Notify::new(),
            abort: CancellationToken::new(),
            abort_reason: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        tokio::spawn(Driver::new(client.clone(), settings, Arc::clone(&shared)).run());
        let handle = Handle {
            shared,
            settings,
            client,
        };
        Self {
            handle: Arc::new(handle),
        }
    }

    /// Sends a record and waits until it is acknowledged. To send many, [`enqueue`](Self::enqueue)
    /// them: one after another, each would wait for the acknowledgement of the one before.
    ///
    /// Cancelling this takes a record back only while it waits for room; after that it is sent all
    /// the same.
    pub async fn send(&self, record: Record) -> Result<RecordMetadata> {
        self.enqueue(record).await?.await
    }

    /// Puts a record into its batch, waiting for buffer memory if there is none: as long as the
    /// delivery timeout, then it fails with [`ErrorKind::BufferFull`]. A topic that is not known
    /// yet is waited for, ten seconds at most, and so is news of a partition that the topic does
    /// not seem to have. What passes is waited for here: a loop that only logs what fails costs
    /// nothing, except with a producer that was closed.
    ///
    /// Cancelling this takes the record back: it is enqueued only once this has returned.
    pub async fn enqueue(&self, record: Record) -> Result<DeliveryFuture> {
        let charge = self.charge(&record)?;
        // A program that enqueues in a loop must let the sender run, which may share its thread.
        tokio::task::coop::consume_budget().await;
        let mut reserved = None;
        let mut asked_again = false;
        loop {
            let topic = match self.handle.shared.topics.get(&record.topic) {
                Some(topic) => topic,
                None => self.topic(&record.topic).await?,
            };
            let permit = match reserved.take() {
                Some(permit) => permit,
                None => self.reserve(charge).await?,
            };
            match self.append(&topic, &record, charge) {
                Ok(Some(delivery)) => {
                    permit.forget();
                    return Ok(delivery);
                }
                // It was deleted; if it was made anew, its name leads to another one now.
                Ok(None) => {}
                // It may have been made anew with more partitions a moment ago.
                Err(error) if error.is_unknown_topic() && !asked_again => {
                    asked_again = true;
                    let metadata = &self.handle.client.inner.metadata;
                    metadata.made_anew(topic.name(), topic.id, NEWS_TIMEOUT).await;
                }
                Err(error) => return Err(error),
            }
            reserved = Some(permit);
        }
    }

    /// Waits for room in the buffer.
    async fn reserve(&self, charge: u32) -> Result<SemaphorePermit<'_>> {
        let room = &self.handle.shared.room;
        match room.try_acquire_many(charge) {
            Ok(permit) => Ok(permit),
            Err(TryAcquireError::Closed) => Err(closed()),
            Err(TryAcquireError::NoPermits) => {
                let waited = timeout(self.handle.settings.delivery_timeout, room.acquire_many(charge)).await;
                waited
                    .map_err(|_| self.buffer_full(charge))?
                    .map_err(|_| closed())
            }
        }
    }

    /// Puts a record into its batch if that needs no waiting; else gives the record back, with
    /// [`ErrorKind::BufferFull`] if there is no room. A topic that this producer does not know yet
    /// is a retriable error, and is asked for: it will be known soon. One that is still unknown ten
    /// seconds later does not exist, and the error is final. As nothing is waited for here, whoever
    /// tries again paces that.
    pub fn try_enqueue(&self, record: Record) -> Result<DeliveryFuture, SendError> {
        match self.try_append(&record) {
            Ok(delivery) => Ok(delivery),
            Err(error) => Err(SendError::new(record, error)),
        }
    }

    /// Waits until every record that was enqueued before is acknowledged or has failed. What
    /// lingers is sent at once. Fails as the first failed record among those that it waited for;
    /// the others' futures tell of each.
    ///
    /// Cancelling this changes nothing for the records.
    pub async fn flush(&self) -> Result<()> {
        let mut outcome = Ok(());
        for batch in self.handle.shared.flush(false) {
            outcome = outcome.and(batch.settled().await);
        }
        outcome
    }

    /// Takes no more records, and waits until those enqueued are acknowledged or have failed; what
    /// is left after `deadline` fails with [`ErrorKind::TimedOut`]. Fails as the first of the
    /// records that it waited for and that failed. Closes for every clone; closing again is
    /// harmless.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let shared = &self.handle.shared;
        let end = Instant::now() + deadline;
        shared.room.close();
        let batches = shared.flush(true);
        let mut outcome = Ok(());
        for batch in batches {
            let settled = timeout_at(end, batch.settled()).await;
            let Ok(settled) = settled else {
                let message = format!("closed before the record was acknowledged, after {deadline:?}");
                let error = Error::new(ErrorKind::TimedOut, message);
                let _ = shared.abort_reason.set(error.clone());
                outcome = outcome.and(Err(error.with_maybe_written(true)));
                break;
            };
            outcome = outcome.and(settled);
        }
        shared.abort.cancel();
        shared.ended.cancelled().await;
        outcome
    }

    fn try_append(&self, record: &Record) -> Result<DeliveryFuture> {
        let charge = self.charge(record)?;
        let shared = &self.handle.shared;
        let topic = match shared.topics.get(&record.topic) {
            Some(topic) => topic,
            None => self.known_topic(&record.topic)?,
        };
        let permit = shared
            .room
            .try_acquire_many(charge)
            .map_err(|error| match error {
                TryAcquireError::Closed => closed(),
                TryAcquireError::NoPermits => self.buffer_full(charge),
            })?;
        let delivery = self.append(&topic, record, charge)?;
        let delivery = delivery.ok_or_else(|| not_known_yet(&record.topic))?;
        permit.forget();
        Ok(delivery)
    }

    /// What a record takes of the buffer memory, bytes; an error if it never fits.
    fn charge(&self, record: &Record) -> Result<u32> {
        let Settings {
            max_request_size,
            buffer_memory,
            ..
        } = self.handle.settings;
        if let Some(timestamp_ms) = record.timestamp_ms.filter(|timestamp_ms| *timestamp_ms < 0) {
            return Err(Error::invalid(format!(
                "a record to {} with timestamp {timestamp_ms}: use milliseconds since 1970, or none for now",
                record.topic
            )));
        }
        let size = record.size_bytes();
        if size + HEADER_BYTES > max_request_size {
            let message = format!(
                "a record of {size} bytes to {}, and with its batch's header of {HEADER_BYTES} it exceeds max_request_size = \
                 {max_request_size}: raise max_request_size, and the topic's max.message.bytes if need be",
                record.topic
            );
            return Err(Error::new(
                ErrorKind::Refused(ErrorCode::MessageTooLarge),
                message,
            ));
        }
        if size > buffer_memory {
            let message = format!(
                "a record of {size} bytes to {} exceeds buffer_memory = {buffer_memory}: raise it",
                record.topic
            );
            return Err(Error::invalid(message));
        }
        Ok(size as u32)
    }

    /// Copies a record whose room is reserved; not if the topic is gone.
    fn append(&self, topic: &Arc<Topic>, record: &Record, charge: u32) -> Result<Option<DeliveryFuture>> {
        let shared = &self.handle.shared;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        loop {
            let (queue, sticky) = topic.queue_for(record)?;
            let appended = queue.append(record, timestamp_ms, &shared.room, charge as usize, sticky);
            match appended {
                Ok(enqueued) => {
                    if enqueued.wake {
                        shared.schedule(queue, topic);
                    }
                    return Ok(Some(enqueued.delivery));
                }
                Err(NotEnqueued::BatchFull { wake }) => {
                    topic.move_on(queue.partition.partition);
                    if wake {
                        shared.schedule(queue, topic);
                    }
                }
                Err(NotEnqueued::Retired) => return Ok(None),
                Err(NotEnqueued::Failed(error)) => return Err(error),
            }
        }
    }

    async fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let name: TopicName = name.parse()?;
        let metadata = &self.handle.client.inner.metadata;
        metadata
            .topic(&name, self.topic_deadline())
            .await
            .map_err(|error| error.about_topic(&name))?;
        self.known_topic(name.as_str())
    }

    fn topic_deadline(&self) -> Instant {
        Instant::now() + TOPIC_TIMEOUT.min(self.handle.settings.delivery_timeout)
    }

    fn known_topic(&self, name: &str) -> Result<Arc<Topic>> {
        let name: TopicName = name.parse()?;
        let shared = &self.handle.shared;
        if shared.room.is_closed() {
            return Err(closed());
        }
        if let Some(topic) = shared.topics.open(&name) {
            return Ok(topic);
        }
        let metadata = &self.handle.client.inner.metadata;
        metadata.check_home()?;
        metadata.want(&name);
        let error = not_known_yet(name.as_str());
        let unknown_since = metadata.snapshot().unknown_since(&name);
        Err(match unknown_since {
            Some(since) if since.elapsed() >= TOPIC_TIMEOUT => error.for_good(),
            _ => error,
        })
    }

    fn buffer_full(&self, charge: u32) -> Error {
        let memory = self.handle.settings.buffer_memory;
        Error::new(
            ErrorKind::BufferFull,
            format!(
                "no room for {charge} bytes more: buffer_memory = {memory} waits for acknowledgement; \
                 send less, raise it, or look why the cluster does not acknowledge"
            ),
        )
    }
}

impl Client {
    /// Options for a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }
}

impl Shared {
    fn schedule(&self, queue: Arc<PartitionQueue>, topic: &Arc<Topic>) {
        self.scheduled.lock().push((queue, Arc::clone(topic)));
        self.wake.notify_one();
    }

    /// The partitions with something new, each once.
    pub(crate) fn take_scheduled(&self) -> Vec<(Arc<PartitionQueue>, Arc<Topic>)> {
        let scheduled = std::mem::take(&mut *self.scheduled.lock());
        for (queue, _) in &scheduled {
            queue.unschedule();
        }
        scheduled
    }

    /// Fails what was never handed to the driver, and takes nothing more.
    pub(crate) fn abandon(&self, error: &Error) {
        self.room.close();
        self.scheduled.lock().clear();
        for (queue, _) in self.topics.queues() {
            let _ = queue.flush(true);
            for batch in queue.take_older(Instant::now()) {
                batch.settler.settle(Err(error.clone()));
            }
        }
    }

    /// Sees to it that everything enqueued is sent, and names every batch that is not settled.
    fn flush(&self, for_ever: bool) -> Vec<Arc<Completion>> {
        let mut batches = Vec::new();
        for (queue, topic) in self.topics.queues() {
            let (unsettled, wake) = queue.flush(for_ever);
            batches.extend(unsettled);
            if wake {
                self.schedule(queue, &topic);
            }
        }
        batches
    }
}

fn not_known_yet(topic: &str) -> Error {
    Error::new(
        ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition),
        format!("topic {topic} is not known yet: create it, or try again in a moment"),
    )
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
