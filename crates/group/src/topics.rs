//! What can be assigned: the cluster's topics, as far as groups care.

use std::collections::BTreeMap;

use tidelog_types::{
    ErrorCode, PartitionError, PartitionIndex, TopicId, TopicIdPartition, TopicName, check_topic_id,
};

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partition_count: u32,
}

/// Every topic of the cluster, by name and by id. Immutable; a change makes another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topics {
    by_name: BTreeMap<TopicName, Topic>,
    names: BTreeMap<TopicId, TopicName>,
}

impl Topics {
    /// A view of these topics.
    pub fn new(topics: impl IntoIterator<Item = (TopicName, Topic)>) -> Self {
        let by_name: BTreeMap<TopicName, Topic> = topics.into_iter().collect();
        let names = by_name
            .iter()
            .map(|(name, topic)| (topic.id, name.clone()))
            .collect();
        Self { by_name, names }
    }

    /// The topic of a name.
    pub fn get(&self, name: &TopicName) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The name of an id.
    pub fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    /// How many partitions the topic of an id has; 0 if there is none.
    pub fn partition_count(&self, id: TopicId) -> u32 {
        self.names
            .get(&id)
            .and_then(|name| self.by_name.get(name))
            .map_or(0, |topic| topic.partition_count)
    }

    /// Whether a partition exists.
    pub fn contains(&self, partition: TopicIdPartition) -> bool {
        partition.partition.0 < self.partition_count(partition.topic_id)
    }

    /// A partition by its topic's name, if it exists and the topic is the one that is meant.
    pub fn resolve(
        &self,
        name: &TopicName,
        meant: Option<TopicId>,
        partition: PartitionIndex,
    ) -> Result<TopicIdPartition, PartitionError> {
        let topic = self.get(name);
        check_topic_id(name, meant, topic.map(|topic| topic.id))?;
        let found = topic.filter(|topic| partition.0 < topic.partition_count);
        found
            .map(|topic| TopicIdPartition {
                topic_id: topic.id,
                partition,
            })
            .ok_or_else(|| {
                let message = format!("there is no partition {name}-{partition}");
                PartitionError::new(ErrorCode::UnknownTopicOrPartition, message)
            })
    }

    /// Every topic, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicName, &Topic)> {
        self.by_name.iter()
    }

    /// Names of the topics that differ between two views: created, deleted, created anew, or grown.
    pub fn changed_since<'a>(&'a self, earlier: &'a Self) -> Vec<&'a TopicName> {
        let new_or_changed = self
            .by_name
            .iter()
            .filter(|(name, topic)| earlier.get(name) != Some(*topic))
            .map(|(name, _)| name);
        let gone = earlier
            .by_name
            .keys()
            .filter(|name| !self.by_name.contains_key(*name));
        new_or_changed.chain(gone).collect()
    }
}
