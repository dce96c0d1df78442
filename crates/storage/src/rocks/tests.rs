//! The engine on a real disk.

mod conformance;
mod damage;
mod kill;
mod lifecycle;
mod reads;
mod refusals;
mod sizes;
mod trims;

use std::sync::Arc;

use tidelog_log::conformance::{BatchSpec, Recorder};
use tidelog_log::{BatchToAppend, Progress};
use tidelog_types::{
    BrokerId, ClusterId, DirectoryId, EpochEntry, LeaderEpoch, LocalPartition, Offset, PartitionIndex,
    TopicId, TopicIdPartition,
};
use uuid::Uuid;

use super::*;

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
