//! The commands, a file each.

mod bench;
mod cluster;
mod completions;
mod confirm;
mod consume;
mod dev;
mod each;
mod group;
mod log;
mod produce;
mod server;
mod topic;

use anyhow::{Context, Result};
use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};
use crate::{interrupt, logging, waiting};

pub(crate) use completions::answered as answered_a_shell;

/// What the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker
    Server(server::Flags),
    /// Run a whole cluster in this process, for trying out
    Dev(dev::Flags),
    /// Create, list, describe and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Produce lines as records
    Produce(produce::Flags),
    /// Read records, alone or as a member of a group
    Consume(consume::Flags),
    /// Look at consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Look into a data directory, without a broker
    #[command(subcommand)]
    Log(log::Command),
    /// Measure a cluster from a client
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print a completion script for a shell
    Completions(completions::Flags),
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Server(flags) => server::run(flags),
        Command::Dev(flags) => dev::run(flags),
        Command::Topic(command) => topic::run(command),
        Command::Produce(flags) => produce::run(flags),
        Command::Consume(flags) => consume::run(flags),
        Command::Group(command) => group::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Log(command) => log::run(command),
        Command::Bench(command) => bench::run(command),
        Command::Completions(flags) => completions::run(flags),
    }
}

/// The runtime of the program: as many threads as cores.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// What a command does to the cluster: what is to be said when a signal ends it before the answer
/// came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads.
    Reads,
    /// It changes something.
    Changes,
}

/// Runs a command that asks the cluster and shows the answer: until it is done, or a signal comes.
pub(crate) fn until_answered(effect: Effect, work: impl Future<Output = Result<()>>) -> Result<()> {
    let interrupted = match effect {
        Effect::Reads => "interrupted before the cluster answered",
        Effect::Changes => {
            "interrupted before the cluster answered: what was asked for may have been done all the same"
        }
    };
    with_cluster(|signalled| async move {
        tokio::select! {
            biased;
            done = work => done,
            () = signalled.cancelled_owned() => Err(Failure::new(Exit::Interrupted, interrupted).into()),
            _ = waiting::say_when_late() => unreachable!("it never ends"),
        }
    })
}

/// Runs a command that is a client and heeds signals itself.
pub(crate) fn with_cluster<W>(work: impl FnOnce(CancellationToken) -> W) -> Result<()>
where
    W: Future<Output = Result<()>>,
{
    logging::start_command()?;
    let runtime = runtime()?;
    let result = runtime.block_on(async { work(interrupt::listen_for_command()?).await });
    // A thread that reads standard input, or writes standard output, may wait there for ever.
    runtime.shutdown_background();
    result
}
