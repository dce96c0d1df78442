//! `tidelog bench latency`

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidelog_client::{DeliveryFuture, Producer, Record};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CommonFlags;
use super::figures::{Figures, Latencies};
use super::payload::Payload;
use super::progress::Progress;
use super::topic::{BenchTopic, TopicFlags};

/// Most records that are sent and not yet seen by whoever awaits them.
const MAX_HANDED_OVER: usize = 100_000;
/// How long a producer may take to end that has nothing to wait for.
const CLOSE: Duration = Duration::from_millis(200);

/// Flags of `tidelog bench latency`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    new_topic: TopicFlags,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// How long, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Not timed: the first so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    warmup: u64,
}

pub(super) async fn run(flags: &Flags, signalled: &CancellationToken) -> Result<()> {
    let common = &flags.common;
    let Prepared {
        topic,
        producer,
        payload,
    } = super::prepared(signalled, prepare(flags)).await?;
    let (sent, receiver) = mpsc::channel(MAX_HANDED_OVER);
    let schedule = Schedule {
        topic: common.topic.clone(),
        payload,
        producer: producer.clone(),
        rate: flags.rate,
        records: u64::from(flags.rate) * (flags.warmup + flags.seconds),
        stop: signalled.clone(),
    };
    // A thread, because the runtime's timer is a millisecond coarse, which is what is to be
    // measured.
    let pacing = std::thread::spawn(move || schedule.run(&sent));
    let progress = Progress::start("acknowledged", Some(flags.warmup + flags.seconds), None);
    let mut collector = Collector::new(u64::from(flags.rate) * flags.warmup, progress)?;
    super::settled(signalled, collector.collect(receiver)).await;
    let elapsed = collector.began.map_or(Duration::ZERO, |began| began.elapsed());
    let refused = pacing
        .join()
        .map_err(|_| anyhow::anyhow!("the pacing thread panicked"))?;
    collector.progress.end();
    // Every delivery is known, or given up: nothing is left that closing could lose.
    let _ = producer.close(CLOSE).await;
    let failed = collector.failed + refused;
    let bytes = collector.timed * u64::from(flags.new_topic.record_size);
    let delete = if signalled.is_cancelled() {
        super::DELETE
    } else {
        common.connect.timeout()
    };
    topic.leave(bytes, delete).await;
    Figures::new(collector.timed, failed, bytes, elapsed)
        .with_latencies(&collector.latencies)
        .show(common)?;
    super::ended(signalled, failed)
}

/// What a run begins with.
struct Prepared {
    topic: BenchTopic,
    producer: Producer,
    payload: Payload,
}

async fn prepare(flags: &Flags) -> Result<Prepared> {
    let common = &flags.common;
    let client = common.connect.client().await?;
    let topic = BenchTopic::ensure(&client, common, &flags.new_topic).await?;
    let producer = client.producer().build().await?;
    // Connections and metadata are there before the first record is due.
    let mut payload = Payload::new(flags.new_topic.record_size);
    producer
        .send(Record::to(&common.topic).value(payload.next()))
        .await?;
    Ok(Prepared {
        topic,
        producer,
        payload,
    })
}

/// A record that was sent, and when it was due.
struct Sent {
    number: u64,
    due: Instant,
    delivery: DeliveryFuture,
}

struct Schedule {
    topic: String,
    payload: Payload,
    producer: Producer,
    rate: u32,
    records: u64,
    stop: CancellationToken,
}

impl Schedule {
    /// Sends each record when it is due, however late the ones before were. Says how many found no
    /// room.
    fn run(mut self, sent: &mpsc::Sender<Sent>) -> u64 {
        let began = Instant::now();
        let mut refused = 0;
        for number in 0..self.records {
            let due = began + Duration::from_secs_f64(number as f64 / f64::from(self.rate));
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(early);
            }
            if self.stop.is_cancelled() {
                break;
            }
            let record = Record::to(&self.topic).value(self.payload.next());
            match self.producer.try_enqueue(record) {
                Ok(delivery) => {
                    let record = Sent {
                        number,
                        due,
                        delivery,
                    };
                    if sent.blocking_send(record).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    if refused == 0 {
                        crate::tell!("tidelog: a record found no room: {error}");
                    }
                    refused += 1;
                }
            }
        }
        refused
    }
}

struct Collector {
    warmup: u64,
    latencies: Latencies,
    timed: u64,
    failed: u64,
    began: Option<Instant>,
    progress: Progress,
}

impl Collector {
    fn new(warmup: u64, progress: Progress) -> Result<Self> {
        Ok(Self {
            warmup,
            latencies: Latencies::new()?,
            timed: 0,
            failed: 0,
            began: None,
            progress,
        })
    }

    async fn collect(&mut self, mut sent: mpsc::Receiver<Sent>) {
        let mut running = FuturesUnordered::new();
        let mut open = true;
        while open || !running.is_empty() {
            tokio::select! {
                biased;
                Some((number, due, outcome)) = running.next() => self.note(number, due, outcome),
                next = sent.recv(), if open => match next {
                    Some(Sent { number, due, delivery }) => running.push(async move {
                        let outcome = delivery.await.map(|_| ());
                        (number, due, outcome)
                    }),
                    None => open = false,
                },
            }
        }
    }

    fn note(&mut self, number: u64, due: Instant, outcome: tidelog_client::Result<()>) {
        if let Err(error) = outcome {
            if self.failed == 0 {
                crate::tell!("tidelog: a record was not acknowledged: {error}");
            }
            self.failed += 1;
        } else if number >= self.warmup {
            self.began.get_or_insert(due);
            self.timed += 1;
            self.progress.set(self.timed);
            self.latencies.record(due.elapsed());
        }
    }
}
