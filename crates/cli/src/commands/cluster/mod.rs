//! `tidelog cluster`

mod health;
mod status;

use anyhow::Result;
use clap::Subcommand;

use super::{Effect, until_answered};

/// `tidelog cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Brokers, the metadata leader, partitions in trouble: exit code 5 if no broker knows the
    /// present
    Status(status::Flags),
    /// Whether the cluster, or this host's broker, serves as it should: exit code 5 if not
    Health(health::Flags),
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Status(flags) => until_answered(Effect::Reads, status::run(flags)),
        Command::Health(flags) if flags.local => health::local(flags),
        Command::Health(flags) => until_answered(Effect::Reads, health::run(flags)),
    }
}
