//! `tidelog-sim`: runs seeds, and says what came of them. Exit code 1 if one of them breaks an
//! invariant.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tidelog_sim::report::{Report, describe, run_seeds};
use tidelog_sim::{Options, run};

/// How often figures are shown while seeds are run.
const PROGRESS: Duration = Duration::from_secs(10);
/// Which seeds are run unless others are asked for.
const SEEDS: Range<u64> = 0..200;
/// How many seeds are run between two notes of where to go on.
const NOTED: u64 = 200;

/// Deterministic simulation of whole clusters.
#[derive(Debug, Parser)]
#[command(name = "tidelog-sim", version)]
struct Arguments {
    /// The seeds to run: from the first to before the last. By default 0..200; 0..500 to look for
    /// mutants
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Range<u64>>,
    /// Run this seed alone.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print every event of the run.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many runs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// A file that holds the next seed to run; it is kept up to date, so that a long search may be
    /// interrupted.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Break this rule on purpose; only in a build with the feature `mutants`.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Every mutant: exit code 1 if one of them is not noticed within the seeds.
    #[arg(long, conflicts_with_all = ["mutant", "seed"])]
    all_mutants: bool,
    /// Every mutant, each with a seed that is known to notice it: exit code 1 if one does not.
    #[arg(long, conflicts_with_all = ["mutant", "seed", "seeds", "all_mutants"])]
    known_mutants: bool,
}

fn main() -> ExitCode {
    match begin(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidelog-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn begin(arguments: &Arguments) -> Result<bool, String> {
    if arguments.all_mutants {
        return mutants::hunt_all(arguments);
    }
    if arguments.known_mutants {
        return mutants::run_known();
    }
    let mutant = mutants::by_name(arguments.mutant.as_deref())?;
    let prepare = || mutants::switch(mutant);
    if let Some(seed) = arguments.seed {
        prepare();
        let options = Options {
            trace: arguments.trace,
            ..Options::default()
        };
        let mut report = Report::default();
        report.take(run(seed, options));
        return Ok(conclude(arguments, &report));
    }
    let seeds = resumed(arguments)?;
    let mut report = Report::default();
    let mut from = seeds.start;
    let step = if arguments.resume.is_some() {
        NOTED
    } else {
        u64::MAX
    };
    while from < seeds.end && report.failed.is_none() {
        let to = from.saturating_add(step).min(seeds.end);
        let last = std::sync::Mutex::new(Instant::now());
        let part = run_seeds(from..to, arguments.jobs, prepare, |report| show(report, &last));
        report.runs += part.runs;
        report.seen.add(&part.seen);
        report.elapsed += part.elapsed;
        report.failed = part.failed;
        from = to;
        if let (Some(file), None) = (&arguments.resume, &report.failed) {
            note(file, from)?;
        }
    }
    Ok(conclude(arguments, &report))
}

/// Says what came of it; whether all is as it should be.
fn conclude(arguments: &Arguments, report: &Report) -> bool {
    let Some(failed) = &report.failed else {
        print!("{}", report.figures());
        if arguments.mutant.is_some() {
            println!("the mutant was not noticed");
        }
        return true;
    };
    print!("{}", describe(failed, arguments.mutant.as_deref()));
    print!("\n{}", report.figures());
    false
}

fn show(report: &Report, last: &std::sync::Mutex<Instant>) {
    if let Ok(mut last) = last.try_lock()
        && last.elapsed() >= PROGRESS
    {
        *last = Instant::now();
        let minutes = report.elapsed.as_secs_f64() / 60.0;
        let pace = report.runs as f64 / minutes;
        eprintln!("{} runs, {pace:.0} a minute", report.runs);
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write seeds as A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        return Err(format!(
            "{text} are no seeds: the first must be lower than the last"
        ));
    }
    Ok(range)
}

/// The seeds that are left.
fn resumed(arguments: &Arguments) -> Result<Range<u64>, String> {
    let seeds = arguments.seeds.clone().unwrap_or(SEEDS);
    let Some(file) = arguments.resume.as_deref().filter(|file| file.exists()) else {
        return Ok(seeds);
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let next: u64 = text
        .trim()
        .parse()
        .map_err(|error| format!("{} holds no seed: {error}", file.display()))?;
    Ok(next.clamp(seeds.start, seeds.end)..seeds.end)
}

fn note(file: &Path, next: u64) -> Result<(), String> {
    std::fs::write(file, format!("{next}\n")).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(not(feature = "mutants"))]
mod mutants {
    use super::Arguments;

    const MISSING: &str = "this build has no mutants: build it with --features mutants";

    pub(crate) fn by_name(name: Option<&str>) -> Result<Option<()>, String> {
        match name {
            Some(_) => Err(MISSING.to_owned()),
            None => Ok(None),
        }
    }

    pub(crate) fn switch(_mutant: Option<()>) {}

    pub(crate) fn hunt_all(_arguments: &Arguments) -> Result<bool, String> {
        Err(MISSING.to_owned())
    }

    pub(crate) fn run_known() -> Result<bool, String> {
        Err(MISSING.to_owned())
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use std::ops::Range;

    use tidelog_sim::known::{KNOWN, is_documented, line, own, simulated, table};
    use tidelog_sim::report::run_seeds;
    use tidelog_sim::{Broken, Options, run};
    use tidelog_types::mutant::{Mutant, switch_here};

    use super::Arguments;

    /// Within so many seeds each must be noticed.
    const SEEDS: Range<u64> = 0..500;

    pub(crate) fn by_name(name: Option<&str>) -> Result<Option<Mutant>, String> {
        let Some(name) = name else { return Ok(None) };
        let names = || Mutant::ALL.map(Mutant::name).join(", ");
        let known = Mutant::by_name(name);
        known
            .map(Some)
            .ok_or_else(|| format!("no mutant is named {name}; there are {}", names()))
    }

    pub(crate) fn switch(mutant: Option<Mutant>) {
        switch_here(mutant);
    }

    /// Runs the seed that is known to notice each mutant: by the same invariant.
    pub(crate) fn run_known() -> Result<bool, String> {
        let mut all_noticed = true;
        for (mutant, seed, known) in KNOWN {
            switch_here(Some(mutant));
            let violation = run(seed, Options::default()).violation;
            switch_here(None);
            let name = mutant.name();
            let broken = violation.map(|violation| violation.broken);
            let found = broken.map_or_else(|| "NOT NOTICED".to_owned(), |broken| broken.to_string());
            if broken == Some(known) {
                println!("{name:<40} seed {seed:<6} {found}");
            } else {
                all_noticed = false;
                println!(
                    "{name:<40} seed {seed:<6} {found}, and {known} is known: look again with --all-mutants"
                );
            }
        }
        if !simulated().eq(KNOWN.map(|(mutant, ..)| mutant)) {
            return Err("not every mutant has its known seed: find them with --all-mutants".to_owned());
        }
        if !is_documented() {
            let table = table(&KNOWN);
            return Err(format!(
                "docs/replication.md has another table than this:\n{table}"
            ));
        }
        Ok(all_noticed)
    }

    /// Looks for the first seed that notices each mutant, and prints what is to be known of them.
    pub(crate) fn hunt_all(arguments: &Arguments) -> Result<bool, String> {
        if arguments.jobs == 0 {
            return Err("--jobs 0 runs nothing".to_owned());
        }
        let mut all_noticed = true;
        let mut found = Vec::new();
        for mutant in simulated() {
            let seeds = arguments.seeds.clone().unwrap_or(SEEDS);
            let name = mutant.name();
            if let Some((seed, broken)) = hunt(mutant, seeds, arguments.jobs) {
                eprintln!("{name:<40} seed {seed:<6} {broken}");
                found.push((mutant, seed, broken));
            } else {
                all_noticed = false;
                eprintln!("{name:<40} NOT NOTICED");
            }
        }
        for (mutant, seed, broken) in &found {
            println!("{}", line(*mutant, *seed, *broken));
        }
        print!("\n{}", table(&found));
        Ok(all_noticed)
    }

    /// The first seed that notices a mutant, by the invariant that must, and by what it does.
    fn hunt(mutant: Mutant, mut seeds: Range<u64>, jobs: usize) -> Option<(u64, Broken)> {
        while !seeds.is_empty() {
            let report = run_seeds(seeds.clone(), jobs, || switch_here(Some(mutant)), |_| ());
            switch_here(None);
            let failed = report.failed?;
            let broken = failed.violation?.broken;
            if own(mutant).is_none_or(|invariant| broken == Broken::Invariant(invariant)) {
                return Some((failed.seed, broken));
            }
            seeds.start = failed.seed + 1;
        }
        None
    }
}
