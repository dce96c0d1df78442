//! What attacks the product: the simulation, its mutants, and the torture of real processes.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::prerequisites;
use crate::run::{Built, run};

/// How many seeds a plain `cargo xtask sim` runs: what CI runs.
const SEEDS: &str = "0..1000";

#[derive(Args)]
pub(crate) struct SimArgs {
    /// Which seeds, A..B without B; by default 0..1000, and then every mutant from the seed that is
    /// known to catch it
    #[arg(long, value_name = "A..B", conflicts_with = "seed")]
    seeds: Option<String>,
    /// One seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Passed on, e.g. --trace, --mutant NAME, --resume FILE
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Args)]
pub(crate) struct TortureArgs {
    /// For how many minutes
    #[arg(long, default_value = "3", value_name = "N")]
    minutes: String,
    /// Passed on, e.g. --seed N, --keep
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask sim`.
pub(crate) fn sim(args: &SimArgs) -> Result<()> {
    let breaks_a_rule = args.rest.iter().any(|word| word.starts_with("--mutant"));
    let mut words = match (&args.seeds, args.seed) {
        (Some(seeds), _) => vec!["--seeds".to_owned(), seeds.clone()],
        (None, Some(seed)) => vec!["--seed".to_owned(), seed.to_string()],
        (None, None) => vec!["--seeds".to_owned(), SEEDS.to_owned()],
    };
    words.extend(args.rest.clone());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    simulate(breaks_a_rule, &words)?;
    if args.seeds.is_none() && args.seed.is_none() && args.rest.is_empty() {
        simulate(true, &["--known-mutants"])?;
    }
    Ok(())
}

/// `cargo xtask nightly`: searches every mutant afresh.
pub(crate) fn nightly() -> Result<()> {
    simulate(true, &["--all-mutants"])
}

/// `cargo xtask torture`.
pub(crate) fn torture(args: &TortureArgs) -> Result<()> {
    prerequisites::for_build()?;
    let built = Built::for_tests()?;
    let mut torture = built.harness("torture")?;
    torture.args(["--minutes", &args.minutes]).args(&args.rest);
    run(torture, "the torture")
}

/// Builds the simulation and runs it. With rules that can be broken it is a build of its own, so
/// that no feature of it reaches what is shipped.
fn simulate(with_mutants: bool, words: &[&str]) -> Result<()> {
    let mut build = vec!["--bins", "--profile", "sim", "--package", "tidelog-sim"];
    if with_mutants {
        build.extend(["--features", "mutants"]);
    }
    let built = Built::build_programs(&build)?;
    let mut simulation = Command::new(built.binary("tidelog-sim")?);
    simulation.args(words);
    run(simulation, "the simulation")
}
