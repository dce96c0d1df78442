//! The commands, a file each.

mod bench;
mod cluster;
mod completions;
mod consume;
mod dev;
mod group;
mod log;
mod produce;
mod server;
mod topic;

use anyhow::{Context, Result};
use clap::Subcommand;

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
