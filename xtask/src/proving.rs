//! What attacks the product: the simulation, its mutants, and the torture of real processes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::prerequisites;
use crate::run::{Built, Profile, run};

/// How many seeds a plain `cargo xtask sim` runs: what CI runs.
const SEEDS: &str = "0..1000";

#[derive(Args)]
pub(crate) struct SimArgs {
    /// Which seeds, A..B without B; by default 0..1000, and then every mutant from the seed that is known to catch it
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
    let mut command = if breaks_a_rule { mutants()? } else { simulation()? };
    match (&args.seeds, args.seed) {
        (Some(seeds), _) => command.args(["--seeds", seeds]),
        (None, Some(seed)) => command.args(["--seed", &seed.to_string()]),
        (None, None) => command.args(["--seeds", SEEDS]),
    };
    command.args(&args.rest);
    run(command, "the simulation")?;
    if args.seeds.is_none() && args.seed.is_none() && args.rest.is_empty() {
        let mut command = mutants()?;
        command.arg("--known-mutants");
        run(command, "the mutants")?;
    }
    Ok(())
}

/// `cargo xtask nightly`: searches every mutant afresh.
pub(crate) fn nightly() -> Result<()> {
    let mut command = mutants()?;
    command.arg("--all-mutants");
    run(command, "the search for mutants")
}

/// `cargo xtask torture`.
pub(crate) fn torture(args: &TortureArgs) -> Result<()> {
    prerequisites::for_build()?;
    let built = Built::build(Profile::Dev)?;
    let mut torture = built.harness("torture")?;
    torture.args(["--minutes", &args.minutes]).args(&args.rest);
    run(torture, "the torture")
}

/// The simulation, ready to be given its words.
fn simulation() -> Result<Command> {
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--locked",
        "--profile",
        "sim",
        "--package",
        "tidelog-sim",
    ]);
    run(build, "building the simulation")?;
    Ok(Command::new(target_folder()?.join("sim/tidelog-sim")))
}

/// The same with rules that can be broken: in a build folder of its own, so that no feature of it reaches what is shipped.
fn mutants() -> Result<Command> {
    let folder = target_folder()?.join("mutants");
    let mut build = Command::new(env!("CARGO"));
    build
        .args([
            "build",
            "--locked",
            "--profile",
            "sim",
            "--package",
            "tidelog-sim",
        ])
        .args(["--features", "mutants", "--target-dir"])
        .arg(&folder);
    run(build, "building the mutants")?;
    Ok(Command::new(folder.join("sim/tidelog-sim")))
}

fn target_folder() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("running cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder.context("cargo metadata names no build folder")?.into())
}
