//! The suite: random histories of calls and restarts, a store against the [`Reference`].

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tidelog_types::{BrokerId, DirectoryId, LocalPartition, Offset};
use uuid::Uuid;

use super::recorder::Recorder;
use super::reference::{Draw, RefLog, Reference, Step, draws};
use crate::rocks::MIN_MEMORY_BUDGET_BYTES;
use crate::{LogStore, MemoryStore, RocksOptions, RocksStore, StoreError, StoreListener, StoredPartition};

/// Something to store on that can be started again.
pub(crate) trait Subject: Sized {
    fn fresh(listener: Arc<dyn StoreListener>) -> Self;
    fn store(&self) -> &dyn LogStore;
    /// Stops, in order or not, after everything was made durable, and starts on what is there.
    fn restart(self, orderly: bool, listener: Arc<dyn StoreListener>) -> Self;
}

struct OnRocks {
    store: Arc<RocksStore>,
    dir: tempfile::TempDir,
}

impl OnRocks {
    fn open(dir: tempfile::TempDir, listener: Arc<dyn StoreListener>) -> Self {
        let broker = BrokerId::new(1).unwrap();
        let options = RocksOptions {
            memory_budget: MIN_MEMORY_BUDGET_BYTES,
            ..RocksOptions::new(broker, None, DirectoryId(Uuid::nil()))
        };
        Self {
            store: RocksStore::open(dir.path(), options, listener).unwrap(),
            dir,
        }
    }
}

impl Subject for OnRocks {
    fn fresh(listener: Arc<dyn StoreListener>) -> Self {
        Self::open(tempfile::tempdir().unwrap(), listener)
    }

    fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    fn restart(self, orderly: bool, listener: Arc<dyn StoreListener>) -> Self {
        if orderly {
            self.store.close().unwrap();
        } else {
            self.store.reclaim().unwrap();
        }
        drop(self.store);
        let restarted = Self::open(self.dir, listener);
        assert_eq!(restarted.store.directory().was_clean, orderly);
        restarted
    }
}

struct InMemory {
    store: Arc<MemoryStore>,
}

impl Subject for InMemory {
    fn fresh(listener: Arc<dyn StoreListener>) -> Self {
        Self {
            store: MemoryStore::auto(listener),
        }
    }

    fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    fn restart(self, _orderly: bool, _listener: Arc<dyn StoreListener>) -> Self {
        // Checkpoints, and trims that leave the log end where it is, cannot be waited for.
        self.store.step_sync();
        self.store.crash(0);
        self
    }
}

/// The machine that draws histories.
struct Histories;

impl ReferenceStateMachine for Histories {
    type State = Reference;
    type Transition = Draw;

    fn init_state() -> BoxedStrategy<Self::State> {
        Just(Reference::default()).boxed()
    }

    fn transitions(_state: &Self::State) -> BoxedStrategy<Self::Transition> {
        draws().boxed()
    }

    fn apply(mut state: Self::State, draw: &Self::Transition) -> Self::State {
        state.draw(draw);
        state
    }
}

/// The store under test, and what it reported.
struct Running<S> {
    subject: S,
    recorder: Arc<Recorder>,
}

struct Conformance<S>(PhantomData<S>);

impl<S: Subject> StateMachineTest for Conformance<S> {
    type SystemUnderTest = Running<S>;
    type Reference = Histories;

    fn init_test(_state: &Reference) -> Self::SystemUnderTest {
        let recorder = Arc::new(Recorder::default());
        Running {
            subject: S::fresh(Arc::clone(&recorder) as Arc<dyn StoreListener>),
            recorder,
        }
    }

    fn apply(running: Self::SystemUnderTest, state: &Reference, _draw: Draw) -> Self::SystemUnderTest {
        match &state.last {
            Some(Step::Restart { orderly }) => {
                for (&local, log) in &state.logs {
                    running.settle(local, log);
                }
                running.recorder.forget();
                let listener = Arc::clone(&running.recorder) as Arc<dyn StoreListener>;
                let subject = running.subject.restart(*orderly, listener);
                let running = Running { subject, ..running };
                running.compare(state);
                running
            }
            Some(step) => {
                running.perform(step, state);
                running
            }
            None => running,
        }
    }

    fn teardown(running: Self::SystemUnderTest, state: Reference) {
        running.compare(&state);
        assert_eq!(running.recorder.heard().failures, []);
    }
}

impl<S: Subject> Running<S> {
    fn perform(&self, step: &Step, state: &Reference) {
        let store = self.subject.store();
        match step {
            Step::Create(partition, local) => {
                assert_eq!(store.create(*partition), Ok(*local));
                let again = StoreError::AlreadyExists {
                    partition: *partition,
                    local: *local,
                };
                assert_eq!(store.create(*partition), Err(again));
            }
            Step::Delete(local) => {
                store.delete(*local).unwrap();
                let unknown = StoreError::UnknownPartition(*local);
                assert_eq!(store.load(*local), Err(unknown.clone()));
                assert_eq!(store.size_bytes(*local), Err(unknown));
            }
            Step::Append(append) => store.append(append.clone()),
            Step::Truncate(truncate) => {
                store.truncate(truncate.clone());
                let local = truncate.partition;
                let log = &state.logs[&local];
                assert_eq!(store.load(local), Ok(log.load()), "after {step:?}");
                log.check_size(store.size_bytes(local).unwrap());
            }
            Step::Trim(local, start) => {
                store.trim(*local, *start);
                let read = store.read(*local, Offset::ZERO, Offset::MAX, 1).unwrap();
                assert!(
                    read.next >= *start,
                    "what lies below the log start is unreadable at once"
                );
            }
            Step::Checkpoint(local, offset) => store.checkpoint(*local, *offset),
            Step::Read {
                local,
                from,
                until,
                max_bytes,
            } => {
                store.load(*local).unwrap();
                state.logs[local].check_size(store.size_bytes(*local).unwrap());
                self.check_read(*local, &state.logs[local], (*from, *until), *max_bytes);
            }
            Step::Find(local, timestamp_ms) => {
                store.load(*local).unwrap();
                let expected = state.logs[local].find(*timestamp_ms);
                assert_eq!(store.offset_for_timestamp(*local, *timestamp_ms), Ok(expected));
            }
            Step::Restart { .. } => unreachable!("a restart needs the subject itself"),
        }
    }

    /// Everything there is, read back every way there is.
    fn compare(&self, state: &Reference) {
        let store = self.subject.store();
        let stored = |(&local, log): (_, &RefLog)| StoredPartition {
            local,
            partition: log.partition,
        };
        assert_eq!(
            store.partitions().unwrap(),
            state.logs.iter().map(stored).collect::<Vec<_>>()
        );
        for (&local, log) in &state.logs {
            assert_eq!(store.load(local), Ok(log.load()), "{local}");
            log.check_size(store.size_bytes(local).unwrap());
            self.check_read(local, log, (Offset::ZERO, Offset::MAX), usize::MAX);
            for timestamp_ms in [i64::MIN, 0, 50, 150, i64::MAX] {
                assert_eq!(
                    store.offset_for_timestamp(local, timestamp_ms),
                    Ok(log.find(timestamp_ms))
                );
            }
        }
    }

    fn check_read(&self, local: LocalPartition, log: &RefLog, range: (Offset, Offset), max_bytes: usize) {
        let store = self.subject.store();
        let (expected, next) = log.read(range.0, range.1, max_bytes);
        let expected: Vec<Bytes> = expected.into_iter().map(|batch| batch.bytes).collect();
        let read = store.read(local, range.0, range.1, max_bytes).unwrap();
        assert_eq!((&read.batches, read.next), (&expected, next));
        if let Some(cached) = store.read_cached(local, range.0, range.1, max_bytes) {
            assert_eq!((cached.batches, cached.next), (expected, next));
        }
    }

    /// Waits until a partition is durable as it should be, if anything of it was reported at all.
    fn settle(&self, local: LocalPartition, log: &RefLog) {
        self.subject.store().load(local).unwrap();
        let reported = self.recorder.heard().written_ends().get(&local).copied();
        if let Some(end) = reported {
            assert_eq!(end, log.end, "{local}");
            self.recorder.wait_durable(local, end);
        }
    }
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config(256))]

    #[test]
    fn the_model_conforms(sequential 1..60 => Conformance<InMemory>);
}

prop_state_machine! {
    #![proptest_config(config(48))]

    #[test]
    fn rocksdb_conforms(sequential 1..60 => Conformance<OnRocks>);
}
