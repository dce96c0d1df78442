//! Directories that are refused, and stay as they are.

use super::*;

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
