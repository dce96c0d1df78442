//! `tidelog bench produce`

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidelog_client::{Acks, DeliveryFuture, Producer, Record};
use tokio_util::sync::CancellationToken;

use super::CommonFlags;
use super::figures::{Figures, Latencies};
use super::payload::Payload;
use super::progress::Progress;
use super::topic::{BenchTopic, TopicFlags};
use crate::commands::produce::{AcksFlag, Codec};

/// One record in so many is timed: timing each would be a load of its own.
const SAMPLE: u64 = 32;
/// How long a producer may take to end that has nothing to wait for.
const CLOSE: Duration = Duration::from_millis(200);

/// Flags of `tidelog bench produce`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    new_topic: TopicFlags,
    /// How long, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Stop after so many records, if that is sooner
    #[arg(short = 'n', long, value_name = "N")]
    records: Option<u64>,
    /// How many records are in flight at a time
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: u32,
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, value_name = "CODEC", default_value_t)]
    compression: Codec,
    /// When a record counts as acknowledged
    #[arg(long, value_enum, default_value_t)]
    acks: AcksFlag,
}

pub(super) async fn run(flags: &Flags, signalled: &CancellationToken) -> Result<()> {
    let common = &flags.common;
    let (topic, producer) = super::prepared(signalled, prepare(flags)).await?;
    let mut load = Load {
        topic: common.topic.clone(),
        payload: Payload::new(flags.new_topic.record_size),
        in_flight: flags.in_flight as usize,
        producer,
        awaited: VecDeque::new(),
        timed: FuturesUnordered::new(),
        latencies: Latencies::new()?,
        acknowledged: 0,
        failed: 0,
        progress: Progress::start("acknowledged", Some(flags.seconds), flags.records),
    };
    let began = Instant::now();
    let until = began + Duration::from_secs(flags.seconds);
    let sent = tokio::select! {
        biased;
        sent = load.send(until, flags.records.unwrap_or(u64::MAX), signalled) => sent,
        () = signalled.cancelled() => Ok(()),
    };
    if !super::settled(signalled, load.settle()).await {
        load.failed += (load.awaited.len() + load.timed.len()) as u64;
    }
    let bytes = load.acknowledged * u64::from(flags.new_topic.record_size);
    let figures = Figures::new(load.acknowledged, load.failed, bytes, began.elapsed());
    load.progress.end();
    // Every delivery is known, or given up: nothing is left that closing could lose.
    let _ = load.producer.close(CLOSE).await;
    let delete = if signalled.is_cancelled() {
        super::DELETE
    } else {
        common.connect.timeout()
    };
    topic.leave(bytes, delete).await;
    figures.with_latencies(&load.latencies).show(common)?;
    sent?;
    super::ended(signalled, load.failed)
}

async fn prepare(flags: &Flags) -> Result<(BenchTopic, Producer)> {
    let common = &flags.common;
    let client = common.connect.client().await?;
    let topic = BenchTopic::ensure(&client, common, &flags.new_topic).await?;
    let acks = Acks::from(flags.acks);
    let producer = client
        .producer()
        .acks(acks)
        .enable_idempotence(acks == Acks::All)
        .compression(flags.compression.into())
        .build()
        .await?;
    Ok((topic, producer))
}

type Timed = futures::future::BoxFuture<'static, (tidelog_client::Result<()>, Duration)>;

struct Load {
    topic: String,
    payload: Payload,
    in_flight: usize,
    producer: Producer,
    /// In the order of sending. A batch of another partition may be answered before the first: it
    /// is counted a little late.
    awaited: VecDeque<DeliveryFuture>,
    timed: FuturesUnordered<Timed>,
    latencies: Latencies,
    acknowledged: u64,
    failed: u64,
    progress: Progress,
}

impl Load {
    async fn send(&mut self, until: Instant, records: u64, signalled: &CancellationToken) -> Result<()> {
        for sent in 0..records {
            // One look at the clock in a while is enough.
            if sent % 64 == 0 && (Instant::now() >= until || signalled.is_cancelled()) {
                break;
            }
            while self.awaited.len() + self.timed.len() >= self.in_flight {
                self.one().await;
            }
            let record = Record::to(&self.topic).value(self.payload.next());
            let enqueued = Instant::now();
            let delivery = self.producer.enqueue(record).await?;
            if sent % SAMPLE == 0 {
                self.timed.push(Box::pin(async move {
                    let outcome = delivery.await.map(|_| ());
                    (outcome, enqueued.elapsed())
                }));
            } else {
                self.awaited.push_back(delivery);
            }
        }
        Ok(())
    }

    async fn one(&mut self) {
        tokio::select! {
            biased;
            Some((outcome, latency)) = self.timed.next() => {
                self.latencies.record(latency);
                self.count(outcome);
            }
            Some(outcome) = front(&mut self.awaited) => {
                self.awaited.pop_front();
                self.count(outcome);
            }
        }
    }

    async fn settle(&mut self) {
        while !self.awaited.is_empty() || !self.timed.is_empty() {
            self.one().await;
        }
    }

    fn count(&mut self, outcome: tidelog_client::Result<()>) {
        match outcome {
            Ok(()) => {
                self.acknowledged += 1;
                self.progress.set(self.acknowledged);
            }
            Err(error) => {
                if self.failed == 0 {
                    crate::tell!("tidelog: a record was not acknowledged: {error}");
                }
                self.failed += 1;
            }
        }
    }
}

async fn front(awaited: &mut VecDeque<DeliveryFuture>) -> Option<tidelog_client::Result<()>> {
    Some(awaited.front_mut()?.await.map(|_| ()))
}
