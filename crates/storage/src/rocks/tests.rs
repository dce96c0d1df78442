//! The engine on a real disk: lifecycle, failures, refusals.

mod damage;
mod kill;
mod sizes;
mod trims;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_types::{
    BrokerId, ClusterId, DirectoryId, EpochEntry, LeaderEpoch, LocalPartition, Offset, PartitionIndex,
    TopicId, TopicIdPartition,
};
use uuid::Uuid;

use super::*;
use crate::conformance::{BatchSpec, Recorder};
use crate::{BatchToAppend, Progress};

const KIB: usize = 1024;

fn options() -> RocksOptions {
    RocksOptions {
        memory_budget: MIN_MEMORY_BUDGET_BYTES,
        ..RocksOptions::new(BrokerId::new(1).unwrap(), None, DirectoryId(Uuid::from_u128(7)))
    }
}

fn open(dir: &Path) -> (Arc<RocksStore>, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let store = RocksStore::open(dir, options(), Arc::clone(&recorder) as Arc<dyn StoreListener>).unwrap();
    (store, recorder)
}

fn refusal(dir: &Path, options: RocksOptions) -> OpenError {
    RocksStore::open(dir, options, Arc::new(Recorder::default()))
        .map(|_| ())
        .unwrap_err()
}

fn partition(index: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId(Uuid::from_u128(1)),
        partition: PartitionIndex(index),
    }
}

fn append(partition: LocalPartition, batches: Vec<BatchToAppend>) -> Append {
    Append {
        partition,
        batches,
        epochs: Vec::new(),
        producers: Vec::new(),
    }
}

/// Appends batches of ten records each, and waits until they are durable.
fn fill(
    store: &RocksStore,
    recorder: &Recorder,
    local: LocalPartition,
    from: u64,
    count: u64,
    payload_bytes: usize,
) {
    for base in (from..).step_by(10).take(count as usize) {
        let spec = BatchSpec {
            count: 10,
            payload_bytes,
            timestamp_ms: base as i64,
            ..BatchSpec::at(Offset(base))
        };
        store.append(append(local, vec![spec.build()]));
    }
    recorder.wait_durable(local, Offset(from + count * 10));
}

fn read_bases(store: &RocksStore, local: LocalPartition, from: u64) -> Vec<u64> {
    let read = store.read(local, Offset(from), Offset::MAX, usize::MAX).unwrap();
    read.batches
        .iter()
        .map(|batch| u64::from_be_bytes(batch[..8].try_into().unwrap()))
        .collect()
}

#[test]
fn what_is_appended_is_read_from_memory_and_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    let entry = EpochEntry {
        epoch: LeaderEpoch(0),
        start_offset: Offset(0),
    };
    let batches: Vec<_> = [100, 2 * KIB, 64 * KIB]
        .into_iter()
        .zip(0..)
        .map(|(payload_bytes, base)| {
            BatchSpec {
                payload_bytes,
                ..BatchSpec::at(Offset(base))
            }
            .build()
        })
        .collect();
    store.append(Append {
        epochs: vec![entry],
        ..append(local, batches.clone())
    });
    recorder.wait_durable(local, Offset(3));
    assert_eq!(
        recorder.heard().written,
        [Progress {
            partition: local,
            end: Offset(3)
        }]
    );
    assert_eq!(store.queued_bytes(), 0);

    let expected: Vec<_> = batches.iter().map(|batch| batch.bytes.clone()).collect();
    let cached = store
        .read_cached(local, Offset(0), Offset::MAX, usize::MAX)
        .unwrap();
    assert_eq!((cached.batches, cached.next), (expected.clone(), Offset(3)));
    store.close().unwrap();
    assert!(matches!(
        store.read(local, Offset(0), Offset::MAX, 1),
        Err(StoreError::Failed(_))
    ));
    drop(store);

    let (store, _recorder) = open(dir.path());
    assert!(store.directory().was_clean);
    assert!(
        store
            .read_cached(local, Offset(0), Offset::MAX, usize::MAX)
            .is_none()
    );
    assert_eq!(
        store
            .read(local, Offset(0), Offset::MAX, usize::MAX)
            .unwrap()
            .batches,
        expected
    );
    let log = store.load(local).unwrap();
    assert_eq!((log.log_end, log.epochs), (Offset(3), vec![entry]));
}

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
    store
        .shared
        .engine
        .faults
        .fail_writes
        .store(true, Ordering::SeqCst);
    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    recorder.wait_until("failure", |heard| !heard.failures.is_empty());
    store
        .shared
        .engine
        .faults
        .fail_writes
        .store(false, Ordering::SeqCst);

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
    store
        .shared
        .engine
        .faults
        .fail_syncs
        .store(true, Ordering::SeqCst);
    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    recorder.wait_until("failure", |heard| !heard.failures.is_empty());
    // Healed, so that only the poison can keep it from reporting.
    store
        .shared
        .engine
        .faults
        .fail_syncs
        .store(false, Ordering::SeqCst);
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
fn a_directory_is_for_one_process_one_broker_and_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = refusal(dir.path(), options());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));

    let ours = ClusterId(Uuid::from_u128(10));
    let theirs = ClusterId(Uuid::from_u128(11));
    store.adopt_cluster(ours).unwrap();
    store.adopt_cluster(ours).unwrap();
    assert!(matches!(
        store.adopt_cluster(theirs),
        Err(OpenError::ForeignCluster { .. })
    ));
    assert_eq!(store.directory().cluster, Some(ours));
    drop(store);

    let other_broker = RocksOptions {
        broker: BrokerId::new(2).unwrap(),
        ..options()
    };
    let error = refusal(dir.path(), other_broker);
    assert!(
        error.to_string().contains("belongs to broker 1, not 2"),
        "{error}"
    );
    let error = refusal(
        dir.path(),
        RocksOptions {
            cluster: Some(theirs),
            ..options()
        },
    );
    assert!(
        matches!(error, OpenError::ForeignCluster { found, .. } if found == ours),
        "{error}"
    );

    let again = RocksOptions {
        fresh_directory: DirectoryId(Uuid::from_u128(8)),
        ..options()
    };
    let store = RocksStore::open(dir.path(), again, Arc::new(Recorder::default())).unwrap();
    assert_eq!(
        store.directory().directory,
        DirectoryId(Uuid::from_u128(7)),
        "the fresh id is for fresh directories"
    );
}

#[test]
fn lost_writes_and_lost_files_are_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 20, KIB);
    drop(store);

    let mark_path = dir.path().join("mark");
    let found = {
        let layout = Layout::new(dir.path());
        recovery::open_read_only(&layout, &Budget::of(0))
            .unwrap()
            .inner
            .latest_sequence_number()
    };
    let mut mark = SyncMark::open(&mark_path).unwrap();
    mark.record(found + 1).unwrap();
    drop(mark);
    for _ in 0..2 {
        let error = refusal(dir.path(), options());
        assert!(
            matches!(error, OpenError::LostWrites { marked, .. } if marked == found + 1),
            "{error}"
        );
    }
    std::fs::remove_file(&mark_path).unwrap();
    let error = refusal(dir.path(), options());
    assert!(matches!(error, OpenError::Incomplete { .. }), "{error}");
}

#[test]
fn a_cut_wal_is_noticed_by_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 20, KIB);
    let synced = store.shared.tickets.synced_sequence();
    drop(store);
    let mut mark = SyncMark::open(&dir.path().join("mark")).unwrap();
    if mark.sequence() < synced {
        mark.record(synced).unwrap();
    }
    let wal = std::fs::read_dir(dir.path().join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max()
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&wal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5 * KIB as u64)
        .unwrap();
    let error = refusal(dir.path(), options());
    assert!(matches!(error, OpenError::LostWrites { .. }), "{error}");
}

#[test]
fn a_hole_or_damage_past_the_checkpoint_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(3)).unwrap();
    fill(&store, &recorder, local, 0, 6, KIB);
    store.checkpoint(local, Offset(25));
    store.load(local).unwrap();
    let db = &store.shared.engine.db;
    let records = db.family(Family::Records);
    let removed = db
        .inner
        .get_cf(&records, keys::record_key(local, Offset(40)))
        .unwrap()
        .unwrap();
    db.inner
        .delete_cf(&records, keys::record_key(local, Offset(40)))
        .unwrap();
    drop(records);
    drop(store);
    let error = refusal(dir.path(), options());
    let OpenError::Damaged {
        partition: named,
        offset,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*named, *offset), (partition(3), Offset(40)));

    // Damaged instead of missing: the read says so too.
    let db = Db::open(
        &safe_options(),
        &dir.path().join("db"),
        options::families(&Budget::of(0)),
    )
    .unwrap();
    let mut damaged = removed;
    damaged[100] ^= 1;
    db.inner
        .put_cf(
            &db.family(Family::Records),
            keys::record_key(local, Offset(40)),
            &damaged,
        )
        .unwrap();
    drop(db);
    let error = refusal(dir.path(), options());
    assert!(
        error.to_string().contains("at offset 40: its checksum"),
        "{error}"
    );

    let inside = RocksStore::open_read_only(dir.path()).unwrap();
    let found: Vec<_> = inside
        .batches(local, Offset(0))
        .unwrap()
        .map(|batch| batch.is_ok())
        .collect();
    assert_eq!(
        found,
        [true, true, true, true, false, true],
        "what is around the damage can be looked at"
    );
}

#[test]
fn reading_damage_below_the_checkpoint_is_an_error_never_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 6, KIB);
    store.checkpoint(local, Offset(60));
    let db = &store.shared.engine.db;
    let key = keys::record_key(local, Offset(20));
    let mut damaged = db.get(Family::Records, &key).unwrap().unwrap();
    damaged[70] ^= 0x80;
    db.inner
        .put_cf(&db.family(Family::Records), key, &damaged)
        .unwrap();
    store.close().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    let before = store.read(local, Offset(5), Offset::MAX, usize::MAX).unwrap();
    assert_eq!(
        (before.batches.len(), before.next),
        (2, Offset(20)),
        "what stands before it"
    );
    let error = store
        .read(local, Offset(20), Offset::MAX, usize::MAX)
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Corrupt {
                offset: Offset(20),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(read_bases(&store, local, 30), [30, 40, 50]);
}

fn blob_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("db"))
        .unwrap()
        .map(|file| file.unwrap());
    let blobs = files.filter(|file| {
        [".blob", ".sst"]
            .iter()
            .any(|end| file.file_name().to_string_lossy().ends_with(end))
    });
    blobs.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn looking_into_a_directory_changes_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 10, KIB);
    store.trim(local, Offset(15));
    drop(store);
    let listing = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("db"))
            .unwrap()
            .map(|file| file.unwrap())
            .map(|file| {
                (
                    file.file_name(),
                    file.metadata().unwrap().modified().unwrap(),
                    file.metadata().unwrap().len(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let before = listing();
    let inside = RocksStore::open_read_only(dir.path()).unwrap();
    assert_eq!(
        inside.partitions(),
        [StoredPartition {
            local,
            partition: partition(0)
        }]
    );
    let log = inside.load(local).unwrap();
    assert_eq!((log.log_start, log.log_end), (Offset(15), Offset(100)));
    assert_eq!(inside.batches(local, Offset(42)).unwrap().count(), 6);
    assert_eq!(inside.directory().broker, BrokerId::new(1).unwrap());
    drop(inside);
    assert_eq!(listing(), before);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        RocksStore::open_read_only(empty.path()),
        Err(OpenError::Missing { .. })
    ));
}

#[test]
fn timestamps_are_found_through_the_sparse_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    // Rising by 10 a batch, but for one far ahead of its time at offset 500.
    for base in (0..1000).step_by(10) {
        let timestamp_ms = if base == 500 { 100_000 } else { base };
        let spec = BatchSpec {
            count: 10,
            payload_bytes: 50 * KIB,
            timestamp_ms,
            ..BatchSpec::at(Offset(base as u64))
        };
        store.append(append(local, vec![spec.build()]));
    }
    recorder.wait_durable(local, Offset(1000));
    let check = |store: &RocksStore| {
        let find = |at| {
            store
                .offset_for_timestamp(local, at)
                .unwrap()
                .map(|offset| offset.0)
        };
        assert_eq!(find(-1), Some(0));
        assert_eq!(find(0), Some(0));
        assert_eq!(find(41), Some(50));
        assert_eq!(find(490), Some(490));
        assert_eq!(find(491), Some(500));
        assert_eq!(find(99_999), Some(500));
        assert_eq!(find(100_001), None);
    };
    check(&store);
    drop(store);
    let (store, recorder) = open(dir.path());
    check(&store);
    let gone = Truncate {
        partition: local,
        to: Offset(495),
        producers: Vec::new(),
        forgotten: Vec::new(),
    };
    store.truncate(gone);
    recorder.wait_durable(local, Offset(490));
    assert_eq!(store.offset_for_timestamp(local, 480).unwrap(), Some(Offset(480)));
    assert_eq!(
        store.offset_for_timestamp(local, 481).unwrap(),
        None,
        "the batch ahead of its time is gone"
    );
    // What is appended in its place is found, too: no entry is left of the old tail that would lead past it.
    let late = BatchSpec {
        count: 10,
        timestamp_ms: 200_000,
        ..BatchSpec::at(Offset(490))
    };
    let later = BatchSpec {
        count: 10,
        timestamp_ms: 500,
        ..BatchSpec::at(Offset(500))
    };
    store.append(append(local, vec![late.build(), later.build()]));
    recorder.wait_durable(local, Offset(510));
    assert_eq!(
        store.offset_for_timestamp(local, 150_000).unwrap(),
        Some(Offset(490))
    );
    store.trim(local, Offset(200));
    store.reclaim().unwrap();
    assert_eq!(store.offset_for_timestamp(local, 3).unwrap(), Some(Offset(200)));
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

/// Every file of a directory and its bytes, but for the lock, which is opened by every process.
fn contents(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("db")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("lock") && !path.ends_with("db/LOCK") {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_refused_directory_keeps_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 6, KIB);
    store.checkpoint(local, Offset(25));
    store.load(local).unwrap();
    let db = &store.shared.engine.db;
    db.inner
        .delete_cf(&db.family(Family::Records), keys::record_key(local, Offset(40)))
        .unwrap();
    drop(store);
    let before = contents(dir.path());
    assert!(
        before
            .iter()
            .any(|(path, bytes)| path.extension().is_some_and(|end| end == "log") && !bytes.is_empty()),
        "there is a WAL that an opening would replay"
    );
    let error = refusal(dir.path(), options());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("start with an empty one"), "{error}");
    assert!(contents(dir.path()) == before, "a hole");

    let other = RocksOptions {
        broker: BrokerId::new(2).unwrap(),
        ..options()
    };
    refusal(dir.path(), other);
    assert!(contents(dir.path()) == before, "another broker's");

    let mut mark = SyncMark::open(&dir.path().join("mark")).unwrap();
    mark.record(mark.sequence() + 1000).unwrap();
    drop(mark);
    let before = contents(dir.path());
    let error = refusal(dir.path(), options());
    assert!(matches!(error, OpenError::LostWrites { .. }), "{error}");
    assert!(contents(dir.path()) == before, "lost writes");
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
    store
        .shared
        .engine
        .faults
        .hold_compactions
        .store(true, Ordering::SeqCst);
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
