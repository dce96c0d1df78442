//! The project's own commands: `cargo xtask demo | test | check | sim | torture | …`.
//!
//! Only small dependencies here, RocksDB not among them: this builds in seconds, and then looks for
//! what the rest needs.

mod check;
mod circles;
mod image;
mod layering;
mod messages;
mod numbers;
mod prerequisites;
mod prose;
mod proving;
mod run;
mod sizes;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tidelog's own commands")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start three brokers, stream real flights through them, lose a broker on the way, and count
    /// every record
    Demo(run::DemoArgs),
    /// Run every test
    Test(run::TestArgs),
    /// Format, lints, docs, layering, circles of imports, file sizes, and dependencies if
    /// cargo-deny is installed
    Check,
    /// Simulate whole clusters from seeds, and every known mutant
    Sim(proving::SimArgs),
    /// Three real brokers under load and a nemesis for minutes, judged by the checker of histories
    Torture(proving::TortureArgs),
    /// Search every mutant afresh among 500 seeds
    Nightly,
    /// Build the runtime image tidelog:local, without any registry
    Image(image::ImageArgs),
    /// Measure what the docs record, on a release build
    Measure(run::MeasureArgs),
    /// All 336,776 departures of 2013 through three brokers, a leader killed twice, replicas
    /// compared byte for byte
    FullYear(run::FullYearArgs),
}

fn main() -> ExitCode {
    match run_command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_command() -> Result<()> {
    let root = run::workspace_root();
    std::env::set_current_dir(&root).with_context(|| format!("entering {}", root.display()))?;
    match Args::parse().command {
        Command::Demo(args) => run::demo(&args),
        Command::Test(args) => run::test(&args),
        Command::Check => check::check(),
        Command::Sim(args) => proving::sim(&args),
        Command::Torture(args) => proving::torture(&args),
        Command::Nightly => proving::nightly(),
        Command::Image(args) => image::image(&args),
        Command::Measure(args) => run::measure(&args),
        Command::FullYear(args) => run::full_year(&args),
    }
}
