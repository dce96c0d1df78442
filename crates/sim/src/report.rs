//! Many runs, and what is said of them.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::recorder::{Broken, Options, Seen};
use crate::run::{Verdict, run};

/// How many lines of a history are shown with a violation.
const SHOWN: usize = 60;

/// What many runs came to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many runs there were.
    pub runs: u64,
    /// What they got to, all together.
    pub seen: Seen,
    /// The first run that was wrong, by seed.
    pub failed: Option<Verdict>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Runs seeds on so many threads, each run on one of them, until all are run or one is wrong.
/// `prepare` is called on each thread before its first run; `progress` now and then with the report
/// so far.
pub fn run_seeds(
    seeds: Range<u64>,
    jobs: usize,
    prepare: impl Fn() + Sync,
    progress: impl Fn(&Report) + Sync,
) -> Report {
    let next = AtomicU64::new(seeds.start);
    let has_failed = AtomicBool::new(false);
    let started = Instant::now();
    let report = Mutex::new(Report::default());
    let work = || {
        prepare();
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let verdict = run(seed, Options::default());
            has_failed.fetch_or(verdict.violation.is_some(), Ordering::Relaxed);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.take(verdict);
            report.elapsed = started.elapsed();
            progress(&report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Report {
    /// Adds a run.
    pub fn take(&mut self, verdict: Verdict) {
        self.runs += 1;
        self.seen.add(&verdict.seen);
        let is_first = self
            .failed
            .as_ref()
            .is_none_or(|failed| verdict.seed < failed.seed);
        if verdict.violation.is_some() && is_first {
            self.failed = Some(verdict);
        }
    }

    /// The figures, as lines.
    pub fn figures(&self) -> String {
        let minutes = self.elapsed.as_secs_f64() / 60.0;
        let mut text = String::new();
        let mut line = |what: &str, figure: u64| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{what:<44}{figure:>12}");
        };
        line("runs", self.runs);
        if minutes > 0.0 {
            line("runs a minute", (self.runs as f64 / minutes) as u64);
        }
        for (what, figure) in self.seen.figures() {
            line(what, figure);
        }
        text
    }
}

/// A failed run in words: what is wrong, what happened before, and how to see it again.
pub fn describe(verdict: &Verdict, mutant: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(violation) = &verdict.violation {
        let first = violation.tail.len().saturating_sub(SHOWN);
        for line in &violation.tail[first..] {
            let _ = writeln!(text, "{line}");
        }
        let panic = match violation.broken {
            Broken::Invariant(_) => "",
            Broken::Panic => "panic: ",
        };
        let _ = writeln!(text, "\nseed {}: {panic}{}", verdict.seed, violation.what);
        let mutant = mutant
            .map(|mutant| format!(" --mutant {mutant}"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "run it again with: cargo xtask sim --seed {}{mutant} --trace",
            verdict.seed
        );
    }
    text
}
