//! The suite, and what it leaves out: steps, crashes, failure.

mod crashes;

use tidelog_types::{PartitionIndex, TopicId};
use uuid::Uuid;

use super::*;
use crate::Progress;
use crate::conformance::{BatchSpec, Recorder, Subject, check};

struct InMemory(Arc<MemoryStore>);

impl Subject for InMemory {
    fn fresh(listener: Arc<dyn StoreListener>) -> Self {
        Self(MemoryStore::new(listener))
    }

    fn store(&self) -> &dyn LogStore {
        &*self.0
    }

    fn wait_durable(&self, recorder: &Recorder, partition: LocalPartition, end: Offset) {
        self.0.step_sync();
        assert_eq!(recorder.heard().durable_ends().get(&partition), Some(&end));
    }

    fn restart(self, orderly: bool, _listener: Arc<dyn StoreListener>) -> Self {
        if orderly {
            self.0.restart().unwrap();
        } else {
            // Checkpoints, and trims that leave the log end where it is, cannot be waited for.
            self.0.step_sync();
            self.0.crash(0);
        }
        self
    }
}

#[test]
fn the_memory_store_conforms() {
    check::<InMemory>(256);
}

fn partition(index: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId(Uuid::from_u128(1)),
        partition: PartitionIndex(index),
    }
}

fn stepped() -> (Arc<MemoryStore>, Arc<Recorder>, LocalPartition) {
    let recorder = Arc::new(Recorder::default());
    let store = MemoryStore::new(Arc::clone(&recorder) as Arc<dyn StoreListener>);
    let local = store.create(partition(0)).unwrap();
    (store, recorder, local)
}

fn append(store: &MemoryStore, partition: LocalPartition, base: u64) {
    let batches = vec![BatchSpec::at(Offset(base)).build()];
    store.append(Append {
        partition,
        batches,
        epochs: Vec::new(),
        producers: Vec::new(),
    });
}

fn readable(store: &MemoryStore, local: LocalPartition) -> usize {
    store
        .read(local, Offset(0), Offset::MAX, usize::MAX)
        .unwrap()
        .batches
        .len()
}

#[test]
fn queued_is_not_readable_and_written_is_not_durable() {
    let (store, recorder, local) = stepped();
    append(&store, local, 0);
    assert!(store.queued_bytes() > 0);
    assert_eq!(readable(&store, local), 0);
    assert!(store.step_write());
    assert!(!store.step_write());
    assert_eq!((readable(&store, local), store.queued_bytes()), (1, 0));
    assert_eq!(recorder.heard().durable, []);
    assert!(store.step_sync());
    assert!(!store.step_sync());
    assert_eq!(
        recorder.heard().durable,
        [Progress {
            partition: local,
            end: Offset(1)
        }]
    );
}

#[test]
fn an_append_that_leaves_a_hole_fails_the_store_once_and_for_all() {
    let (store, recorder, local) = stepped();
    append(&store, local, 0);
    store.step_write();
    // Its second batch leaves a hole.
    store.append(Append {
        partition: local,
        batches: [1, 5].map(|base| BatchSpec::at(Offset(base)).build()).into(),
        epochs: Vec::new(),
        producers: Vec::new(),
    });
    store.step_write();
    let failures = recorder.heard().failures;
    assert!(
        matches!(&failures[..], [StoreError::Failed(why)] if why.contains("begins at 5")),
        "{failures:?}"
    );
    store.fail("again");
    assert_eq!(recorder.heard().failures, failures);
    assert!(!store.step_sync());
    assert!(store.read(local, Offset(0), Offset::MAX, 1).is_err());
    assert!(store.create(partition(1)).is_err());
    store.crash(usize::MAX);
    assert_eq!(
        readable(&store, local),
        1,
        "nothing of a refused append is written"
    );
}

#[test]
#[should_panic(expected = "ends at 1, and 2 was committed")]
fn a_log_that_ends_below_its_high_watermark_does_not_open() {
    let (store, _, local) = stepped();
    append(&store, local, 0);
    store.checkpoint(local, Offset(2));
    store.restart().unwrap();
}
