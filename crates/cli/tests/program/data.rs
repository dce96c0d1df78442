//! Data directories as brokers leave them.

use std::path::Path;

use tempfile::TempDir;
use tidelog_log::{Append, BatchToAppend, LogStore, Progress, StoreError, StoreListener};
use tidelog_record::{Batch, BatchBuilder, Compression, HeaderRef, NewRecord};
use tidelog_storage::{RocksOptions, RocksStore};
use tidelog_types::{
    BrokerId, DirectoryId, EpochEntry, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
};
use uuid::Uuid;

struct Nobody;

impl StoreListener for Nobody {
    fn written(&self, _: &[Progress]) {}
    fn durable(&self, _: &[Progress]) {}
    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

/// A directory that goes away with it.
pub(crate) struct Fixture(TempDir);

/// The one topic in it.
pub(crate) fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(0x7465_7374))
}

impl Fixture {
    /// Of a broker: two batches of two records in partition 0, one in partition 1, of leader
    /// epoch 4.
    pub(crate) fn new(broker: u32, value: &[u8]) -> Self {
        Self::with(
            broker,
            &[(0, batch(0, value)), (0, batch(2, value)), (1, batch(0, value))],
        )
    }

    /// The same, with a byte of a batch's payload turned after its checksum was made.
    pub(crate) fn damaged(broker: u32) -> Self {
        let mut damaged = batch(0, b"value");
        let mut bytes = damaged.bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        damaged.bytes = bytes.into();
        Self::with(broker, &[(0, damaged), (0, batch(2, b"value"))])
    }

    fn with(broker: u32, batches: &[(u32, BatchToAppend)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = BrokerId::new(broker).unwrap();
        let options = RocksOptions::new(id, None, DirectoryId(Uuid::from_u128(broker.into())));
        let store = RocksStore::open(dir.path(), options, std::sync::Arc::new(Nobody)).unwrap();
        // Local ids differ from replica to replica: a partition that is gone shifts them.
        for gone in 0..broker {
            let local = store.create(partition(100 + gone)).unwrap();
            store.delete(local).unwrap();
        }
        let locals = [
            store.create(partition(0)).unwrap(),
            store.create(partition(1)).unwrap(),
        ];
        for (index, batch) in batches {
            let base = batch.info.base_offset;
            let entry = EpochEntry {
                epoch: LeaderEpoch(4),
                start_offset: base,
            };
            store.append(Append {
                partition: locals[*index as usize],
                batches: vec![batch.clone()],
                epochs: if base == Offset::ZERO {
                    vec![entry]
                } else {
                    Vec::new()
                },
                producers: Vec::new(),
            });
        }
        store.close().unwrap();
        Self(dir)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

fn partition(index: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: topic_id(),
        partition: PartitionIndex(index),
    }
}

/// Two records, the second without a key.
fn batch(base: u64, value: &[u8]) -> BatchToAppend {
    let mut builder = BatchBuilder::new(Compression::None);
    let header = |value| {
        [HeaderRef {
            key: "n",
            value: Some(value),
        }]
    };
    let at = 1_700_000_000_000;
    builder
        .append(NewRecord::new(at, Some(b"key"), Some(value)).with_headers(header(b"0")))
        .unwrap();
    builder
        .append(NewRecord::new(at + 1, None, Some(value)).with_headers(header(b"1")))
        .unwrap();
    let batch: Batch = builder.build(None).unwrap().assign(Offset(base), LeaderEpoch(4));
    BatchToAppend {
        info: batch.info(),
        bytes: batch.into_bytes(),
    }
}
