//! Random histories whose writes, syncs and crashes are drawn one by one, compared after each with
//! the reference as it was after every write.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::conformance::{Draw, Reference, Step, compare, draws};

/// What happens next.
#[derive(Debug, Clone)]
enum Happening {
    Call(Draw),
    /// At most so many writes.
    Write(usize),
    BeginSync,
    EndSync,
    /// Loads a log, and so writes everything that was enqueued.
    Load(u8),
    /// Keeps so many of the unsynced writes.
    Crash(usize),
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        12 => draws().prop_map(Happening::Call),
        6 => (1usize..6).prop_map(Happening::Write),
        3 => Just(Happening::BeginSync),
        3 => Just(Happening::EndSync),
        1 => any::<u8>().prop_map(Happening::Load),
        2 => (0usize..8).prop_map(Happening::Crash),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(one, 1..80)
}

/// What the disk should hold: everything before the first of the writes is durable.
struct Timeline {
    /// What is on the disk after none of the writes, after the first, and so on.
    states: Vec<Reference>,
    writes: Vec<Step>,
    /// How many of the writes are written, durable, and covered by the sync that is under way.
    written: usize,
    durable: usize,
    syncing: Option<usize>,
    /// What was reported since the last crash.
    told_written: Vec<Progress>,
    told_durable: HashMap<LocalPartition, Offset>,
}

impl Timeline {
    fn beginning_with(state: Reference) -> Self {
        Self {
            states: vec![state],
            writes: Vec::new(),
            written: 0,
            durable: 0,
            syncing: None,
            told_written: Vec::new(),
            told_durable: HashMap::new(),
        }
    }

    fn latest(&self) -> &Reference {
        self.states.last().expect("there is a first one")
    }

    fn push(&mut self, write: Step, state: Reference) {
        self.writes.push(write);
        self.states.push(state);
    }

    /// Whether a truncation waits to be synced.
    fn is_blocked(&self) -> bool {
        let unsynced = &self.writes[self.durable..self.written];
        unsynced.iter().any(|write| matches!(write, Step::Truncate(_)))
    }

    /// What a write brings, if it is reported.
    fn progress(&self, write: usize) -> Option<Progress> {
        let partition = match &self.writes[write] {
            Step::Append(append) => append.partition,
            Step::Truncate(truncate) => truncate.partition,
            Step::Trim(local, start) if *start > self.states[write].logs[local].end => *local,
            _ => return None,
        };
        let end = self.states[write + 1].logs[&partition].end;
        Some(Progress { partition, end })
    }

    /// Whether there was something to write.
    fn write(&mut self) -> bool {
        if self.written == self.writes.len() || self.is_blocked() {
            return false;
        }
        let is_told_later = matches!(self.writes[self.written], Step::Truncate(_));
        if !is_told_later {
            self.told_written.extend(self.progress(self.written));
        }
        self.written += 1;
        true
    }

    /// Whether there was something to sync.
    fn begin_sync(&mut self) -> bool {
        let may = self.syncing.is_none() && self.durable < self.written;
        if may {
            self.syncing = Some(self.written);
        }
        may
    }

    /// Whether a sync was under way.
    fn end_sync(&mut self) -> bool {
        let Some(end) = self.syncing.take() else {
            return false;
        };
        for write in self.durable..end {
            let progress = self.progress(write);
            if matches!(self.writes[write], Step::Truncate(_)) {
                self.told_written.extend(progress);
            }
            self.told_durable
                .extend(progress.map(|progress| (progress.partition, progress.end)));
        }
        self.durable = end;
        true
    }

    fn sync(&mut self) {
        self.end_sync();
        self.begin_sync();
        self.end_sync();
    }

    fn drain(&mut self) {
        while self.written < self.writes.len() {
            if !self.write() {
                self.sync();
            }
        }
    }
}

/// A store, and what is expected of it.
struct Driven {
    store: Arc<MemoryStore>,
    recorder: Arc<Recorder>,
    expected: Timeline,
}

impl Driven {
    fn new() -> Self {
        let recorder = Arc::new(Recorder::default());
        let mut driven = Self {
            store: MemoryStore::new(Arc::clone(&recorder) as Arc<dyn StoreListener>),
            recorder,
            expected: Timeline::beginning_with(Reference::default()),
        };
        for _ in 0..2 {
            driven.call(&Draw::Create);
        }
        driven
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Call(draw) => self.call(draw),
            Happening::Write(most) => {
                for _ in 0..*most {
                    assert_eq!(self.store.step_write(), self.expected.write());
                }
            }
            Happening::BeginSync => assert_eq!(self.store.begin_sync(), self.expected.begin_sync()),
            Happening::EndSync => assert_eq!(self.store.end_sync(), self.expected.end_sync()),
            Happening::Load(pick) => {
                let logs = &self.expected.latest().logs;
                if let Some(at) = usize::from(*pick).checked_rem(logs.len()) {
                    let (&local, log) = logs.iter().nth(at).unwrap();
                    assert_eq!(self.store.load(local), Ok(log.load()));
                    self.expected.drain();
                }
            }
            Happening::Crash(kept) => {
                let unsynced = self.expected.written - self.expected.durable;
                assert_eq!(self.store.unsynced_writes(), unsynced);
                self.store.crash(*kept);
                let left = self.expected.durable + unsynced.min(*kept);
                self.begin_again(self.expected.states[left].clone());
            }
            Happening::Restart => {
                self.store.restart().unwrap();
                self.begin_again(self.expected.latest().clone());
            }
        }
        self.compare_as_it_is();
    }

    fn call(&mut self, draw: &Draw) {
        let mut state = self.expected.latest().clone();
        state.draw(draw);
        let Some(step) = state.last.clone() else {
            return;
        };
        match &step {
            Step::Create(partition, local) => {
                assert_eq!(self.store.create(*partition), Ok(*local));
                self.expected.drain();
                self.expected.sync();
                self.settle(state);
                return;
            }
            Step::Delete(local) => {
                assert_eq!(self.store.delete(*local), Ok(()));
                self.expected.drain();
                self.expected.sync();
                self.settle(state);
                return;
            }
            Step::Append(append) => self.store.append(append.clone()),
            Step::Truncate(truncate) => self.store.truncate(truncate.clone()),
            Step::Trim(local, start) => self.store.trim(*local, *start),
            Step::Checkpoint(local, offset) => self.store.checkpoint(*local, *offset),
            // Everything is read after every step.
            Step::Read { .. } | Step::Find(..) | Step::Restart { .. } => return,
        }
        self.expected.push(step, state);
    }

    /// Everything is durable, and nothing is under way.
    fn settle(&mut self, state: Reference) {
        let Timeline {
            told_written,
            told_durable,
            ..
        } = std::mem::replace(&mut self.expected, Timeline::beginning_with(state));
        self.expected.told_written = told_written;
        self.expected.told_durable = told_durable;
    }

    fn begin_again(&mut self, state: Reference) {
        self.recorder.forget();
        compare(&*self.store, &state);
        self.expected = Timeline::beginning_with(state);
    }

    /// Compares what is readable and what was reported, without a call that writes anything.
    fn compare_as_it_is(&self) {
        let (written, latest) = (
            &self.expected.states[self.expected.written],
            self.expected.latest(),
        );
        for (&local, log) in &written.logs {
            // What was trimmed is unreadable before that is written.
            let start = latest.logs[&local].start;
            let (expected, next) = log.read(start, Offset::MAX, usize::MAX);
            let expected: Vec<_> = expected.into_iter().map(|batch| batch.bytes).collect();
            let read = self
                .store
                .read(local, Offset::ZERO, Offset::MAX, usize::MAX)
                .unwrap();
            assert_eq!((read.batches, read.next), (expected, next), "{local}");
            log.check_size(self.store.size_bytes(local).unwrap());
        }
        let heard = self.recorder.heard();
        assert_eq!(heard.written, self.expected.told_written);
        assert_eq!(heard.durable_ends(), self.expected.told_durable);
        assert_eq!(heard.failures, []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_crash_keeps_a_prefix_of_whole_writes(happenings in happenings()) {
        let mut driven = Driven::new();
        for happening in &happenings {
            driven.happen(happening);
        }
    }
}
