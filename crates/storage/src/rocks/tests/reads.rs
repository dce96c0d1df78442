//! What is read back, from memory and from disk.

use super::*;

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
    // What is appended in its place is found, too: no entry is left of the old tail that would lead
    // past it.
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
