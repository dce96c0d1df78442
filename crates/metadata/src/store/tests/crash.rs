//! A node that dies between any two writes, with and without what was not synced.
//!
//! A child process is a follower that lives through a script of votes, appends, a conflict,
//! snapshots built and installed, and purges; the test is its leader. It is killed at the n-th
//! passing of each crash point, for every n (`types/src/crash.rs` says how). What is left is then
//! taken as it is, with everything unsynced lost, and with the unsynced torn; opened; held against
//! what the child was answered; and the script goes on to its end:
//!
//! 1. A vote that was answered is there (M30), and so is every entry that was acknowledged, unless
//!    its leader's successor replaced it (M27).
//! 2. The snapshot is whole, and the log is not purged ahead of it.
//! 3. The state is that of one log index, and that index was committed.
//! 4. The node goes on from there and ends where one ends that was never killed.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use self::child::{CASE, Case, live, run_child, runtime};
use self::left::{Loss, check, copy_folder, lose};
use super::*;

type Checked<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err(format!($($why)+));
        }
    };
}

// They stand behind the macro that they use.
mod child;
mod left;
mod node;
mod script;

/// Every point that the script must pass; a new one belongs here.
const POINTS: [&str; 18] = [
    "crash:metadata/committed/saved",
    "crash:metadata/log/appended",
    "crash:metadata/log/purged",
    "crash:metadata/log/truncated",
    "crash:metadata/mark/recorded",
    "crash:metadata/snapshot/begun",
    "crash:metadata/snapshot/folder-synced",
    "crash:metadata/snapshot/renamed",
    "crash:metadata/snapshot/synced",
    "crash:metadata/snapshot/written",
    "crash:metadata/state/applied",
    "crash:metadata/state/replaced",
    "crash:metadata/vote/saved",
    "crash:metadata/write/begun",
    "crash:metadata/write/synced",
    "crash:metadata/write/written",
    "crash:storage/mark/synced",
    "crash:storage/mark/written",
];

/// More passings of one point than the script has.
const MAX_PASSINGS: u64 = 1000;
/// Cases that run side by side.
const WORKERS: usize = 3;

/// Kills a child at one passing and checks every way in which it may have ended. Whether there was
/// that passing.
fn run_case(root: &Path, kill_at: &(String, u64), mutant: Option<&str>) -> Checked<bool> {
    let died = Case {
        root: root.join(format!("{}-{}", kill_at.0.replace(['/', ':'], "-"), kill_at.1)),
    };
    let notes = run_child(&died, Some(kill_at), mutant);
    if notes.completed {
        return Ok(false);
    }
    for loss in [Loss::Nothing, Loss::Everything, Loss::Half] {
        let case = Case {
            root: died.root.with_extension(format!("{loss:?}")),
        };
        copy_folder(&died.root, &case.root);
        let lost = lose(&case, &notes, loss);
        if loss == Loss::Nothing || lost {
            runtime()
                .block_on(check(&case.metadata(), notes.answered))
                .map_err(|why| {
                    format!(
                        "killed at passing {} of {}, {} steps answered, {loss:?} lost: {why}",
                        kill_at.1, kill_at.0, notes.answered
                    )
                })?;
        }
        std::fs::remove_dir_all(&case.root).unwrap();
        if !lost {
            break;
        }
    }
    std::fs::remove_dir_all(&died.root).unwrap();
    Ok(true)
}

/// Runs every case; gives how many there were, and the first violations.
fn run_all(mutant: Option<&str>) -> (usize, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let whole = Case {
        root: folder.path().join("whole"),
    };
    let points: Vec<String> = run_child(&whole, None, mutant).passed.into_iter().collect();
    if mutant.is_none() {
        assert_eq!(points, POINTS, "the script passes every point");
    }
    let (next, cases, violations) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for nth in 1..=MAX_PASSINGS {
                        if !violations.lock().is_empty() {
                            return;
                        }
                        match run_case(folder.path(), &(point.clone(), nth), mutant) {
                            Ok(true) => cases.fetch_add(1, Ordering::Relaxed),
                            Ok(false) => break,
                            Err(why) => return violations.lock().push(why),
                        };
                        assert!(nth < MAX_PASSINGS, "{point} is passed for ever");
                    }
                }
            });
        }
    });
    (cases.into_inner(), violations.into_inner())
}

#[test]
fn nothing_answered_is_lost_at_any_crash_point() {
    if let Some(root) = std::env::var_os(CASE) {
        live(root.into());
        return;
    }
    let (cases, violations) = run_all(None);
    let mut all = String::new();
    for violation in &violations {
        writeln!(all, "{violation}").unwrap();
    }
    assert!(violations.is_empty(), "of {cases} cases:\n{all}");
    assert!(cases > 100, "{cases} are not every passing");
}

#[cfg(feature = "mutants")]
fn caught(mutant: tidelog_types::Mutant) -> String {
    let (_, violations) = run_all(Some(mutant.name()));
    violations
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{mutant:?} is not caught"))
}

#[cfg(feature = "mutants")]
#[test]
fn m30_a_vote_that_is_answered_before_it_is_synced_is_caught() {
    let violation = caught(tidelog_types::Mutant::AnswerVoteBeforeSync);
    assert!(violation.contains("M30"), "{violation}");
}

#[cfg(feature = "mutants")]
#[test]
fn m27_a_log_that_is_purged_before_its_snapshot_is_synced_is_caught() {
    let violation = caught(tidelog_types::Mutant::PurgeBeforeSnapshotSync);
    let damaged = violation.contains("metadata snapshot is damaged");
    assert!(damaged || violation.contains("M27"), "{violation}");
}
