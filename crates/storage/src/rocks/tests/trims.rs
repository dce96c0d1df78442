//! Logs that begin later than they did.

use super::*;

#[test]
fn trimmed_space_is_really_freed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let (a, b) = (
        store.create(partition(0)).unwrap(),
        store.create(partition(1)).unwrap(),
    );
    for round in 0..8 {
        fill(&store, &recorder, a, round * 1000, 100, 32 * KIB);
        fill(&store, &recorder, b, round * 10, 1, 32 * KIB);
    }
    let full = blob_bytes(dir.path());
    store.trim(a, Offset(7905));
    assert_eq!(
        read_bases(&store, a, 0),
        (790..800).map(|n| n * 10).collect::<Vec<_>>()
    );
    store.reclaim().unwrap();
    let left = blob_bytes(dir.path());
    assert!(left < full / 3, "{full} bytes became {left}");
    assert_eq!(
        read_bases(&store, b, 0).len(),
        8,
        "what others hold in those files is kept"
    );
    store.delete(a).unwrap();
    store.reclaim().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(read_bases(&store, b, 0).len(), 8);
}

#[test]
fn a_trim_is_told_only_where_the_log_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 1, KIB);
    let before = recorder.heard().written.len();
    store.trim(local, Offset(5));
    store.append(append(local, vec![BatchSpec::at(Offset(10)).build()]));
    recorder.wait_until("the append", |heard| heard.written.len() > before);
    let told = recorder.heard().written;
    assert!(
        told[before].end > Offset(10),
        "a late word of a trim: {:?}",
        &told[before..]
    );
    store.trim(local, Offset(500));
    recorder.wait_durable(local, Offset(500));
}
