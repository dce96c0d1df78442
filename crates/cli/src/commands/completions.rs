//! `tidelog completions SHELL`

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output;

/// Flags of `tidelog completions`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    // The generator panics when its writer fails, which a buffer never does.
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut Cli::command(), "tidelog", &mut script);
    output::print(&script)
}
