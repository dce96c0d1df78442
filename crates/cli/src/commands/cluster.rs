//! `tidelog cluster`

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};
use crate::{output, probe};

/// How long the health check waits for each step; the containers' check gives it two seconds in all.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// `tidelog cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether this host's broker is ready to serve: exit code 5 if not
    Health(HealthFlags),
}

/// Flags of `tidelog cluster health`.
#[derive(Debug, Args)]
pub(crate) struct HealthFlags {
    /// Ask only this host's broker, by its HTTP listener
    #[arg(long, required = true)]
    local: bool,
    /// Where this host's broker answers HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7173")]
    http: String,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Health(flags) => local_health(&flags.http),
    }
}

fn local_health(address: &str) -> Result<()> {
    let answer = probe::get(address, "/readyz", PROBE_TIMEOUT)?;
    output::line(answer.body.trim())?;
    if answer.status == 200 {
        return Ok(());
    }
    let text = format!(
        "the broker at {address} is not ready (HTTP {}); wait, or look into its log",
        answer.status
    );
    Err(Failure::new(Exit::Unhealthy, text).into())
}
