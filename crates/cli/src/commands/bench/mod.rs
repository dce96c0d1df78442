//! `tidelog bench`: how fast a cluster takes and gives records, seen from a client.

mod consume;
mod figures;
mod latency;
mod payload;
mod produce;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use tidelog_client::{Client, ErrorCode, NewTopic};

use super::runtime;
use crate::args::{ConnectFlags, OutputFlag};

/// `tidelog bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Closed loop: as many records as the cluster takes, many in flight
    Produce(produce::Flags),
    /// As many records as the cluster gives, from the beginning
    Consume(consume::Flags),
    /// Open loop: records at a fixed rate, each timed from the moment it was due (no coordinated omission)
    Latency(latency::Flags),
}

/// The topic, and how to show the figures.
#[derive(Debug, Args)]
pub(crate) struct CommonFlags {
    /// The topic; a produce creates it if there is none
    #[arg(default_value = "bench")]
    topic: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// What a topic gets that is created here.
#[derive(Debug, Args)]
pub(crate) struct TopicFlags {
    /// How many partitions the topic gets if it is created
    #[arg(short, long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// How many replicas each gets; by default 3, or as many as there are brokers
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    replication_factor: Option<u32>,
    /// Size of a record's value, bytes; incompressible
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    record_size: u32,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    runtime()?.block_on(async {
        match command {
            Command::Produce(flags) => produce::run(flags).await,
            Command::Consume(flags) => consume::run(flags).await,
            Command::Latency(flags) => latency::run(flags).await,
        }
    })
}

impl TopicFlags {
    async fn ensure(&self, client: &Client, topic: &str, timeout: Duration) -> Result<()> {
        let mut new = NewTopic::new(topic).partitions(self.partitions);
        if let Some(replicas) = self.replication_factor {
            new = new.replication_factor(replicas);
        }
        match client.admin().timeout(timeout).create_topic(new).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
