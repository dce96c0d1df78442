//! Bits of a stopped broker's files are flipped: it is noticed at the start or by the read, and
//! nothing else is ever served (C2).
//!
//! Fifty cases, each drawn by its seed: a kind of file, a file, a place in it, and how much is
//! flipped. What may happen:
//!
//! - the store does not open, and says what to do;
//! - it opens, and every read gives the very bytes that were appended or an error;
//! - the damage lies in a part of the WAL that was written after the sync mark was brought up to
//!   date, at most a second before the stop: then the end of a log may be missing, a prefix is
//!   there. This is the residue that `docs/guarantees.md` states. Its cases are told apart by the
//!   mark that they begin with, and what they lose is printed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use tidelog_log::PartitionLog;

use super::*;

const CASES: u64 = 50;
const PARTITIONS: u32 = 3;
/// Payloads of the partitions: one lies in blob files, one in key files, one in both.
const PAYLOAD_BYTES: [usize; 3] = [24 * KIB, 150, 1000];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    KeyFile,
    BlobFile,
    /// All of it marked as synced.
    Wal,
    /// Its end not marked yet.
    YoungWal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    batches: Vec<Bytes>,
    log: PartitionLog,
}

/// A stopped broker's directory, and what is in it.
struct Template {
    dir: tempfile::TempDir,
    contents: BTreeMap<LocalPartition, Content>,
    /// The mark as it was before the last appends, and where the logs ended then.
    young_mark: Vec<u8>,
    marked_ends: BTreeMap<LocalPartition, Offset>,
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    failed_reads: usize,
    harmless: usize,
    lost_batches: Vec<usize>,
}

/// Numbers from a seed, the same on every machine.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

impl Template {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, recorder) = open(dir.path());
        for index in 0..PARTITIONS {
            store.create(partition(index)).unwrap();
        }
        let mut ends = [0; PARTITIONS as usize];
        grow(&store, &recorder, &mut ends, 60);
        for local in 0..PARTITIONS {
            store.checkpoint(LocalPartition(local), Offset(ends[local as usize] / 2));
        }
        // Everything lies in key and blob files.
        store.close().unwrap();
        drop(store);

        let (store, recorder) = open(dir.path());
        // More than a memtable of records: it is flushed, and the WAL stays for what the other
        // families have in it.
        grow(&store, &recorder, &mut ends, 200);
        wait_flushed(&store);
        grow(&store, &recorder, &mut ends, 40);
        let marked_ends = locals()
            .zip(ends)
            .map(|(local, end)| (local, Offset(end)))
            .collect();
        let mark_path = dir.path().join("mark");
        let synced = store.shared.tickets.synced_sequence();
        grow(&store, &recorder, &mut ends, 10);
        let contents = contents_of(&store)
            .into_iter()
            .map(|(local, content)| (local, content.expect("nothing is damaged yet")));
        let contents = contents.collect();
        let last = store.shared.tickets.synced_sequence();
        drop(store);
        // Both marks are as a broker may leave them: it writes one once a second, here it is
        // written when the test says so.
        let at = |sequence| {
            std::fs::remove_file(&mark_path).unwrap();
            let mut mark = SyncMark::open(&mark_path).unwrap();
            mark.record(sequence).unwrap();
            std::fs::read(&mark_path).unwrap()
        };
        let young_mark = at(synced);
        at(last);
        Self {
            dir,
            contents,
            young_mark,
            marked_ends,
        }
    }

    /// A copy with one file damaged; which, for messages.
    fn damaged(&self, kind: Kind, draw: &mut Draw) -> (tempfile::TempDir, String) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("db")).unwrap();
        for (path, bytes) in contents(self.dir.path()) {
            let relative = path.strip_prefix(self.dir.path()).unwrap();
            std::fs::write(copy.path().join(relative), bytes).unwrap();
        }
        if kind == Kind::YoungWal {
            std::fs::write(copy.path().join("mark"), &self.young_mark).unwrap();
        }
        let files = files_of(copy.path(), kind);
        let path = match kind {
            // Where what is not marked yet stands.
            Kind::YoungWal => files.last().unwrap(),
            _ => &files[draw.below(files.len() as u64) as usize],
        };
        let mut bytes = std::fs::read(path).unwrap();
        let length = bytes.len() as u64;
        let at = match kind {
            Kind::YoungWal => length - 1 - draw.below(length / 8),
            _ => draw.below(length),
        } as usize;
        // A single bit, or a few bytes on end.
        let run = if draw.below(2) == 0 {
            1
        } else {
            1 + draw.below(32) as usize
        };
        for byte in &mut bytes[at..(at + run).min(length as usize)] {
            *byte ^= 1 << draw.below(8);
        }
        std::fs::write(path, bytes).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (copy, format!("{run} bytes at {at} of {length} in {name}"))
    }

    /// What a broker makes of a damaged copy. Panics at what must never be.
    fn judge(&self, dir: &Path, kind: Kind, outcomes: &mut Outcomes) {
        self.look_into(dir);
        let store = match RocksStore::open(dir, options(), Arc::new(Recorder::default())) {
            Ok(store) => store,
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("move the directory aside"), "no remedy: {said}");
                outcomes.refused += 1;
                return;
            }
        };
        let (mut has_failed, mut lost) = (false, 0);
        for (local, found) in contents_of(&store) {
            let Ok(found) = found else {
                has_failed = true;
                continue;
            };
            let expected = &self.contents[&local];
            if found == *expected {
                continue;
            }
            assert_eq!(
                kind,
                Kind::YoungWal,
                "{local} is not what was synced, and nobody says so"
            );
            assert!(
                expected.batches.starts_with(&found.batches),
                "{local}: other bytes, or a hole"
            );
            assert!(
                found.log.log_end >= self.marked_ends[&local],
                "{local}: lost below the mark"
            );
            lost += expected.batches.len() - found.batches.len();
        }
        if has_failed {
            outcomes.failed_reads += 1;
        } else if lost > 0 {
            outcomes.lost_batches.push(lost);
        } else {
            outcomes.harmless += 1;
        }
    }
}

impl Template {
    /// Looking into a damaged directory comes to an end, and shows no other bytes either.
    fn look_into(&self, dir: &Path) {
        let Ok(inside) = RocksStore::open_read_only(dir) else {
            return;
        };
        for stored in inside.partitions() {
            let expected = &self.contents[&stored.local].batches;
            let most = 2 * expected.len();
            let found: Vec<_> = inside
                .batches(stored.local, Offset(0))
                .unwrap()
                .take(most)
                .collect();
            assert!(found.len() < most, "{}: it never ends", stored.local);
            for batch in found.into_iter().flatten() {
                assert!(expected.contains(&batch), "{}: other bytes", stored.local);
            }
        }
    }
}

fn locals() -> impl Iterator<Item = LocalPartition> {
    (0..PARTITIONS).map(LocalPartition)
}

/// Appends to every partition in turn, each append alone, so that files come out the same every
/// time.
fn grow(store: &RocksStore, recorder: &Recorder, ends: &mut [u64], rounds: u64) {
    for _ in 0..rounds {
        for (local, (end, payload_bytes)) in locals().zip(ends.iter_mut().zip(PAYLOAD_BYTES)) {
            let spec = BatchSpec {
                count: 10,
                payload_bytes,
                timestamp_ms: *end as i64,
                ..BatchSpec::at(Offset(*end))
            };
            let epochs = end.is_multiple_of(500).then_some(EpochEntry {
                epoch: LeaderEpoch((*end / 500) as u32),
                start_offset: Offset(*end),
            });
            store.append(Append {
                epochs: epochs.into_iter().collect(),
                ..append(local, vec![spec.build()])
            });
            *end += 10;
            recorder.wait_durable(local, Offset(*end));
        }
    }
}

fn wait_flushed(store: &RocksStore) {
    let db = &store.shared.engine.db;
    let records = db.family(Family::Records);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while db
        .inner
        .property_int_value_cf(&records, "rocksdb.num-immutable-mem-table")
        .unwrap()
        != Some(0)
    {
        assert!(
            std::time::Instant::now() < deadline,
            "the memtable is not flushed"
        );
        std::thread::yield_now();
    }
}

/// Everything that can be read of each partition.
fn contents_of(store: &RocksStore) -> BTreeMap<LocalPartition, Result<Content, StoreError>> {
    let content = |local| {
        let log = store.load(local)?;
        let (mut batches, mut next) = (Vec::new(), log.log_start);
        while next < log.log_end {
            // From the disk: what is in memory is not what this is about.
            let bounds = store.shared.tails.get(local)?.bounds();
            let read = reader::read(
                &store.shared.engine.db,
                local,
                bounds,
                (next, Offset::MAX),
                64 * KIB,
            )?;
            assert!(read.next > next, "{local}: a read at {next} comes back empty");
            batches.extend(read.batches);
            next = read.next;
        }
        Ok(Content { batches, log })
    };
    locals().map(|local| (local, content(local))).collect()
}

fn files_of(dir: &Path, kind: Kind) -> Vec<PathBuf> {
    let end = match kind {
        Kind::KeyFile => "sst",
        Kind::BlobFile => "blob",
        Kind::Wal | Kind::YoungWal => "log",
    };
    let files = std::fs::read_dir(dir.join("db")).unwrap();
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == end))
        .filter(|path| path.metadata().unwrap().len() > 0)
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are files of every kind: {end}");
    files
}

#[test]
fn flipped_bits_are_noticed_and_never_served() {
    let template = Template::make();
    assert!(files_of(template.dir.path(), Kind::KeyFile).len() > 4);
    assert!(files_of(template.dir.path(), Kind::BlobFile).len() > 1);
    let mut by_kind: BTreeMap<String, Outcomes> = BTreeMap::new();
    for seed in 0..CASES {
        let kind = [
            Kind::KeyFile,
            Kind::BlobFile,
            Kind::Wal,
            Kind::KeyFile,
            Kind::YoungWal,
        ][(seed % 5) as usize];
        let (dir, what) = template.damaged(kind, &mut Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        eprintln!("case {seed}: {what}");
        let outcomes = by_kind.entry(format!("{kind:?}")).or_default();
        template.judge(dir.path(), kind, outcomes);
    }
    for (kind, outcomes) in &by_kind {
        eprintln!("{kind}: {outcomes:?}");
    }
    // The damage bites: hardly a place in these files means nothing.
    let harmless: usize = by_kind.values().map(|outcomes| outcomes.harmless).sum();
    assert!(harmless < CASES as usize / 4, "{by_kind:?}");
    assert!(
        by_kind["BlobFile"].failed_reads + by_kind["BlobFile"].refused > 0,
        "{by_kind:?}"
    );
    assert!(by_kind["Wal"].refused > 0, "{by_kind:?}");
    assert!(
        !by_kind["YoungWal"].lost_batches.is_empty(),
        "the residue is real: {by_kind:?}"
    );
}

#[test]
fn what_lies_behind_an_unreadable_batch_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 20, 24 * KIB);
    store.close().unwrap();
    drop(store);
    let blob = files_of(dir.path(), Kind::BlobFile).remove(0);
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let inside = RocksStore::open_read_only(dir.path()).unwrap();
    let found: Vec<_> = inside
        .batches(local, Offset(0))
        .unwrap()
        .take(100)
        .map(|batch| batch.is_ok())
        .collect();
    assert_eq!(found.len(), 20, "{found:?}");
    assert_eq!(
        found.iter().filter(|is_whole| !**is_whole).count(),
        1,
        "{found:?}"
    );
    assert!(found[0] && found[19]);
}

#[test]
fn an_undamaged_copy_is_whole() {
    let template = Template::make();
    let mut outcomes = Outcomes::default();
    template.judge(template.dir.path(), Kind::Wal, &mut outcomes);
    assert_eq!(outcomes.harmless, 1, "{outcomes:?}");
}

#[test]
fn a_batch_that_is_missing_below_the_checkpoint_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recorder) = open(dir.path());
    let local = store.create(partition(0)).unwrap();
    fill(&store, &recorder, local, 0, 6, KIB);
    store.checkpoint(local, Offset(60));
    let db = &store.shared.engine.db;
    let key = keys::record_key(local, Offset(20));
    db.inner.delete_cf(&db.family(Family::Records), key).unwrap();
    store.close().unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(read_bases(&store, local, 0), [0, 10]);
    for offset in [20, 25] {
        let error = store
            .read(local, Offset(offset), Offset::MAX, usize::MAX)
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { offset: at, .. } if at == Offset(offset)),
            "{error}"
        );
    }
    assert_eq!(read_bases(&store, local, 30), [30, 40, 50]);
}
