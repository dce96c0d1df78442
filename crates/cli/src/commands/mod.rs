//! The commands, a file each.

mod cluster;
mod completions;
mod dev;
mod log;
mod server;

use anyhow::{Context, Result};
use clap::Subcommand;

/// What the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker
    Server(server::Flags),
    /// Run a whole cluster in this process, for trying out
    Dev(dev::Flags),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Look into a data directory, without a broker
    #[command(subcommand)]
    Log(log::Command),
    /// Print a completion script for a shell
    Completions(completions::Flags),
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Server(flags) => server::run(flags),
        Command::Dev(flags) => dev::run(flags),
        Command::Cluster(command) => cluster::run(command),
        Command::Log(command) => log::run(command),
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
