//! Building the product once, and running tests, demo and measurements against a private copy of
//! it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{image, prerequisites};

/// What a first build costs, as the README says it too.
const FIRST_BUILD: &str = "the first time it compiles RocksDB, about 8 minutes on two cores, and then the rest; later it takes seconds";
/// The image of the program under test.
const TEST_IMAGE: &str = "tidelog:test";

/// Where the workspace lies: as `cargo run` says now, since a build folder that several checkouts
/// share may hold another one's xtask.
pub(crate) fn workspace_root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Leave the brokers' data where it is, to look at it
    #[arg(long)]
    keep: bool,
    /// How long the load lasts, seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Passed on to the test runner, e.g. a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Args)]
pub(crate) struct MeasureArgs {
    /// What to measure: footprint | throughput | failover | rebalance | groups
    what: String,
    /// Passed on, e.g. --seconds 60
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

#[derive(Args)]
pub(crate) struct FullYearArgs {
    /// The table of a year's departures: flights.csv or flights.csv.gz of nycflights13
    file: PathBuf,
    /// Passed on, e.g. --seconds 120
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// `cargo xtask demo`.
pub(crate) fn demo(args: &DemoArgs) -> Result<()> {
    prerequisites::for_build()?;
    let built = Built::released("demo")?;
    eprintln!("demo: {} s of load, a minute in all", args.seconds);
    let seconds = args.seconds.to_string();
    let mut demo = built.harness("demo")?;
    demo.args(["--seconds", &seconds]);
    if args.keep {
        demo.arg("--keep");
    }
    run(demo, "the demo")
}

/// `cargo xtask test`.
pub(crate) fn test(args: &TestArgs) -> Result<()> {
    prerequisites::for_build()?;
    prerequisites::for_python()?;
    let built = Built::for_tests()?;
    let nextest = prerequisites::runs("cargo-nextest");
    let mut tests = Command::new(env!("CARGO"));
    if nextest {
        tests.args(["nextest", "run", "--workspace", "--locked", "--no-tests=fail"]);
    } else {
        tests.args([
            "test",
            "--workspace",
            "--locked",
            "--lib",
            "--bins",
            "--examples",
            "--tests",
        ]);
    }
    tests
        .args(&args.rest)
        .env("TIDELOG_BIN", built.binary("tidelog")?);
    if image::engine_answers() {
        image::make(&built, TEST_IMAGE)?;
        tests.env("TIDELOG_IMAGE", TEST_IMAGE);
    } else {
        eprintln!("test: no Docker engine answers here: the compose file will NOT be tested");
    }
    run(tests, "the tests")?;
    if args.rest.is_empty() {
        built_apart(nextest)?;
        // Examples in the documentation; nextest does not run them.
        cargo(&["test", "--workspace", "--locked", "--doc", "--quiet"], &[])?;
    }
    Ok(())
}

/// Processes that die at every crash point of their write paths, and the rules that are broken in
/// tests of their own crate. Built apart: what is shipped has neither.
fn built_apart(nextest: bool) -> Result<()> {
    let tests = |packages: &[&str], features: &str, filter: &str| {
        let mut tests = Command::new(env!("CARGO"));
        if nextest {
            tests.args(["nextest", "run", "--no-tests=fail"]);
        } else {
            tests.args(["test", "--lib"]);
        }
        let packages = packages.iter().flat_map(|package| ["--package", package]);
        tests.arg("--locked").args(packages);
        tests.args(["--features", features, filter]);
        tests
    };
    let crashing = "tidelog-metadata/mutants,tidelog-metadata/failpoints,tidelog-storage/failpoints";
    let packages = ["tidelog-metadata", "tidelog-storage"];
    run(tests(&packages, crashing, "crash"), "the crash points")?;
    let mutants = tests(&["tidelog-group"], "tidelog-group/mutants", "mutant");
    run(mutants, "the mutant of groups")
}

/// `cargo xtask measure`.
pub(crate) fn measure(args: &MeasureArgs) -> Result<()> {
    prerequisites::for_build()?;
    let built = Built::released("measure")?;
    let mut measure = built.harness("measure")?;
    measure.arg(&args.what).args(&args.rest);
    run(measure, "the measurement")
}

/// `cargo xtask full-year`.
pub(crate) fn full_year(args: &FullYearArgs) -> Result<()> {
    prerequisites::for_build()?;
    let built = Built::for_tests()?;
    let mut year = built.harness("full-year")?;
    year.arg(&args.file).args(&args.rest);
    run(year, "the full-year run")
}

#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// What tests run.
    Dev,
    /// What people run: the demo, the tour, the image, the measurements.
    Release,
}

impl Profile {
    /// Says how long a first build takes, before it begins.
    pub(crate) fn announce(self) {
        let name = match self {
            Self::Dev => "the dev profile, for tests",
            Self::Release => "release, as `cargo build --release` does",
        };
        eprintln!("building tidelog ({name}); {FIRST_BUILD}");
    }
}

/// Private copies of the programs: a shared build folder may be overwritten by another checkout
/// while they run.
pub(crate) struct Built {
    folder: PathBuf,
}

impl Built {
    /// Builds the product and the whole harness, for tests.
    pub(crate) fn for_tests() -> Result<Self> {
        Profile::Dev.announce();
        Self::build_programs(&["--bins", "--package", "tidelog", "--package", "tidelog-tests"])
    }

    /// Builds the product as people run it, and one program of the harness.
    pub(crate) fn released(program: &str) -> Result<Self> {
        Profile::Release.announce();
        let built = Self::product()?;
        eprintln!("building the program that runs it: {program}");
        built.add_programs(&["--bin", program, "--package", "tidelog-tests", "--release"])?;
        Ok(built)
    }

    /// Builds what people run, just as `cargo build --release` does: who has run one of the two
    /// finds everything compiled by the other. Built together with other packages, dependencies
    /// would get those packages' features too, and RocksDB be compiled again.
    pub(crate) fn product() -> Result<Self> {
        Self::build_programs(&["--bins", "--package", "tidelog", "--release"])
    }

    /// Builds the programs that these words of `cargo build` choose.
    pub(crate) fn build_programs(words: &[&str]) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("tidelog-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let built = Self { folder };
        built.add_programs(words)?;
        Ok(built)
    }

    fn add_programs(&self, words: &[&str]) -> Result<()> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--locked"])
            .args(words)
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit())
            .output()
            .context("running cargo build")?;
        if !output.status.success() {
            bail!("the build failed");
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let Some(executable) = message["executable"].as_str().map(Path::new) else {
                continue;
            };
            let name = executable.file_name().context("an executable without a name")?;
            std::fs::copy(executable, self.folder.join(name))
                .with_context(|| format!("copying {}", executable.display()))?;
        }
        Ok(())
    }

    /// The copy of a program.
    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if !path.exists() {
            bail!("the build made no program named {name}");
        }
        Ok(path)
    }

    /// A program of the harness, told where the product is.
    pub(crate) fn harness(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.binary(name)?);
        command.env("TIDELOG_BIN", self.binary("tidelog")?);
        Ok(command)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary folder, where the system tidies up.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs cargo with arguments and environment.
pub(crate) fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).envs(env.iter().copied());
    run(command, &format!("cargo {}", args.join(" ")))
}

/// Runs a command to its end; failing is an error.
pub(crate) fn run(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {what}"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}
