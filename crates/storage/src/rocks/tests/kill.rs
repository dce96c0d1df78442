//! A process that appends is killed at any moment; what it had reported durable is there, and what is there is a prefix.
//!
//! SIGKILL takes the process and leaves the kernel's page cache: this proves order, atomicity and recovery, not that the
//! disk kept its word. Losing what was not synced is the in-memory model's part; pulling the plug is no unit test's.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command as Process, Stdio};

use tidelog_types::ProducerId;

use super::*;
use crate::conformance::reference::{RefLog, Reference, Step};

const TEST: &str = "rocks::tests::kill::what_was_reported_durable_survives_a_kill";
const DIR: &str = "TIDELOG_KILL_TEST_DIR";
const FIRST: &str = "TIDELOG_KILL_TEST_FIRST_STEP";
const PARTITIONS: u32 = 3;
/// What the child lets pile up in the queue, bytes.
const MAX_QUEUED_BYTES: usize = 512 * KIB;

/// The history that every child lives through a part of: the same for all.
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

/// Goes on with the history from a step on until it is killed.
fn live(dir: &Path, first: usize) -> ! {
    let store = RocksStore::open(dir, options(), Arc::new(Teller)).unwrap();
    let mut history = History::new();
    if first == 0 {
        for index in 0..PARTITIONS {
            store.create(partition(index)).unwrap();
        }
    }
    for _ in 0..first {
        history.advance();
    }
    loop {
        match history.advance() {
            Step::Append(append) => store.append(append),
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

/// Lets a child live until it has told so many lines, and kills it. Gives what it told last of each partition.
fn kill_after(dir: &Path, first: usize, lines: usize) -> BTreeMap<LocalPartition, Offset> {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BTreeMap::new();
    let mut note = |line: &str| {
        let Some(said) = line.strip_prefix("@durable ") else {
            return false;
        };
        let Some((local, end)) = said.split_once(' ') else {
            return false;
        };
        told.insert(
            LocalPartition(local.parse().unwrap()),
            Offset(end.parse().unwrap()),
        );
        true
    };
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = 0;
    while heard < lines {
        let line = output
            .next()
            .expect("the child lives until it is killed")
            .unwrap();
        heard += usize::from(note(&line));
    }
    child.kill().unwrap();
    // What it wrote before it died counts too; its last line may be cut short, and then says too little or nothing.
    let rest: Vec<_> = output.map_while(Result::ok).collect();
    for line in rest.iter().rev().skip(1).rev() {
        note(line);
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
        let (store, _) = open(dir.path());
        let (steps, history) = surviving_prefix(&store);
        for (local, end) in told {
            assert!(
                history.ends()[&local] >= end,
                "{local} was durable up to {end}: {:?}",
                history.ends()
            );
        }
        assert!(steps >= first, "what was recovered once stays");
        for (&local, log) in &history.state.logs {
            let expected: Vec<_> = log.batches.iter().map(|batch| batch.bytes.clone()).collect();
            let read = store.read(local, Offset::ZERO, Offset::MAX, usize::MAX).unwrap();
            assert_eq!(read.batches, expected, "{local}");
            assert!(log.load().producers.iter().all(|state| state.id < ProducerId(5)));
        }
        first = steps;
    }
    assert!(first > 300, "the children got somewhere: {first}");
}

/// How many steps of the history are in the store: all of some prefix and nothing else.
fn surviving_prefix(store: &RocksStore) -> (usize, History) {
    let loaded: BTreeMap<_, _> = store
        .partitions()
        .unwrap()
        .iter()
        .map(|stored| (stored.local, store.load(stored.local).unwrap()))
        .collect();
    let ends: BTreeMap<_, _> = loaded.iter().map(|(&local, log)| (local, log.log_end)).collect();
    let mut history = History::new();
    let mut steps = 0;
    loop {
        let same_ends = history.ends() == ends;
        if same_ends
            && history
                .state
                .logs
                .iter()
                .all(|(local, log)| log.load() == loaded[local])
        {
            return (steps, history);
        }
        let past = history.ends().iter().any(|(local, end)| *end > ends[local]);
        assert!(
            !past,
            "no prefix of the history is what the store holds: {loaded:?}"
        );
        history.advance();
        steps += 1;
    }
}
