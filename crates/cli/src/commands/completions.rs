//! `tidelog completions SHELL`, and what the script that it prints asks this program while somebody
//! types.
//!
//! The shell's script calls the program with the words so far and [`VARIABLE`] in its environment.
//! Which arguments complete with names from the cluster stands in `args/names.rs`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use crate::args::command;
use crate::output;

/// By this the program knows that a shell asks, and which.
const VARIABLE: &str = "TIDELOG_COMPLETE";
/// Flags of `tidelog completions`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&flags.shell.to_string())
        .context("this shell has no completions")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "tidelog", "tidelog", &program(), &mut script)?;
    output::print(&script)
}

/// How the script calls this program: by the name that finds it in `PATH`, or by its path if it was
/// called so.
fn program() -> String {
    let called = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    match std::env::current_exe() {
        Ok(path) if called.components().count() > 1 => path.display().to_string(),
        _ => "tidelog".to_owned(),
    }
}

/// Answers a shell's script, if that is who calls.
pub(crate) fn answered() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let asked = CompleteEnv::with_factory(command).var(VARIABLE);
    // Where there is no answer the shell shows nothing, which is all that somebody who types wants
    // to see of it.
    asked.try_complete(std::env::args_os(), None).unwrap_or(true)
}
