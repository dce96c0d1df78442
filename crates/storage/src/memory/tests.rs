//! The model's own manners: steps, crashes, failure.

use proptest::prelude::*;
use tidelog_types::{PartitionIndex, TopicId};
use uuid::Uuid;

use super::*;
use crate::conformance::{BatchSpec, Recorder};

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
fn failure_is_told_once_and_stops_everything() {
    let (store, recorder, local) = stepped();
    append(&store, local, 0);
    store.step_write();
    append(&store, local, 5);
    store.step_write();
    store.fail("again");
    assert_eq!(recorder.heard().failures.len(), 1, "{:?}", recorder.heard());
    assert!(!store.step_sync());
    assert!(store.read(local, Offset(0), Offset::MAX, 1).is_err());
    assert!(store.create(partition(1)).is_err());
    store.crash(1);
    assert_eq!(readable(&store, local), 1);
}

#[test]
fn by_itself_it_reports_on_a_thread_of_its_own() {
    let recorder = Arc::new(Recorder::default());
    let store = MemoryStore::auto(Arc::clone(&recorder) as Arc<dyn StoreListener>);
    let local = store.create(partition(0)).unwrap();
    append(&store, local, 0);
    recorder.wait_durable(local, Offset(1));
    assert_eq!(recorder.heard().written.len(), 1);
}

proptest! {
    /// A crash leaves a prefix of the writes over all partitions that holds at least what was synced.
    #[test]
    fn a_crash_leaves_a_prefix(steps in prop::collection::vec(0u8..4, 1..60), survivors in 0usize..20) {
        let (store, recorder, a) = stepped();
        let b = store.create(partition(1)).unwrap();
        let (mut ends, mut order, mut written, mut synced) = ([0u64; 2], Vec::new(), 0, 0);
        for step in steps {
            match step {
                0 | 1 => {
                    let at = usize::from(step);
                    append(&store, [a, b][at], ends[at]);
                    ends[at] += 1;
                    order.push(at);
                }
                2 => written += usize::from(store.step_write()),
                _ => if store.step_sync() { synced = written },
            }
        }
        prop_assert_eq!(store.unsynced_writes(), written - synced);
        store.crash(survivors);
        let left = synced + survivors.min(written - synced);
        for (at, local) in [a, b].into_iter().enumerate() {
            let expected = order[..left].iter().filter(|&&which| which == at).count();
            prop_assert_eq!(readable(&store, local), expected);
            prop_assert_eq!(store.load(local).unwrap().log_end, Offset(expected as u64));
            let durable = recorder.heard().durable_ends().get(&local).map_or(0, |end| end.0);
            prop_assert!(durable <= expected as u64);
        }
    }
}
