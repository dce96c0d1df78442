//! The flag by which a command is told how to show its result.

use clap::{Args, ValueEnum};

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people
    #[default]
    Table,
    /// Columns for people, more of them
    Wide,
    /// JSON for programs
    Json,
}

/// The flag that says how a result is shown.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputFlag {
    /// How the result is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: OutputFormat,
}
