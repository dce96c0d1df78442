//! `tidelog produce`: one record a line.

mod acks;
mod input;
mod json;
mod lines;
mod run;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use tidelog_client::{Acks, Client, Compression, Producer};
use tidelog_types::limits::MAX_MAX_MESSAGE_BYTES;
use tokio_util::sync::CancellationToken;

use super::with_cluster;
use crate::args::ConnectFlags;
use crate::{interrupt, waiting};
use input::InputFlags;
use run::{Run, Sending};

/// How long a record is tried for, unless the command line says otherwise.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(2);

/// Flags of `tidelog produce`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topic
    topic: String,
    /// Files to read instead of standard input, one record a line
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: InputFlags,
    /// Print where each acknowledged record stands; the figures of the run go to standard error in
    /// any case
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: AckFormat,
    #[command(flatten)]
    producer: ProducerFlags,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// How acknowledgements are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum AckFormat {
    /// Not at all
    #[default]
    None,
    /// {record, topic, partition, offset, timestamp}, an object a line, in the order of
    /// acknowledgements; record counts from 1
    Json,
}

/// How records are sent.
#[derive(Debug, Args)]
struct ProducerFlags {
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, value_name = "CODEC", default_value_t)]
    compression: Codec,
    /// When a record counts as acknowledged: fsynced on all in-sync replicas, on the leader, or
    /// sent
    #[arg(long, value_enum, default_value_t)]
    acks: AcksFlag,
    /// Do not number records: one that is retried may be stored twice
    #[arg(long)]
    no_idempotence: bool,
    /// How long a batch waits for more records, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    linger: u64,
    /// The size up to which a batch grows, bytes before compression, e.g. 256KiB
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize::kib(256))]
    batch_size: ByteSize,
    /// The largest record that is sent, bytes, e.g. 2MiB; the topic's max.message.bytes bounds it,
    /// too
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize::b(MAX_MAX_MESSAGE_BYTES.into()))]
    max_request_size: ByteSize,
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
    with_cluster(|signalled| produce(flags, signalled))
}

async fn produce(flags: &Flags, signalled: CancellationToken) -> Result<()> {
    let sources = lines::sources(&flags.files, flags.input.whole_file)?;
    let (client, producer) = tokio::select! {
        biased;
        prepared = prepare(flags) => prepared?,
        () = signalled.cancelled() => return Err(interrupt::ended("nothing was sent")),
    };
    let tells_offsets = flags.producer.acks != AcksFlag::None;
    let sending = Sending {
        topic: &flags.topic,
        input: &flags.input,
        rate: flags.rate,
        producer,
        client,
        acks: (flags.output == AckFormat::Json).then(|| acks::Acks::new(tells_offsets)),
        sources,
    };
    Run::new(sending).run(&signalled).await
}

/// That the topic and the partition exist is found out before the first line is sent.
async fn prepare(flags: &Flags) -> Result<(Client, Producer)> {
    let client = flags.connect.client().await?;
    let partitions = waiting::for_topic(&client, &flags.topic, flags.connect.timeout()).await?;
    if let Some(wanted) = flags.input.partition
        && partitions.iter().all(|there| there.partition.0 != wanted)
    {
        return Err(waiting::no_partition(&flags.topic, partitions.len(), wanted).into());
    }
    let producer = producer(flags, &client).await?;
    Ok((client, producer))
}

async fn producer(flags: &Flags, client: &Client) -> Result<Producer> {
    let how = &flags.producer;
    let acks = Acks::from(how.acks);
    let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    let producer = client
        .producer()
        .acks(acks)
        .enable_idempotence(acks == Acks::All && !how.no_idempotence)
        .compression(how.compression.into())
        .linger(Duration::from_millis(how.linger))
        .batch_size(bytes(how.batch_size))
        .max_request_size(bytes(how.max_request_size))
        .delivery_timeout(flags.connect.given_timeout().unwrap_or(DELIVERY_TIMEOUT))
        .build()
        .await?;
    Ok(producer)
}
