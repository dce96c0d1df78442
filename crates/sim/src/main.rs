//! `tidelog-sim`: runs seeds, and says what came of them. Exit code 1 if one of them breaks an invariant.

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
    /// The seeds to run: from the first to before the last. By default 0..200; 0..500 to look for mutants
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
    /// A file that holds the next seed to run; it is kept up to date, so that a long search may be interrupted.
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
    /// With a mutant: an invariant that must be among those that notice it, such as R18.
    #[arg(long, value_name = "INVARIANT", requires = "mutant")]
    expect: Option<String>,
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
        return arguments.expect.is_none();
    };
    print!("{}", describe(failed, arguments.mutant.as_deref()));
    print!("\n{}", report.figures());
    match &arguments.expect {
        Some(invariant) => failed
            .violation
            .as_ref()
            .is_some_and(|violation| violation.what.starts_with(invariant.as_str())),
        None => false,
    }
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
    use tidelog_sim::report::run_seeds;
    use tidelog_sim::{Options, run};
    use tidelog_types::mutant::{Mutant, switch_here};

    use super::Arguments;

    /// Within so many seeds each must be noticed.
    const SEEDS: std::ops::Range<u64> = 0..500;
    /// A seed that notices each, as `--all-mutants` finds them.
    const KNOWN: [(Mutant, u64); 20] = [
        (Mutant::AcknowledgeBeforeSync, 0),
        (Mutant::CountUnsyncedLeader, 0),
        (Mutant::ResumeOldEpoch, 0),
        (Mutant::ForgetLeaderEpochStart, 2),
        (Mutant::JoinFromOlderEpoch, 94),
        (Mutant::CountCommittedIsr, 0),
        (Mutant::IgnoreBrokerEpoch, 7),
        (Mutant::TruncateToHighWatermark, 6),
        (Mutant::StaleEpochCache, 4),
        (Mutant::AnswerDuplicateEarly, 0),
        (Mutant::SkipProducerRebuild, 1),
        (Mutant::AdvanceUnderMinIsr, 0),
        (Mutant::ServeLatestEarly, 6),
        (Mutant::ReadAboveHighWatermark, 0),
        (Mutant::StaleMinInsyncReplicas, 0),
        (Mutant::AcceptOldMemberEpoch, 0),
        (Mutant::AssignBeforeRevoked, 0),
        (Mutant::ServeBeforeReplayed, 0),
        (Mutant::DropEligibleLeader, 0),
        (Mutant::ElectOutsideIsr, 0),
    ];
    /// About the storage of the real Raft, which is not simulated: the tests of the metadata crate must notice them.
    const ELSEWHERE: [Mutant; 2] = [Mutant::AnswerVoteBeforeSync, Mutant::PurgeBeforeSnapshotSync];

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

    /// Runs the seed that is known to notice each mutant.
    pub(crate) fn run_known() -> Result<bool, String> {
        let mut all_noticed = true;
        for (mutant, seed) in KNOWN {
            switch_here(Some(mutant));
            let violation = run(seed, Options::default()).violation;
            switch_here(None);
            let name = mutant.name();
            match violation {
                Some(violation) => println!("{name:<40} seed {seed:<6} {}", invariant(&violation.what)),
                None => {
                    all_noticed = false;
                    println!(
                        "{name:<40} seed {seed:<6} NOT NOTICED: look for another seed with --all-mutants"
                    );
                }
            }
        }
        if KNOWN.len() + ELSEWHERE.len() == Mutant::ALL.len() {
            Ok(all_noticed)
        } else {
            Err("a mutant has no known seed: find one with --all-mutants and add it".to_owned())
        }
    }

    /// The invariant that a violation names first.
    fn invariant(what: &str) -> &str {
        what.split([' ', ':']).next().unwrap_or_default()
    }

    /// Looks for a seed that notices each mutant.
    pub(crate) fn hunt_all(arguments: &Arguments) -> Result<bool, String> {
        if arguments.jobs == 0 {
            return Err("--jobs 0 runs nothing".to_owned());
        }
        let mut all_noticed = true;
        for mutant in Mutant::ALL
            .into_iter()
            .filter(|mutant| !ELSEWHERE.contains(mutant))
        {
            let seeds = arguments.seeds.clone().unwrap_or(SEEDS);
            let report = run_seeds(seeds, arguments.jobs, || switch_here(Some(mutant)), |_| ());
            let name = mutant.name();
            match report
                .failed
                .as_ref()
                .and_then(|failed| Some((failed.seed, failed.violation.as_ref()?)))
            {
                Some((seed, violation)) => {
                    let invariant = violation.what.split([' ', ':']).next().unwrap_or_default();
                    println!(
                        "{name:<40} seed {seed:<6} {invariant:<4} after {} runs",
                        report.runs
                    );
                }
                None => {
                    all_noticed = false;
                    println!("{name:<40} NOT NOTICED in {} runs", report.runs);
                }
            }
        }
        Ok(all_noticed)
    }
}
