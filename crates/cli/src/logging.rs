//! What the program says of itself: to standard error, as text on a terminal and as JSON otherwise.

use std::io::{self, IsTerminal};

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// For a broker, by the filter of its configuration.
pub(crate) fn start(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!(
            "log.filter {filter:?} is no filter: {error}; write e.g. info,tidelog_broker=debug"
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().try_init()
    };
    started.map_err(|error| anyhow!("{error}"))
}
