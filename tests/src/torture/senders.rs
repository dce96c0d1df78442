//! Idempotent producers that number what they send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_client::{Client, DeliveryFuture, Producer, Record};
use tidelog_history::What;
use tidelog_history::event::{SendId, Sender, Value};
use tidelog_types::{LeaderEpoch, Offset};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::{PARTITIONS, TOPIC, Topic};

/// The epoch of every acknowledgement, and of every question where a log ends: one client sends and
/// asks, which carries the newest epoch that it knows and does not say which. So the end that it is
/// told must cover whatever it was acknowledged.
pub const EPOCH: LeaderEpoch = LeaderEpoch(0);
/// How many producers there are.
const SENDERS: u32 = 3;
/// Time between two records of a producer.
const PACE: Duration = Duration::from_millis(4);
/// Most records of a producer whose fate is open.
const MAX_OPEN: usize = 2_000;
/// How long a record is tried.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest value, bytes.
const MAX_VALUE: usize = 2_000;

/// The producers at work.
pub struct Senders {
    tasks: JoinSet<Result<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    topic: Topic,
    recorder: Recorder,
    next_value: AtomicU64,
    next_sender: AtomicU32,
    acknowledged: AtomicUsize,
    unknown: AtomicUsize,
    recovery: Arc<Recovery>,
}

/// How long partitions take to acknowledge again after a fault is healed.
#[derive(Debug, Default)]
pub struct Recovery {
    waiting: Mutex<BTreeMap<u32, Instant>>,
    slowest: Mutex<Duration>,
}

impl Recovery {
    /// A fault is healed: from now on every partition has to acknowledge again.
    pub fn begins(&self) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        for partition in 0..PARTITIONS {
            waiting.entry(partition).or_insert(now);
        }
    }

    /// A fault begins: what was not acknowledged again before it is not waited for.
    pub fn ends(&self) {
        self.waiting.lock().clear();
    }

    /// The longest it took.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock()
    }

    /// Whether every partition has acknowledged since.
    pub fn is_over(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    fn acknowledged(&self, partition: u32, sent_at: Instant) {
        let mut waiting = self.waiting.lock();
        if waiting.get(&partition).is_some_and(|since| sent_at >= *since)
            && let Some(since) = waiting.remove(&partition)
        {
            let mut slowest = self.slowest.lock();
            *slowest = slowest.max(since.elapsed());
        }
    }
}

impl Senders {
    /// Starts them; they send until `stop`.
    pub fn start(client: &Client, topic: &Topic, recorder: &Recorder, stop: &CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            topic: topic.clone(),
            recorder: recorder.clone(),
            next_value: AtomicU64::new(1),
            next_sender: AtomicU32::new(1),
            acknowledged: AtomicUsize::default(),
            unknown: AtomicUsize::default(),
            recovery: Arc::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..SENDERS {
            tasks.spawn(send(client.clone(), Arc::clone(&shared), stop.clone()));
        }
        Self { tasks, shared }
    }

    /// How recovery goes.
    pub fn recovery(&self) -> &Arc<Recovery> {
        &self.shared.recovery
    }

    /// Records acknowledged so far, and records whose fate is not known.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.shared.acknowledged.load(Ordering::Relaxed),
            self.shared.unknown.load(Ordering::Relaxed),
        )
    }

    /// Waits until every fate is known, after they were told to stop.
    pub async fn done(&mut self) -> Result<()> {
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// Sends with one producer after another: one that failed for good is replaced.
async fn send(client: Client, shared: Arc<Shared>, stop: CancellationToken) -> Result<()> {
    let room = Arc::new(Semaphore::new(MAX_OPEN));
    while !stop.is_cancelled() {
        let producer = client
            .producer()
            .delivery_timeout(DELIVERY_TIMEOUT)
            .build()
            .await
            .context("building a producer")?;
        let sender = Sender(shared.next_sender.fetch_add(1, Ordering::Relaxed));
        send_with(&producer, sender, &shared, &room, &stop).await?;
        // What is open is answered, one way or the other, within the delivery timeout.
        let _ = producer.close(DELIVERY_TIMEOUT).await;
    }
    let _all = room.acquire_many(MAX_OPEN as u32).await?;
    Ok(())
}

async fn send_with(
    producer: &Producer,
    sender: Sender,
    shared: &Arc<Shared>,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Result<()> {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut partition = sender.0 % PARTITIONS;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = pace.tick() => {}
        }
        let permit = Arc::clone(room).acquire_owned().await?;
        partition = (partition + 1) % PARTITIONS;
        let number = shared.next_value.fetch_add(1, Ordering::Relaxed);
        let send = SendId(number);
        let sent_at = Instant::now();
        shared.recorder.note(What::SendBegan {
            sender,
            send,
            partition: shared.topic.named(partition),
            values: vec![Value(number)],
            idempotent: true,
        });
        match producer.enqueue(record(partition, number)).await {
            Ok(delivery) => {
                let shared = Arc::clone(shared);
                tokio::spawn(async move {
                    note_fate(delivery, &shared, send, sent_at).await;
                    drop(permit);
                });
            }
            Err(error) => {
                note_failure(shared, send, &error);
                return Ok(());
            }
        }
    }
}

fn record(partition: u32, number: u64) -> Record {
    let mut value = number.to_be_bytes().to_vec();
    // Sizes that differ, by the number alone.
    value.resize(
        8 + (number.wrapping_mul(2_654_435_761) as usize) % MAX_VALUE,
        b'.',
    );
    Record::to(TOPIC).partition(partition).value(Bytes::from(value))
}

/// The number in a record's value.
pub fn number_of(value: Option<&Bytes>) -> Result<Value> {
    let bytes = value.and_then(|value| value.first_chunk::<8>());
    Ok(Value(u64::from_be_bytes(
        *bytes.context("a record that nobody sent: it has no number")?,
    )))
}

async fn note_fate(delivery: DeliveryFuture, shared: &Shared, send: SendId, sent_at: Instant) {
    match delivery.await {
        Ok(delivered) => {
            shared.recorder.note(What::SendAcknowledged {
                send,
                base_offset: Offset(delivered.offset),
                leader_epoch: EPOCH,
            });
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            shared.recovery.acknowledged(delivered.partition, sent_at);
        }
        Err(error) => note_failure(shared, send, &error),
    }
}

fn note_failure(shared: &Shared, send: SendId, error: &tidelog_client::Error) {
    if error.maybe_written() {
        shared.unknown.fetch_add(1, Ordering::Relaxed);
        shared.recorder.note(What::SendUnknown { send });
    } else {
        shared.recorder.note(What::SendRefused { send });
    }
}
