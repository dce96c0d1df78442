//! The suite: random histories of calls and restarts, a store against the [`Reference`].

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use tidelog_types::{LocalPartition, Offset};

use super::recorder::Recorder;
use super::reference::{Draw, RefLog, Reference, Step, draws};
use crate::{LogStore, StoreError, StoreListener, StoredPartition};

/// The longest history, in draws.
const MAX_DRAWS: usize = 60;
/// How many simpler histories are tried once one fails.
const MAX_SHRINKS: u32 = 200;

/// A store under test, with what it needs to start again.
pub trait Subject: Sized {
    /// An empty store.
    fn fresh(listener: Arc<dyn StoreListener>) -> Self;
    /// The store.
    fn store(&self) -> &dyn LogStore;
    /// Waits until a written end is reported durable.
    fn wait_durable(&self, recorder: &Recorder, partition: LocalPartition, end: Offset) {
        recorder.wait_durable(partition, end);
    }
    /// Stops after everything was made durable, in order or not, and starts on what is there.
    #[must_use]
    fn restart(self, orderly: bool, listener: Arc<dyn StoreListener>) -> Self;
}

/// Runs the suite: so many random histories.
///
/// # Panics
/// With a short history that the store does not follow.
pub fn check<S: Subject>(histories: u32) {
    let config = Config {
        cases: histories,
        max_shrink_iters: MAX_SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    let drawn = Histories::sequential_strategy(1..MAX_DRAWS);
    let outcome = TestRunner::new(config.clone()).run(&drawn, |(state, draws, seen)| {
        Conformance::<S>::test_sequential(config.clone(), state, draws, seen);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
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
                compare(running.subject.store(), state);
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
        compare(running.subject.store(), &state);
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
                check_read(store, *local, &state.logs[local], (*from, *until), *max_bytes);
            }
            Step::Find(local, timestamp_ms) => {
                store.load(*local).unwrap();
                let expected = state.logs[local].find(*timestamp_ms);
                assert_eq!(store.offset_for_timestamp(*local, *timestamp_ms), Ok(expected));
            }
            Step::Restart { .. } => unreachable!("a restart needs the subject itself"),
        }
    }

    /// Waits until a partition is durable as it should be, if anything of it was reported at all.
    fn settle(&self, local: LocalPartition, log: &RefLog) {
        self.subject.store().load(local).unwrap();
        if self.recorder.heard().written_ends().contains_key(&local) {
            self.subject.wait_durable(&self.recorder, local, log.end);
            assert_eq!(self.recorder.heard().written_ends()[&local], log.end, "{local}");
        }
    }
}

/// Compares everything there is, read back every way there is.
pub(crate) fn compare(store: &dyn LogStore, state: &Reference) {
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
        check_read(store, local, log, (Offset::ZERO, Offset::MAX), usize::MAX);
        for timestamp_ms in [i64::MIN, 0, 50, 150, i64::MAX] {
            assert_eq!(
                store.offset_for_timestamp(local, timestamp_ms),
                Ok(log.find(timestamp_ms))
            );
        }
    }
}

fn check_read(
    store: &dyn LogStore,
    local: LocalPartition,
    log: &RefLog,
    (from, until): (Offset, Offset),
    max_bytes: usize,
) {
    let (expected, next) = log.read(from, until, max_bytes);
    let expected: Vec<Bytes> = expected.into_iter().map(|batch| batch.bytes).collect();
    let read = store.read(local, from, until, max_bytes).unwrap();
    assert_eq!((&read.batches, read.next), (&expected, next));
    if let Some(cached) = store.read_cached(local, from, until, max_bytes) {
        assert_eq!((cached.batches, cached.next), (expected, next));
    }
}
