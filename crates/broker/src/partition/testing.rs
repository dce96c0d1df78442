//! The replicas of one broker over a store in memory, and a cluster whose metadata the test
//! decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tidelog_cluster::command::{Command, CreateTopic, DeleteTopic, RegisterBroker};
use tidelog_cluster::decide::decide;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::image::{ClusterImage, MetadataIndex};
use tidelog_log::{LogStore as _, MemoryStore};
use tidelog_record::{Batch, BatchBuilder, Compression, NewRecord};
use tidelog_replica::{IsrChangeOutcome, Settings};
use tidelog_types::{BrokerId, DirectoryId, PartitionIndex, TopicId, TopicIdPartition};
use uuid::Uuid;

use super::context::{DiskRoom, DiskUse, Hooks, Limits};
use super::manager::{ReplicaManager, StoreEvents};
use super::partition::Partition;

pub(crate) fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

/// Broker 1 of a cluster of two.
pub(crate) struct Rig {
    pub(crate) manager: Arc<ReplicaManager>,
    pub(crate) image: ClusterImage,
    pub(crate) disk: Arc<TestDisk>,
}

/// A disk that is full when the test says so.
#[derive(Default)]
pub(crate) struct TestDisk {
    refused: Mutex<Vec<DiskUse>>,
}

impl TestDisk {
    /// Has room for everything but this.
    pub(crate) fn refuse(&self, refused: &[DiskUse]) {
        refused.clone_into(&mut self.refused.lock());
    }
}

impl DiskRoom for TestDisk {
    fn admits(&self, purpose: DiskUse, _: usize) -> bool {
        !self.refused.lock().contains(&purpose)
    }

    fn taken(&self, _: usize) {}
}

impl Rig {
    /// With brokers 1 and 2 registered, and nothing applied yet. The store writes only when it is
    /// stepped.
    pub(crate) fn new() -> Self {
        Self::holding(&[])
    }

    /// The same, with these partitions on its disk from before.
    pub(crate) fn holding(partitions: &[TopicIdPartition]) -> Self {
        let events = StoreEvents::new();
        let store = MemoryStore::new(Arc::clone(&events) as _);
        for partition in partitions {
            store.create(*partition).unwrap();
        }
        let disk = Arc::new(TestDisk::default());
        let hooks = Hooks {
            propose_isr: Arc::new(|_, _| futures::future::ready(IsrChangeOutcome::Unknown).boxed()),
            role_changed: Arc::new(|_| {}),
            fatal: Arc::new(|error| panic!("{error}")),
            serves: Arc::new(|| true),
            disk: Arc::clone(&disk) as _,
        };
        let manager = ReplicaManager::new(
            broker(1),
            store,
            events,
            hooks,
            Limits::default(),
            Settings::default(),
        )
        .unwrap();
        let mut rig = Self {
            manager,
            image: ClusterImage::default(),
            disk,
        };
        for id in [1, 2] {
            rig.decide(Command::RegisterBroker(RegisterBroker {
                broker: broker(id),
                directory: DirectoryId(Uuid::from_u128(id.into())),
                peer_address: "h:1".to_owned(),
                listeners: Vec::new(),
                feature_level: 1,
            }));
            let epoch = rig.image.broker(broker(id)).unwrap().epoch;
            rig.decide(Command::UnfenceBroker(BrokerIncarnation {
                broker: broker(id),
                epoch,
            }));
        }
        rig.manager.registered(rig.image.broker(broker(1)).unwrap().epoch);
        rig
    }

    pub(crate) fn decide(&mut self, command: Command) {
        let index = MetadataIndex(self.image.index.0 + 1);
        let (changes, outcome) = decide(&self.image, index, &command);
        outcome.result.unwrap();
        self.image.replay(index, &changes);
    }

    /// Has the replicas act upon the metadata as it is.
    pub(crate) fn apply(&self) {
        self.manager.apply_image(&Arc::new(self.image.clone())).unwrap();
    }

    /// A topic of one partition, led by that broker.
    pub(crate) fn topic(&mut self, name: &str, leader: u32, replication_factor: u32) -> TopicIdPartition {
        let topic_id = TopicId(Uuid::new_v4());
        self.decide(Command::CreateTopic(CreateTopic {
            name: name.parse().unwrap(),
            topic_id,
            partitions: Some(1),
            replication_factor: Some(replication_factor),
            configs: BTreeMap::new(),
            placement_start: u64::from(leader - 1),
            internal: false,
        }));
        self.apply();
        TopicIdPartition {
            topic_id,
            partition: PartitionIndex(0),
        }
    }

    pub(crate) fn delete(&mut self, id: TopicIdPartition) {
        self.decide(Command::DeleteTopic(DeleteTopic {
            topic_id: id.topic_id,
        }));
        self.apply();
    }

    pub(crate) fn partition(&self, id: TopicIdPartition) -> Arc<Partition> {
        self.manager.partition(id).unwrap()
    }
}

/// How long a test waits for an answer that comes at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A batch of one record with so large a value.
pub(crate) fn batch(value_bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .append(NewRecord::new(0, None, Some(&vec![7; value_bytes])))
        .unwrap();
    builder.build(None).unwrap()
}
