//! The process that is killed, and what it notes of its disk on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use tidelog_types::crash;

use super::node::play;
use super::*;
use crate::store::snapshot::{ASIDE, CURRENT};

const TEST: &str = "store::tests::crash::nothing_answered_is_lost_at_any_crash_point";

pub(super) const CASE: &str = "TIDELOG_CRASH_TEST_CASE";
const KILL_AT: &str = "TIDELOG_CRASH_TEST_KILL_AT";
#[cfg(feature = "mutants")]
const MUTANT: &str = "TIDELOG_CRASH_TEST_MUTANT";

/// A folder, and what its child noted beside it.
pub(super) struct Case {
    pub(super) root: PathBuf,
}

impl Case {
    pub(super) fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }

    pub(super) fn snapshot(&self, name: &str) -> PathBuf {
        self.metadata().join("snapshots").join(name)
    }

    /// Bytes that a child keeps of a snapshot whose place, or whose content, is durable.
    pub(super) fn kept(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn wals(&self) -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir(self.metadata().join("db")) else {
            return Vec::new();
        };
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect()
    }
}

pub(super) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// What a hook knows of the disk.
struct Witness {
    case: Case,
    notes: std::fs::File,
    passed: BTreeMap<&'static str, u64>,
    kill_at: Option<(String, u64)>,
}

impl Witness {
    fn passes(&mut self, point: &'static str) {
        let count = self.passed.entry(point).or_default();
        *count += 1;
        let count = *count;
        match point {
            "crash:metadata/write/synced" => {
                for wal in self.case.wals() {
                    let name = wal.file_name().unwrap().to_str().unwrap();
                    note(&mut self.notes, &format!("synced {name} {}", length(&wal)));
                }
            }
            "crash:metadata/snapshot/synced" => {
                std::fs::copy(self.case.snapshot(ASIDE), self.case.kept("content-synced")).unwrap();
            }
            "crash:metadata/snapshot/folder-synced" => {
                std::fs::copy(self.case.snapshot(CURRENT), self.case.kept("name-synced")).unwrap();
            }
            _ => {}
        }
        note(&mut self.notes, &format!("passed {point}"));
        if self
            .kill_at
            .as_ref()
            .is_some_and(|(name, nth)| name == point && *nth == count)
        {
            std::process::abort();
        }
    }
}

/// One write a line, so that threads do not mix them.
fn note(notes: &mut std::fs::File, line: &str) {
    notes.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The child: lives through the script until it is killed.
pub(super) fn live(root: PathBuf) {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(MUTANT) {
        tidelog_types::mutant::switch_everywhere(tidelog_types::Mutant::by_name(&name).unwrap());
    }
    let notes = |root: &Path| {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(root.join("notes"))
            .unwrap()
    };
    let mut witness = Witness {
        notes: notes(&root),
        passed: BTreeMap::new(),
        kill_at: std::env::var(KILL_AT).ok().map(|text| {
            let (name, nth) = text.split_once('#').unwrap();
            (name.to_owned(), nth.parse().unwrap())
        }),
        case: Case { root: root.clone() },
    };
    let mut notes = notes(&root);
    crash::arm(move |point| witness.passes(point));
    let folder = Case { root }.metadata();
    runtime().block_on(async {
        let played = play(&folder, 0, |answered| {
            note(&mut notes, &format!("answered {answered}"));
        });
        played.await.unwrap();
    });
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What a child noted before it died.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) passed: BTreeSet<String>,
    /// Whether it lived to the end.
    pub(super) completed: bool,
    pub(super) answered: usize,
    pub(super) synced: BTreeMap<String, u64>,
}

pub(super) fn run_child(case: &Case, kill_at: Option<&(String, u64)>, mutant: Option<&str>) -> Notes {
    std::fs::create_dir_all(&case.root).unwrap();
    let mut child = Process::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", TEST, "--nocapture"])
        .env(CASE, &case.root)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some((point, nth)) = kill_at {
        child.env(KILL_AT, format!("{point}#{nth}"));
    }
    #[cfg(feature = "mutants")]
    if let Some(mutant) = mutant {
        child.env(MUTANT, mutant);
    }
    let _ = mutant;
    let status = child.status().unwrap();
    let killed = status.signal().is_some();
    assert!(
        status.success() || (killed && kill_at.is_some()),
        "killed at {kill_at:?}: {status}"
    );
    let mut notes = Notes {
        completed: !killed,
        ..Notes::default()
    };
    for line in std::fs::read_to_string(case.root.join("notes")).unwrap().lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["answered", count] => notes.answered = count.parse().unwrap(),
            ["synced", wal, length] => {
                notes.synced.insert(wal.to_owned(), length.parse().unwrap());
            }
            ["passed", point] => {
                notes.passed.insert(point.to_owned());
            }
            _ => panic!("{line}"),
        }
    }
    notes
}
