//! Opening, closing, failing: what the store does as a whole.

use super::*;

#[test]
fn a_local_number_is_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let first = store.create(partition(0)).unwrap();
    let again = StoreError::AlreadyExists {
        partition: partition(0),
        local: first,
    };
    assert_eq!(store.create(partition(0)), Err(again));
    store.delete(first).unwrap();
    assert_eq!(store.delete(first), Err(StoreError::UnknownPartition(first)));
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.partitions().unwrap(), []);
    assert!(store.create(partition(0)).unwrap() > first);
}

#[test]
fn a_failed_write_poisons_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 1, KIB);
    store.shared.engine.faults.fail_writes(true);
    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    recorder.wait_until("failure", |heard| !heard.failures.is_empty());
    store.shared.engine.faults.fail_writes(false);

    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    assert!(matches!(store.create(partition(1)), Err(StoreError::Failed(_))));
    assert!(matches!(store.load(local), Err(StoreError::Failed(_))));
    assert!(store.read_cached(local, Offset(0), Offset::MAX, 1).is_none());
    assert!(store.close().is_err());
    let heard = recorder.heard();
    assert_eq!(heard.failures.len(), 1);
    assert_eq!(heard.written_ends()[&local], Offset(10));
    drop(store);
    let (store, _) = open(dir.path());
    assert!(!store.directory().was_clean);
    assert_eq!(store.load(local).unwrap().log_end, Offset(10));
}

#[test]
fn nothing_is_durable_after_a_failed_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 1, KIB);
    store.shared.engine.faults.fail_syncs(true);
    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    recorder.wait_until("failure", |heard| !heard.failures.is_empty());
    // Healed, so that only the poison can keep it from reporting.
    store.shared.engine.faults.fail_syncs(false);
    store.append(append(local, vec![BatchSpec::at(Offset(11)).build()]));
    assert!(store.close().is_err());
    let heard = recorder.heard();
    assert_eq!(heard.durable_ends()[&local], Offset(10));
    assert_eq!(heard.failures.len(), 1);
}

#[test]
fn an_append_that_leaves_a_hole_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    store.append(append(local, vec![BatchSpec::at(Offset(1)).build()]));
    recorder.wait_until("failure", |heard| !heard.failures.is_empty());
    let StoreError::Failed(why) = &recorder.heard().failures[0] else {
        panic!("wrong failure")
    };
    assert!(why.contains("begins at 1"), "{why}");
}

#[test]
fn rocksdb_checksums_run_on_hardware() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.close().unwrap();
    let log = std::fs::read_to_string(dir.path().join("db/LOG")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("Fast CRC32 supported"))
        .unwrap();
    assert!(
        line.contains("Supported on"),
        "built without hardware CRC-32C, see .cargo/config.toml: {line}"
    );
}

#[test]
fn the_mark_is_kept_and_the_store_closes_while_a_compaction_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let (gone, local) = (
        store.create(partition(0)).unwrap(),
        store.create(partition(1)).unwrap(),
    );
    fill(&store, &recorder, gone, 0, 20, 32 * KIB);
    store.shared.engine.faults.hold_compactions();
    store.delete(gone).unwrap();
    let reclaiming = store.shared.to_reclaim.reclaim_now();
    fill(&store, &recorder, local, 0, 5, KIB);

    let synced = store.shared.tickets.synced_sequence();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Another handle reads what the thread writes.
    while SyncMark::open(&dir.path().join("mark")).unwrap().sequence() < synced {
        assert!(std::time::Instant::now() < deadline, "the mark stands still");
        std::thread::yield_now();
    }
    assert_eq!(
        reclaiming.try_recv(),
        Err(mpsc::TryRecvError::Empty),
        "it is compacting all the while"
    );
    store.close().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert!(store.directory().was_clean);
    assert_eq!(read_bases(&store, local, 0), [0, 10, 20, 30, 40]);
}

/// Panics once it is told of what it is to break at.
struct Breaking {
    recorder: Recorder,
    at_written: bool,
}

impl StoreListener for Breaking {
    fn written(&self, progress: &[Progress]) {
        assert!(!self.at_written, "broken on purpose");
        self.recorder.written(progress);
    }

    fn durable(&self, _: &[Progress]) {
        panic!("broken on purpose");
    }

    fn failed(&self, error: &StoreError) {
        self.recorder.failed(error);
    }
}

#[test]
fn a_thread_that_panics_poisons_the_store() {
    for at_written in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let listener = Arc::new(Breaking {
            recorder: Recorder::default(),
            at_written,
        });
        let store = RocksStore::open(
            dir.path(),
            options(),
            Arc::clone(&listener) as Arc<dyn StoreListener>,
        )
        .unwrap();
        let local = store.create(partition(0)).unwrap();
        store.append(append(local, vec![BatchSpec::at(Offset(0)).build()]));
        listener
            .recorder
            .wait_until("failure", |heard| !heard.failures.is_empty());
        let failures = listener.recorder.heard().failures;
        assert_eq!(failures, [panicked()], "told once");
        assert_eq!(store.create(partition(1)), Err(panicked()));
        assert_eq!(store.close(), Err(panicked()));
    }
}

#[test]
fn free_and_used_space_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let space = store.space().unwrap();
    assert!(
        space.free_bytes > 0 && space.free_bytes <= space.total_bytes,
        "{space:?}"
    );
    assert!(store.used_bytes().unwrap() > 0);
}
