//! `tidelog bench`: how fast a cluster takes and gives records, seen from a client.

mod consume;
mod figures;
mod latency;
mod payload;
mod produce;
mod progress;
mod topic;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::with_cluster;
use crate::args::ConnectFlags;
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::output::OutputFlag;

/// `tidelog bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Closed loop: as many records as the cluster takes, many in flight
    Produce(produce::Flags),
    /// As many records as the cluster gives, from the beginning
    Consume(consume::Flags),
    /// Open loop: records at a fixed rate, each timed from the moment it was due (no coordinated
    /// omission)
    Latency(latency::Flags),
}

/// The topic, and how to show the figures.
#[derive(Debug, Args)]
pub(crate) struct CommonFlags {
    /// The topic; produce and latency create it if there is none
    #[arg(default_value = "bench")]
    topic: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// How long records may take that are on their way when a signal comes; then there is time to
/// delete the topic.
const SETTLE: Duration = Duration::from_secs(3);
/// How long deleting it may take then.
const DELETE: Duration = Duration::from_secs(1);

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    with_cluster(|signalled| async move {
        match command {
            Command::Produce(flags) => produce::run(flags, &signalled).await,
            Command::Consume(flags) => consume::run(flags, &signalled).await,
            Command::Latency(flags) => latency::run(flags, &signalled).await,
        }
    })
}

/// Prepares a run, unless a signal comes first.
async fn prepared<T>(signalled: &CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        prepared = work => prepared,
        () = signalled.cancelled() => Err(interrupt::ended("nothing was measured")),
    }
}

/// Awaits what is on its way; for a moment only once a signal has come. Whether all of it was
/// awaited.
async fn settled(signalled: &CancellationToken, work: impl Future<Output = ()>) -> bool {
    let too_late = async {
        signalled.cancelled().await;
        tokio::time::sleep(SETTLE).await;
    };
    tokio::select! {
        biased;
        () = work => true,
        () = too_late => false,
    }
}

/// How a run ends whose figures are shown.
fn ended(signalled: &CancellationToken, failed: u64) -> Result<()> {
    if signalled.is_cancelled() {
        return Err(interrupt::ended("the figures are of what was done before"));
    }
    if failed > 0 {
        return Err(Failure::new(Exit::Failed, format!("{failed} records failed")).into());
    }
    Ok(())
}
