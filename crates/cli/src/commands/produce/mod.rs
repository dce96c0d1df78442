//! `tidelog produce`: one record a line.

mod lines;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidelog_client::{Acks, Compression, DeliveryFuture, Producer, Record, RecordMetadata};
use tokio_util::sync::CancellationToken;

use super::runtime;
use crate::args::{ConnectFlags, unescape};
use crate::exit::{Exit, Failure};
use crate::interrupt;

/// Most records whose acknowledgement is awaited at a time.
const MAX_AWAITED: usize = 10_000;
/// How long what was read already may take to be acknowledged after an interruption.
const CLOSE: Duration = Duration::from_secs(30);
/// Most refusals that are told one by one.
const MAX_TOLD: u64 = 5;

/// Flags of `tidelog produce`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topic
    topic: String,
    /// Files to read instead of standard input, one record a line
    files: Vec<PathBuf>,
    /// A key for every record
    #[arg(short, long, value_name = "KEY", conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// What stands between key and value in a line, e.g. '\t' or ':'; a line without it has no key
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter)]
    key_delimiter: Option<Bytes>,
    /// A header for every record; repeatable
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// The partition, instead of one chosen by the key
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, value_name = "CODEC", default_value_t)]
    compression: Codec,
    /// When a record counts as acknowledged: fsynced on all in-sync replicas, on the leader, or sent
    #[arg(long, value_enum, default_value_t)]
    acks: AcksFlag,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// A codec by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Kafka's acks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksFlag {
    #[default]
    All,
    #[value(name = "1", alias = "leader")]
    Leader,
    #[value(name = "0", alias = "none")]
    None,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

impl From<AcksFlag> for Acks {
    fn from(acks: AcksFlag) -> Self {
        match acks {
            AcksFlag::All => Self::All,
            AcksFlag::Leader => Self::Leader,
            AcksFlag::None => Self::None,
        }
    }
}

/// Produces until the input ends or a signal comes.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let runtime = runtime()?;
    let result = runtime.block_on(produce(flags));
    // The thread that reads standard input may wait there for ever.
    runtime.shutdown_background();
    result
}

fn delimiter(text: &str) -> Result<Bytes, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() {
        return Err("an empty delimiter separates nothing".to_owned());
    }
    Ok(bytes.into())
}

fn header(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}

async fn produce(flags: &Flags) -> Result<()> {
    let signalled = interrupt::listen()?;
    let sources = lines::source(&flags.files)?;
    let acks = Acks::from(flags.acks);
    let client = flags.connect.client().await?;
    // That the topic exists is found out before the first line is read.
    client.partitions(&flags.topic).await?;
    let producer = client
        .producer()
        .acks(acks)
        .enable_idempotence(acks == Acks::All)
        .compression(flags.compression.into())
        .build()
        .await?;
    let mut run = Run {
        flags,
        producer,
        began: Instant::now(),
        awaited: FuturesUnordered::new(),
        taken: 0,
        acknowledged: 0,
        failed: 0,
        bytes: 0,
    };
    let input = run.drain(sources, &signalled).await;
    run.finish(input, signalled.is_cancelled()).await
}

struct Run<'a> {
    flags: &'a Flags,
    producer: Producer,
    began: Instant,
    awaited: FuturesUnordered<DeliveryFuture>,
    taken: u64,
    acknowledged: u64,
    failed: u64,
    bytes: u64,
}

impl Run<'_> {
    async fn drain(
        &mut self,
        sources: Vec<tokio::sync::mpsc::Receiver<lines::Lines>>,
        signalled: &CancellationToken,
    ) -> Result<()> {
        for mut source in sources {
            loop {
                let lines = tokio::select! {
                    biased;
                    () = signalled.cancelled() => return Ok(()),
                    lines = source.recv() => lines,
                    Some(delivery) = self.awaited.next() => {
                        self.count(delivery);
                        continue;
                    }
                };
                let Some(lines) = lines else { break };
                for line in lines? {
                    if signalled.is_cancelled() {
                        return Ok(());
                    }
                    self.send(line).await?;
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, line: Bytes) -> Result<()> {
        if let Some(rate) = self.flags.rate {
            let due = self.began + Duration::from_secs_f64(self.taken as f64 / f64::from(rate));
            tokio::time::sleep_until(due.into()).await;
        }
        while self.awaited.len() >= MAX_AWAITED
            && let Some(delivery) = self.awaited.next().await
        {
            self.count(delivery);
        }
        let record = self.record(line);
        self.taken += 1;
        self.bytes += record.key.as_ref().map_or(0, Bytes::len) as u64;
        self.bytes += record.value.as_ref().map_or(0, Bytes::len) as u64;
        match self.producer.enqueue(record).await {
            Ok(delivery) => self.awaited.push(delivery),
            Err(error) => self.count(Err(error)),
        }
        Ok(())
    }

    fn record(&self, line: Bytes) -> Record {
        let (key, value) = match &self.flags.key_delimiter {
            Some(delimiter) => split(line, delimiter),
            None => (self.flags.key.clone().map(Bytes::from), line),
        };
        let mut record = Record::to(&self.flags.topic).value(value);
        record.key = key;
        record.partition = self.flags.partition;
        for (key, value) in &self.flags.header {
            record = record.header(key, value.clone());
        }
        record
    }

    fn count(&mut self, delivery: tidelog_client::Result<RecordMetadata>) {
        match delivery {
            Ok(_) => self.acknowledged += 1,
            Err(error) => {
                self.failed += 1;
                if self.failed <= MAX_TOLD {
                    eprintln!("tidelog: a record was not acknowledged: {error}");
                }
            }
        }
    }

    async fn finish(mut self, input: Result<()>, interrupted: bool) -> Result<()> {
        let flushed = tokio::time::timeout(CLOSE * 4, async {
            while let Some(delivery) = self.awaited.next().await {
                self.count(delivery);
            }
        });
        let unknown = flushed.await.is_err();
        if unknown {
            self.failed += self.awaited.len() as u64;
        }
        // Everything is answered or given up: there is nothing left that closing could lose.
        let _ = self.producer.close(CLOSE).await;
        let seconds = self.began.elapsed().as_secs_f64();
        eprintln!(
            "{} record(s) acknowledged, {} failed, {} bytes in {seconds:.2} s ({:.0} records/s, {:.1} MB/s)",
            self.acknowledged,
            self.failed,
            self.bytes,
            self.acknowledged as f64 / seconds,
            self.bytes as f64 / seconds / 1e6,
        );
        input?;
        if self.failed > 0 {
            let text = format!(
                "{} of {} record(s) were not acknowledged",
                self.failed, self.taken
            );
            return Err(Failure::new(Exit::Failed, text).into());
        }
        if interrupted {
            return Err(Failure::new(Exit::Interrupted, "").into());
        }
        Ok(())
    }
}

/// Key and value of a line.
fn split(line: Bytes, delimiter: &[u8]) -> (Option<Bytes>, Bytes) {
    match line
        .windows(delimiter.len())
        .position(|window| window == delimiter)
    {
        Some(at) => (Some(line.slice(..at)), line.slice(at + delimiter.len()..)),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_delimiter() {
        let split = |line: &'static str, by: &str| split(line.into(), by.as_bytes());
        assert_eq!(split("k:v:w", ":"), (Some("k".into()), "v:w".into()));
        assert_eq!(split(":v", ":"), (Some("".into()), "v".into()));
        assert_eq!(split("no key", "::"), (None, "no key".into()));
        assert_eq!(split("k::v", "::"), (Some("k".into()), "v".into()));
    }

    #[test]
    fn a_delimiter_has_escapes_and_is_not_empty() {
        assert_eq!(delimiter(r"\t").unwrap(), "\t");
        assert!(delimiter("").is_err() && delimiter(r"\q").is_err());
    }

    #[test]
    fn a_header_is_a_key_and_a_value() {
        assert_eq!(header("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(header("a").is_err());
    }
}
