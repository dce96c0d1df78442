//! The topics that a producer writes to, and which partition a record goes to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use tidelog_types::{PartitionIndex, TopicName, TopicPartition, partition_for_key};

use super::queue::{BatchSettings, PartitionQueue};
use crate::error::Result;
use crate::metadata::{Metadata, Snapshot, no_such_partition};
use crate::record::Record;

/// Every topic that a record was enqueued for.
#[derive(Debug)]
pub(crate) struct Topics {
    metadata: Arc<Metadata>,
    settings: BatchSettings,
    by_name: RwLock<HashMap<String, Arc<Topic>>>,
    next_queue: AtomicU64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Topic {
    name: TopicName,
    metadata: Arc<Metadata>,
    queues: RwLock<Vec<Arc<PartitionQueue>>>,
    /// Where keyless records go until the batch there is closed (KIP-480).
    sticky: AtomicU32,
}

impl Topics {
    pub(crate) fn new(metadata: Arc<Metadata>, settings: BatchSettings) -> Self {
        Self {
            metadata,
            settings,
            by_name: RwLock::default(),
            next_queue: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    /// The topic, with as many partitions as are known by now; `None` if metadata does not know it.
    pub(crate) fn open(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let snapshot = self.metadata.snapshot();
        let count = partition_count(&snapshot, name).filter(|count| *count > 0)?;
        let mut by_name = self.by_name.write();
        let topic = by_name.entry(name.as_str().to_owned()).or_insert_with(|| {
            Arc::new(Topic {
                name: name.clone(),
                metadata: Arc::clone(&self.metadata),
                queues: RwLock::default(),
                sticky: AtomicU32::new(pick(count, |at| leads(&snapshot, name, at), None, random)),
            })
        });
        self.grow(topic, count);
        Some(Arc::clone(topic))
    }

    /// Takes note of partitions that were added.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        for topic in self.by_name.read().values() {
            if let Some(count) = partition_count(snapshot, &topic.name) {
                self.grow(topic, count);
            }
        }
    }

    /// Every partition of every topic.
    pub(crate) fn queues(&self) -> Vec<(Arc<PartitionQueue>, Arc<Topic>)> {
        let mut queues = Vec::new();
        for topic in self.by_name.read().values() {
            let of_topic = topic.queues.read();
            queues.extend(
                of_topic
                    .iter()
                    .map(|queue| (Arc::clone(queue), Arc::clone(topic))),
            );
        }
        queues
    }

    fn grow(&self, topic: &Topic, count: u32) {
        if topic.queues.read().len() >= count as usize {
            return;
        }
        let mut queues = topic.queues.write();
        for index in queues.len() as u32..count {
            let partition = TopicPartition {
                topic: topic.name.clone(),
                partition: PartitionIndex(index),
            };
            let id = self.next_queue.fetch_add(1, Ordering::Relaxed);
            queues.push(Arc::new(PartitionQueue::new(id, partition, self.settings)));
        }
    }
}

impl Topic {
    /// The partition a record goes to, and whether it may as well go to another.
    pub(crate) fn queue_for(&self, record: &Record) -> Result<(Arc<PartitionQueue>, bool)> {
        let queues = self.queues.read();
        let count = queues.len();
        let (index, sticky) = match (record.partition, &record.key) {
            (Some(partition), _) => (partition, false),
            (None, Some(key)) => (partition_for_key(key, count as u32).0, false),
            (None, None) => (self.sticky.load(Ordering::Relaxed), true),
        };
        match queues.get(index as usize) {
            Some(queue) => Ok((Arc::clone(queue), sticky)),
            None => {
                self.metadata.request_refresh();
                Err(no_such_partition(&self.name, PartitionIndex(index), count))
            }
        }
    }

    /// The batch at `from` was closed: keyless records go to another partition, any but this with the same chance, of those that have
    /// a leader.
    pub(crate) fn move_on(&self, from: PartitionIndex) {
        if self.sticky.load(Ordering::Relaxed) != from.0 {
            return;
        }
        let snapshot = self.metadata.snapshot();
        let count = partition_count(&snapshot, &self.name).unwrap_or(1);
        // Metadata may know of partitions before there are queues for them.
        let count = count.min(self.queues.read().len() as u32);
        let next = pick(count, |at| leads(&snapshot, &self.name, at), Some(from.0), random);
        // Whoever moved on first has chosen.
        let _ = self
            .sticky
            .compare_exchange(from.0, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn partition_count(snapshot: &Snapshot, topic: &TopicName) -> Option<u32> {
    let entry = snapshot.topics.get(topic)?.as_ref().ok()?;
    Some(entry.partitions.len() as u32)
}

fn leads(snapshot: &Snapshot, topic: &TopicName, index: u32) -> bool {
    let entry = snapshot.topics.get(topic).and_then(|told| told.as_ref().ok());
    entry
        .and_then(|entry| entry.partitions.get(index as usize))
        .is_some_and(|partition| partition.leader.is_some())
}

fn random(below: u32) -> u32 {
    rand::random_range(0..below)
}

/// One of `count` partitions: one that has a leader if any does, and not the one to avoid if there is another.
fn pick(
    count: u32,
    has_leader: impl Fn(u32) -> bool,
    avoid: Option<u32>,
    random: impl FnOnce(u32) -> u32,
) -> u32 {
    let mut choices: Vec<u32> = (0..count).filter(|at| has_leader(*at)).collect();
    if choices.is_empty() {
        choices = (0..count).collect();
    }
    if choices.len() > 1 {
        choices.retain(|at| Some(*at) != avoid);
    }
    match choices.len() as u32 {
        0 => 0,
        len => choices[random(len) as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyless_record_goes_where_a_leader_is_and_moves_on() {
        let all = |avoid, turn| pick(4, |_| true, avoid, |below| turn % below);
        assert_eq!([0, 1, 2, 3].map(|turn| all(None, turn)), [0, 1, 2, 3]);
        assert_eq!([0, 1, 2].map(|turn| all(Some(1), turn)), [0, 2, 3]);
        let two_lead = |avoid| pick(4, |at| at >= 2, avoid, |_| 0);
        assert_eq!([two_lead(None), two_lead(Some(2))], [2, 3]);
        // Where nobody leads, waiting anywhere is as good; and one partition is all there is.
        assert_eq!(pick(4, |_| false, Some(0), |_| 0), 1);
        assert_eq!(pick(1, |_| true, Some(0), |_| 0), 0);
    }
}
