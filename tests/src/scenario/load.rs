//! A producer that numbers what it sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tidelog_client::{Client, Record};
use tokio::sync::Semaphore;

use super::SharedLedger;
use crate::flights::Flight;

/// Most records whose acknowledgement is awaited at a time.
const MAX_AWAITED: usize = 20_000;

/// The header that numbers a record.
pub struct RowHeader;

impl RowHeader {
    /// The name of the header.
    pub const NAME: &'static str = "row";

    /// The number in a header's value.
    pub fn parse(value: &[u8]) -> Result<u64> {
        Ok(std::str::from_utf8(value)?.parse()?)
    }
}

/// What to send.
pub struct Load {
    pub topic: String,
    /// The rows of one round.
    pub flights: Arc<Vec<Flight>>,
    /// How many rounds.
    pub rounds: usize,
    /// Over how long the whole is spread; zero for as fast as it goes.
    pub pace: Duration,
    /// When a broker was killed, and the partitions it led.
    pub disturbance: Arc<Mutex<Option<Disturbance>>>,
}

/// A broker's death, for measuring how long producers waited.
#[derive(Debug, Clone)]
pub struct Disturbance {
    pub at: Instant,
    /// What it led.
    pub partitions: Vec<u32>,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct LoadReport {
    /// Records handed to the producer.
    pub produced: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// From the first send to the last acknowledgement.
    pub elapsed: Duration,
    /// From the disturbance until every partition concerned acknowledged a record sent after it.
    pub recovered_in: Option<Duration>,
}

#[derive(Default)]
struct Recovery {
    first_acknowledged: HashMap<u32, Duration>,
}

impl Load {
    /// How many records it is.
    pub fn total(&self) -> usize {
        self.rounds * self.flights.len()
    }

    /// Sends everything, and waits until every record is acknowledged. A record that fails ends the
    /// run.
    pub async fn run(self, client: Client, ledger: SharedLedger) -> Result<LoadReport> {
        let producer = client.producer().build().await.context("building a producer")?;
        let began = Instant::now();
        let room = Arc::new(Semaphore::new(MAX_AWAITED));
        let failure = Arc::new(Mutex::new(None));
        let recovery = Arc::new(Mutex::new(Recovery::default()));
        let total = self.total();
        let mut bytes = 0;
        for row in 0..total {
            self.wait_for_turn(began, row, total).await;
            let flight = &self.flights[row % self.flights.len()];
            bytes += flight.line.len() + flight.key.as_ref().map_or(0, String::len);
            let sent_at = Instant::now();
            let delivery = producer
                .enqueue(record(&self.topic, flight, row))
                .await
                .context("enqueueing")?;
            let permit = Arc::clone(&room).acquire_owned().await?;
            let (ledger, failed) = (Arc::clone(&ledger), Arc::clone(&failure));
            let (disturbance, recovery) = (Arc::clone(&self.disturbance), Arc::clone(&recovery));
            tokio::spawn(async move {
                match delivery.await {
                    Ok(delivered) => {
                        let partition = delivered.partition;
                        ledger
                            .lock()
                            .acknowledge(row as u64, (partition, delivered.offset));
                        note_recovery(&disturbance, &recovery, partition, sent_at);
                    }
                    Err(error) => *failed.lock() = Some(format!("row {row}: {error}")),
                }
                drop(permit);
            });
            if let Some(failure) = failure.lock().take() {
                bail!("a record was not acknowledged: {failure}");
            }
        }
        // Every permit back means every delivery is known.
        let _all = room.acquire_many(MAX_AWAITED as u32).await?;
        let elapsed = began.elapsed();
        producer
            .close(Duration::from_secs(30))
            .await
            .context("closing the producer")?;
        if let Some(failure) = failure.lock().take() {
            bail!("a record was not acknowledged: {failure}");
        }
        let recovered_in = recovery.lock().first_acknowledged.values().max().copied();
        Ok(LoadReport {
            produced: total,
            bytes,
            elapsed,
            recovered_in,
        })
    }

    async fn wait_for_turn(&self, began: Instant, row: usize, total: usize) {
        // One look at the clock a hundred rows keeps the pace smooth enough.
        if self.pace.is_zero() || !row.is_multiple_of(100) {
            return;
        }
        let due = began + self.pace.mul_f64(row as f64 / total as f64);
        tokio::time::sleep_until(due.into()).await;
    }
}

fn record(topic: &str, flight: &Flight, row: usize) -> Record {
    let record = Record::to(topic)
        .value(flight.line.clone())
        .header(RowHeader::NAME, row.to_string());
    match &flight.key {
        Some(key) => record.key(key.clone()),
        None => record,
    }
}

fn note_recovery(
    disturbance: &Mutex<Option<Disturbance>>,
    recovery: &Mutex<Recovery>,
    partition: u32,
    sent_at: Instant,
) {
    let disturbance = disturbance.lock();
    let Some(disturbance) = disturbance.as_ref() else {
        return;
    };
    if sent_at > disturbance.at && disturbance.partitions.contains(&partition) {
        let waited = disturbance.at.elapsed();
        recovery
            .lock()
            .first_acknowledged
            .entry(partition)
            .or_insert(waited);
    }
}
