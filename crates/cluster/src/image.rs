//! The state of the cluster's metadata after one log index, immutable and shared.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tidelog_types::{
    BrokerId, ClusterId, PartitionIndex, PartitionRegistration, ProducerId, TopicId, TopicIdPartition,
    TopicName,
};

use crate::broker::BrokerImage;
use crate::change::Change;
use crate::configs::TopicConfigs;
use crate::ids::BrokerIncarnation;

/// A position in the metadata log. 0 comes before every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MetadataIndex(pub u64);

impl fmt::Display for MetadataIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that the brokers agree on. Readers share it by `Arc`; topics and brokers inside are
/// shared likewise, so an image that follows another costs what changed between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterImage {
    /// The cluster's id, once it has formed.
    pub cluster_id: Option<ClusterId>,
    /// The last log index that was applied.
    pub index: MetadataIndex,
    /// Every broker that was ever registered.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerImage>>,
    /// The first producer id that was not given away.
    pub next_producer_id: ProducerIdMark,
    topics: BTreeMap<TopicId, Arc<TopicImage>>,
    topic_ids: BTreeMap<TopicName, TopicId>,
    partition_count: u32,
}

/// The first producer id that was not given away; the first of all is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdMark(pub ProducerId);

impl Default for ProducerIdMark {
    fn default() -> Self {
        Self(ProducerId(0))
    }
}

/// A topic, as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: TopicName,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionRegistration>,
    /// What was set for it, and what follows from defaults.
    pub configs: TopicConfigs,
}

impl TopicImage {
    /// One of its partitions.
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionRegistration> {
        self.partitions.get(index.0 as usize)
    }

    /// Its partitions with the names that brokers give them.
    pub fn iter(&self) -> impl Iterator<Item = (TopicIdPartition, &PartitionRegistration)> {
        self.partitions.iter().zip(0..).map(|(registration, index)| {
            (
                TopicIdPartition {
                    topic_id: self.id,
                    partition: PartitionIndex(index),
                },
                registration,
            )
        })
    }
}

impl ClusterImage {
    /// A topic by its id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// A topic by its name.
    pub fn topic_by_name(&self, name: &TopicName) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// Every topic, by id.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Every topic in the order of their names, from the first that sorts after `after`.
    pub fn topics_by_name<'a>(
        &'a self,
        after: Option<&TopicName>,
    ) -> impl Iterator<Item = &'a Arc<TopicImage>> + use<'a> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |name| Excluded(name.clone()));
        self.topic_ids
            .range((from, Unbounded))
            .filter_map(|(_, id)| self.topics.get(id))
    }

    /// A partition's registration.
    pub fn partition(&self, partition: TopicIdPartition) -> Option<&PartitionRegistration> {
        self.topics
            .get(&partition.topic_id)?
            .partition(partition.partition)
    }

    /// A broker, if it was ever registered.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// Whether a broker is registered and unfenced, by this very registration.
    pub fn is_unfenced_as(&self, incarnation: BrokerIncarnation) -> bool {
        self.broker(incarnation.broker)
            .is_some_and(|known| known.epoch == incarnation.epoch && !known.fenced)
    }

    /// Whether a preferred leader that is in sync and alive does not lead.
    pub fn is_unbalanced(&self) -> bool {
        let mut partitions = self.topics().flat_map(|topic| &topic.partitions);
        partitions.any(|partition| {
            partition.replicas.first().is_some_and(|preferred| {
                partition.leader.is_some_and(|leader| leader != *preferred)
                    && partition.isr.contains(preferred)
                    && self.is_active(*preferred)
            })
        })
    }

    /// Whether a broker may lead and join an ISR.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| broker.is_active())
    }

    /// Whether a broker is registered and serves.
    pub fn is_unfenced(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced)
    }

    /// How many partitions there are in all topics.
    pub const fn partition_count(&self) -> u32 {
        self.partition_count
    }

    /// Performs the changes that were decided at a log index: the only mutator. An index without
    /// changes (a refusal, an entry of Raft's own) is replayed too, so that the image says how far
    /// it has read.
    pub fn replay(&mut self, index: MetadataIndex, changes: &[Change]) {
        assert!(
            index >= self.index,
            "metadata index {index} is replayed after {}",
            self.index
        );
        for change in changes {
            self.replay_one(change);
        }
        self.index = index;
    }

    fn replay_one(&mut self, change: &Change) {
        match change {
            Change::ClusterNamed(id) => self.cluster_id = Some(*id),
            Change::Broker(broker) => {
                self.brokers.insert(broker.id, Arc::clone(broker));
            }
            Change::Topic {
                topic_id,
                name,
                configs,
            } => {
                let topic = self.topics.entry(*topic_id).or_insert_with(|| {
                    Arc::new(TopicImage {
                        id: *topic_id,
                        name: name.clone(),
                        partitions: Vec::new(),
                        configs: TopicConfigs::default(),
                    })
                });
                Arc::make_mut(topic).configs.clone_from(configs);
                self.topic_ids.insert(name.clone(), *topic_id);
            }
            Change::TopicDeleted(id) => {
                let topic = self
                    .topics
                    .remove(id)
                    .expect("only a topic that exists is deleted");
                self.topic_ids.remove(&topic.name);
                self.partition_count -= topic.partitions.len() as u32;
            }
            Change::Partition {
                partition,
                registration,
                ..
            } => self.replay_partition(*partition, registration),
            Change::NextProducerId(id) => self.next_producer_id = ProducerIdMark(*id),
        }
    }

    fn replay_partition(&mut self, partition: TopicIdPartition, registration: &PartitionRegistration) {
        let topic = self
            .topics
            .get_mut(&partition.topic_id)
            .expect("a partition follows its topic");
        let topic = Arc::make_mut(topic);
        let index = partition.partition.0 as usize;
        match topic.partitions.get_mut(index) {
            Some(known) => known.clone_from(registration),
            None => {
                assert_eq!(
                    topic.partitions.len(),
                    index,
                    "partitions of {} are made in order",
                    topic.name
                );
                topic.partitions.push(registration.clone());
                self.partition_count += 1;
            }
        }
    }

    /// The brokers alone: enough to see who is alive.
    pub(crate) fn brokers_only(&self) -> Self {
        Self {
            brokers: self.brokers.clone(),
            index: self.index,
            ..Self::default()
        }
    }

    /// The changes that build this image from an empty one: its snapshot.
    pub fn to_changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.cluster_id.map(Change::ClusterNamed));
        changes.extend(self.brokers.values().cloned().map(Change::Broker));
        changes.push(Change::NextProducerId(self.next_producer_id.0));
        for topic in self.topics.values() {
            changes.push(Change::Topic {
                topic_id: topic.id,
                name: topic.name.clone(),
                configs: topic.configs.clone(),
            });
            changes.extend(topic.iter().map(|(partition, registration)| Change::Partition {
                partition,
                registration: registration.clone(),
                unclean: false,
            }));
        }
        changes
    }

    /// What differs from an image of an earlier index. Costs a pointer comparison for each topic
    /// and broker that did not change.
    pub fn delta_since(&self, earlier: &Self) -> ImageDelta {
        let differs = |old: Option<&Arc<TopicImage>>, new: &Arc<TopicImage>| {
            old.is_none_or(|old| !Arc::ptr_eq(old, new) && old != new)
        };
        ImageDelta {
            brokers: self
                .brokers
                .iter()
                .filter(|(id, broker)| earlier.brokers.get(id).is_none_or(|old| old != *broker))
                .map(|(id, _)| *id)
                .collect(),
            topics: self
                .topics
                .iter()
                .filter(|(id, topic)| differs(earlier.topics.get(id), topic))
                .map(|(id, _)| *id)
                .collect(),
            deleted_topics: earlier
                .topics
                .keys()
                .filter(|id| !self.topics.contains_key(id))
                .copied()
                .collect(),
        }
    }
}

/// What differs between two images, by name: a reader looks the rest up in the newer one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageDelta {
    /// Brokers that were registered or changed.
    pub brokers: Vec<BrokerId>,
    /// Topics that were made or changed, in any of their partitions.
    pub topics: Vec<TopicId>,
    /// Topics that are gone.
    pub deleted_topics: Vec<TopicId>,
}

impl ImageDelta {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty() && self.topics.is_empty() && self.deleted_topics.is_empty()
    }
}
