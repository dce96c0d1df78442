//! How large logs are told to be.

use super::*;
use crate::rocks::times::INTERVAL_BYTES;

/// What a batch of [`fill`] takes beside its payload, bytes.
const HEADER_BYTES: u64 = 61;

/// Bytes of so many batches of [`fill`].
fn of(batches: u64, payload_bytes: usize) -> u64 {
    batches * (HEADER_BYTES + payload_bytes as u64)
}

fn truncate(store: &RocksStore, partition: LocalPartition, to: u64) {
    store.truncate(Truncate {
        partition,
        to: Offset(to),
        producers: Vec::new(),
        forgotten: Vec::new(),
    });
}

/// The size after everything that was enqueued.
fn size(store: &RocksStore, local: LocalPartition) -> u64 {
    store.load(local).unwrap();
    store.size_bytes(local).unwrap()
}

/// Makes the index what earlier versions wrote: entries without a value. How many there are.
fn empty_index(store: &RocksStore) -> u64 {
    let db = &store.shared.engine.db;
    let times = db.family(Family::Times);
    let mut iterator = db.inner.raw_iterator_cf(&times);
    iterator.seek_to_first();
    let mut entries = 0;
    while let Some(key) = iterator.key() {
        db.inner.put_cf(&times, key, []).unwrap();
        entries += 1;
        iterator.next();
    }
    entries
}

#[test]
fn the_size_is_that_of_the_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let (local, other) = (
        store.create(partition(0)).unwrap(),
        store.create(partition(1)).unwrap(),
    );
    assert_eq!(size(&store, local), 0);
    fill(&store, &recorder, local, 0, 3, KIB);
    assert_eq!(
        size(&store, local),
        of(3, KIB),
        "before there is an entry of the index"
    );
    fill(&store, &recorder, other, 0, 10, 100 * KIB);
    fill(&store, &recorder, local, 30, 40, 50 * KIB);
    let all = of(3, KIB) + of(40, 50 * KIB);
    assert_eq!(size(&store, local), all);
    drop(store);

    let (store, recorder) = open(dir.path());
    assert_eq!(store.size_bytes(local), Ok(all), "as before the restart");
    assert_eq!(store.size_bytes(other), Ok(of(10, 100 * KIB)));
    // 415 lies within a batch, which goes as a whole.
    truncate(&store, local, 415);
    let left = of(3, KIB) + of(38, 50 * KIB);
    assert_eq!(size(&store, local), left);
    fill(&store, &recorder, local, 410, 7, 300 * KIB);
    assert_eq!(size(&store, local), left + of(7, 300 * KIB));
    store.close().unwrap();
    drop(store);

    let (store, _recorder) = open(dir.path());
    assert_eq!(store.size_bytes(local), Ok(left + of(7, 300 * KIB)));
    truncate(&store, local, 0);
    assert_eq!(size(&store, local), 0);
    store.delete(other).unwrap();
    assert_eq!(store.size_bytes(other), Err(StoreError::UnknownPartition(other)));
}

#[test]
fn what_is_trimmed_counts_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 100, 50 * KIB);
    let near = |told: u64, batches: u64| {
        let exact = of(batches, 50 * KIB);
        assert!(
            (exact..exact + INTERVAL_BYTES).contains(&told),
            "{told} for {exact}"
        );
    };
    // The batch at 500 spans the log start.
    store.trim(local, Offset(505));
    near(size(&store, local), 50);
    store.trim(local, Offset(507));
    near(size(&store, local), 50);
    let before = size(&store, local);
    store.reclaim().unwrap();
    assert_eq!(size(&store, local), before, "freeing the space changes nothing");
    store.trim(local, Offset(910));
    near(size(&store, local), 9);
    drop(store);

    let (store, _) = open(dir.path());
    near(store.size_bytes(local).unwrap(), 9);
    store.reclaim().unwrap();
    drop(store);

    let (store, recorder) = open(dir.path());
    near(store.size_bytes(local).unwrap(), 9);
    store.trim(local, Offset(2000));
    assert_eq!(size(&store, local), 0, "the log begins anew");
    fill(&store, &recorder, local, 2000, 8, 50 * KIB);
    assert_eq!(size(&store, local), of(8, 50 * KIB));
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.size_bytes(local), Ok(of(8, 50 * KIB)));
}

/// Batches as large as intervals have an entry each, so the one that spans the log start has one
/// too.
#[test]
fn the_entry_of_a_batch_that_spans_the_log_start_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 10, 300 * KIB);
    for (log_start, batches) in [(25, 8), (29, 8), (30, 7), (99, 1), (100, 0)] {
        store.trim(local, Offset(log_start));
        assert_eq!(size(&store, local), of(batches, 300 * KIB), "from {log_start} on");
        if log_start == 29 {
            store.reclaim().unwrap();
            assert_eq!(size(&store, local), of(batches, 300 * KIB));
        }
    }
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.size_bytes(local), Ok(0));
}

#[test]
fn an_index_of_earlier_versions_counts_what_its_intervals_have_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 50, 50 * KIB);
    let entries = empty_index(&store);
    // Six batches are one interval, and two are left.
    assert_eq!(entries, 8);
    drop(store);

    let (store, recorder) = open(dir.path());
    let counted = |entries: u64, batches| entries * INTERVAL_BYTES + of(batches, 50 * KIB);
    assert_eq!(size(&store, local), counted(8, 2));
    fill(&store, &recorder, local, 500, 10, 50 * KIB);
    assert_eq!(
        size(&store, local),
        counted(8, 12),
        "what is new is counted as it is"
    );
    assert_eq!(read_bases(&store, local, 590), [590]);
    truncate(&store, local, 450);
    assert_eq!(size(&store, local), counted(7, 3));
    store.trim(local, Offset(120));
    assert_eq!(size(&store, local), counted(5, 3));
    store.reclaim().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.size_bytes(local), Ok(counted(5, 3)));
}
