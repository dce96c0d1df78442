//! A process that appends is killed at any moment; what it had reported durable is there, and what
//! is there is a prefix.
//!
//! SIGKILL takes the process and leaves the kernel's page cache: this proves order, atomicity and
//! recovery, not that the disk kept its word. Losing what was not synced is the in-memory model's
//! part; pulling the plug is no unit test's.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command as Process, Stdio};

use tidelog_log::conformance::{RefLog, Reference, Step};
use tidelog_types::ProducerId;

use super::*;

const TEST: &str = "rocks::tests::kill::what_was_reported_durable_survives_a_kill";
const DIR: &str = "TIDELOG_KILL_TEST_DIR";
const FIRST: &str = "TIDELOG_KILL_TEST_FIRST_STEP";
const PARTITIONS: u32 = 3;
/// What the child lets pile up in the queue, bytes.
const MAX_QUEUED_BYTES: usize = 512 * KIB;

/// How far apart two prefixes of the history lie that are the same, at the most: one truncation
/// undoes few appends.
const SAME_WITHIN: usize = 20;

/// The history that every child lives through a part of: the same for all.
#[derive(Clone)]
struct History {
    state: Reference,
    noise: u64,
}

impl History {
    fn new() -> Self {
        let mut state = Reference::default();
        for index in 0..PARTITIONS {
            state.apply(&Step::Create(partition(index), LocalPartition(index)));
        }
        Self { state, noise: 42 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.noise = self
            .noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.noise >> 33) % below
    }

    /// The next step, and what there should be after it.
    fn advance(&mut self) -> Step {
        let local = LocalPartition(self.random(PARTITIONS.into()) as u32);
        let log = &self.state.logs[&local];
        let (start, end) = (log.start, log.end);
        let step = match self.random(40) {
            0 => Step::Trim(local, (start + self.random(200)).min(end)),
            1 | 2 => Step::Checkpoint(local, end),
            3 => {
                let to = Offset(end.0.saturating_sub(self.random(60)));
                Step::Truncate(self.state.logs[&local].make_truncate(local, to))
            }
            _ => {
                let mut batch = || (1 + self.random(9) as u32, self.random(20_000) as usize, 0);
                let batches = [batch(), batch()];
                let producer = (self.random(2) == 0).then(|| self.random(5));
                let new_epoch = self.random(50) == 0;
                let log: &RefLog = &self.state.logs[&local];
                Step::Append(log.make_append(local, &batches, new_epoch, producer))
            }
        };
        self.state.apply(&step);
        step
    }

    fn ends(&self) -> BTreeMap<LocalPartition, Offset> {
        self.state
            .logs
            .iter()
            .map(|(&local, log)| (local, log.end))
            .collect()
    }
}

/// Tells the parent what is durable, one line a step.
struct Teller;

impl StoreListener for Teller {
    fn written(&self, _: &[Progress]) {}

    fn durable(&self, progress: &[Progress]) {
        let mut output = std::io::stdout().lock();
        for step in progress {
            writeln!(output, "@durable {} {}", step.partition.0, step.end).unwrap();
        }
    }

    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

/// Goes on with the history from a step on until it is killed, by others or at a point of its own.
fn live(dir: &Path, first: usize) -> ! {
    let store = RocksStore::open(dir, options(), Arc::new(Teller)).unwrap();
    let mut history = History::new();
    if store.partitions().unwrap().is_empty() {
        for index in 0..PARTITIONS {
            store.create(partition(index)).unwrap();
        }
    }
    for _ in 0..first {
        history.advance();
    }
    #[cfg(feature = "failpoints")]
    points::arm();
    loop {
        match history.advance() {
            Step::Append(append) => store.append(append),
            Step::Truncate(truncate) => store.truncate(truncate),
            Step::Trim(local, start) => store.trim(local, start),
            Step::Checkpoint(local, offset) => store.checkpoint(local, offset),
            other => unreachable!("{other:?} is not in this history"),
        }
        if store.queued_bytes() > MAX_QUEUED_BYTES {
            // Waits for the queue: a barrier.
            store.load(LocalPartition(0)).unwrap();
        }
    }
}

/// A child that goes on with the history.
fn child(dir: &Path, first: usize) -> Process {
    let mut child = Process::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", TEST, "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped());
    child
}

/// What a child told last of each partition.
type Told = BTreeMap<LocalPartition, Offset>;

/// Takes note of one line; whether it said anything.
fn note(told: &mut Told, line: &str) -> bool {
    let said = line
        .strip_prefix("@durable ")
        .and_then(|said| said.split_once(' '));
    let Some((local, end)) = said else {
        return false;
    };
    told.insert(
        LocalPartition(local.parse().unwrap()),
        Offset(end.parse().unwrap()),
    );
    true
}

/// Lets a child live until it has told so many lines, and kills it. Gives what it told last of each
/// partition.
fn kill_after(dir: &Path, first: usize, lines: usize) -> Told {
    let mut child = child(dir, first).spawn().unwrap();
    let mut told = Told::new();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = 0;
    while heard < lines {
        let line = output
            .next()
            .expect("the child lives until it is killed")
            .unwrap();
        heard += usize::from(note(&mut told, &line));
    }
    child.kill().unwrap();
    // What it wrote before it died counts too; its last line may be cut short, and then says too
    // little or nothing.
    let rest: Vec<_> = output.map_while(Result::ok).collect();
    for line in rest.iter().rev().skip(1).rev() {
        note(&mut told, line);
    }
    child.wait().unwrap();
    told
}

#[test]
fn what_was_reported_durable_survives_a_kill() {
    if let Some(dir) = std::env::var_os(DIR) {
        live(Path::new(&dir), std::env::var(FIRST).unwrap().parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut first = 0;
    for lines in [1, 40, 7, 300, 90, 150] {
        let told = kill_after(dir.path(), first, lines);
        first = recovered(dir.path(), first, &told);
    }
    assert!(first > 300, "the children got somewhere: {first}");
}

/// Opens what a child left that went on from `first`, and holds it against what it told. Says how
/// far the history is.
fn recovered(dir: &Path, first: usize, told: &Told) -> usize {
    let (store, _) = open(dir);
    let (steps, history) = surviving_prefix(&store);
    for (&local, &end) in told {
        let at = reached_at(first, local, end);
        assert!(
            steps >= at,
            "{local} was durable up to {end}, as it is after step {at} and not after {steps}"
        );
    }
    assert!(steps >= first, "what was recovered once stays");
    for (&local, log) in &history.state.logs {
        let expected: Vec<_> = log.batches.iter().map(|batch| batch.bytes.clone()).collect();
        let read = store.read(local, Offset::ZERO, Offset::MAX, usize::MAX).unwrap();
        assert_eq!(read.batches, expected, "{local}");
        log.check_size(store.size_bytes(local).unwrap());
        assert!(log.load().producers.iter().all(|state| state.id < ProducerId(5)));
    }
    steps
}

/// The first step, from `first` on, after which a partition ends there. Truncation moves ends back,
/// so an end alone says nothing.
fn reached_at(first: usize, local: LocalPartition, end: Offset) -> usize {
    let mut history = History::new();
    for step in 0..1_000_000 {
        if step >= first && history.ends()[&local] == end {
            return step;
        }
        history.advance();
    }
    panic!("{local} never ends at {end}");
}

/// How many steps of the history are in the store: all of some prefix and nothing else. Where a
/// truncation undid what came before it, several prefixes are the same, and the longest is meant.
fn surviving_prefix(store: &RocksStore) -> (usize, History) {
    let loaded: BTreeMap<_, _> = store
        .partitions()
        .unwrap()
        .iter()
        .map(|stored| (stored.local, store.load(stored.local).unwrap()))
        .collect();
    let ends: BTreeMap<_, _> = loaded.iter().map(|(&local, log)| (local, log.log_end)).collect();
    let mut history = History::new();
    let mut found = None;
    for steps in 0..1_000_000 {
        let is_same = |(local, log): (&LocalPartition, &RefLog)| log.load() == loaded[local];
        if history.ends() == ends && history.state.logs.iter().all(is_same) {
            found = Some((steps, history.clone()));
        }
        if found.as_ref().is_some_and(|(at, _)| steps > at + SAME_WITHIN) {
            break;
        }
        history.advance();
    }
    found.unwrap_or_else(|| panic!("no prefix of the history is what the store holds: {loaded:?}"))
}

/// Crash points of the write path (`tidelog_types::crash`).
#[cfg(feature = "failpoints")]
mod points {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    const POINT: &str = "TIDELOG_KILL_TEST_POINT";
    const PASSING: &str = "TIDELOG_KILL_TEST_PASSING";
    const SIGABRT: i32 = 6;

    /// Every point of the write path, and at which passings a process dies there. The mark is
    /// written once a second.
    const POINTS: [(&str, &[u64]); 8] = [
        ("crash:storage/write/begun", &[1, 2, 30, 200]),
        ("crash:storage/write/written", &[1, 2, 30, 200]),
        ("crash:storage/write/synced-alone", &[1, 2, 5]),
        ("crash:storage/ticket/published", &[1, 2, 30, 200]),
        ("crash:storage/sync/begun", &[1, 2, 30, 100]),
        ("crash:storage/sync/done", &[1, 2, 30, 100]),
        ("crash:storage/mark/written", &[1, 2]),
        ("crash:storage/mark/synced", &[1, 2]),
    ];

    /// Has this process die at the point, and the passing of it, that its environment names.
    pub(super) fn arm() {
        let (Ok(point), Ok(passing)) = (std::env::var(POINT), std::env::var(PASSING)) else {
            return;
        };
        let mut left: u64 = passing.parse().unwrap();
        tidelog_types::crash::arm(move |passed| {
            if passed == point {
                left -= 1;
                if left == 0 {
                    std::process::abort();
                }
            }
        });
    }

    #[test]
    fn what_was_reported_durable_survives_a_death_at_every_crash_point() {
        for (point, passings) in POINTS {
            let dir = tempfile::tempdir().unwrap();
            let mut first = 0;
            for passing in passings {
                let dying = child(dir.path(), first)
                    .env(POINT, point)
                    .env(PASSING, passing.to_string())
                    .output()
                    .unwrap();
                assert_eq!(
                    dying.status.signal(),
                    Some(SIGABRT),
                    "{point} was not passed {passing} times"
                );
                let mut told = Told::new();
                let said = String::from_utf8_lossy(&dying.stdout).into_owned();
                // The last line may be cut short.
                let whole = said.rfind('\n').map_or("", |end| &said[..end]);
                for line in whole.lines() {
                    note(&mut told, line);
                }
                first = recovered(dir.path(), first, &told);
            }
            assert!(first > 0, "{point}: the children got nowhere");
        }
    }
}
