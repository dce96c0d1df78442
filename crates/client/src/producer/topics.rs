//! The topics that a producer writes to, and which partition a record goes to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tidelog_types::{PartitionIndex, TopicId, TopicName, TopicPartition, partition_for_key};

use super::queue::{BatchSettings, PartitionQueue};
use crate::error::{Error, Result};
use crate::metadata::{Metadata, Snapshot, no_such_partition, topic_gone};
use crate::record::Record;

/// Every topic that a record was enqueued for.
#[derive(Debug)]
pub(crate) struct Topics {
    metadata: Arc<Metadata>,
    settings: BatchSettings,
    by_name: RwLock<HashMap<String, Arc<Topic>>>,
    /// Topics that take no record any more, and why; the driver has not been told yet.
    retired: Mutex<Vec<(Arc<Topic>, Error)>>,
    /// Up to which version of the metadata this holds.
    refreshed: AtomicU64,
    next_queue: AtomicU64,
}

/// One of them: a topic that is made anew under its name is another one, with other partitions,
/// queues and sequences.
#[derive(Debug)]
pub(crate) struct Topic {
    name: TopicName,
    pub(crate) id: TopicId,
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
            retired: Mutex::default(),
            refreshed: AtomicU64::new(0),
            next_queue: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        // What the client knows to be gone takes no record from then on, also where the driver has
        // not come to it yet.
        if self.metadata.version() != self.refreshed.load(Ordering::Acquire) {
            self.refresh();
        }
        self.by_name.read().get(name).cloned()
    }

    /// The topic, with as many partitions as are known by now; `None` if metadata does not know it.
    pub(crate) fn open(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let snapshot = self.metadata.snapshot();
        if snapshot.astray.is_some() {
            return None;
        }
        let id = snapshot.id(name)?;
        let count = partition_count(&snapshot, name, id).filter(|count| *count > 0)?;
        let mut by_name = self.by_name.write();
        if let Some(known) = by_name.get(name.as_str())
            && known.id != id
        {
            let gone = topic_gone(name, known.id, &snapshot);
            self.retired.lock().push((Arc::clone(known), gone));
            by_name.remove(name.as_str());
        }
        let topic = by_name.entry(name.as_str().to_owned()).or_insert_with(|| {
            Arc::new(Topic {
                name: name.clone(),
                id,
                metadata: Arc::clone(&self.metadata),
                queues: RwLock::default(),
                sticky: AtomicU32::new(pick(count, |at| leads(&snapshot, name, id, at), None, random)),
            })
        });
        self.grow(topic, count);
        Some(Arc::clone(topic))
    }

    /// Takes note of partitions that were added, and of topics that are gone: those are known no
    /// more, and a record for that name goes to the topic that has it then. Without a cluster
    /// everything is gone.
    pub(crate) fn refresh(&self) {
        let version = self.metadata.version();
        let snapshot = self.metadata.snapshot();
        let mut by_name = self.by_name.write();
        let mut retired = self.retired.lock();
        by_name.retain(|_, topic| {
            if let Some(count) = partition_count(&snapshot, &topic.name, topic.id) {
                self.grow(topic, count);
            }
            let why = match &snapshot.astray {
                Some(astray) => Some(astray.clone()),
                None if snapshot.is_gone(topic.id) => Some(topic_gone(&topic.name, topic.id, &snapshot)),
                None => None,
            };
            let stays = why.is_none();
            retired.extend(why.map(|why| (Arc::clone(topic), why)));
            stays
        });
        self.refreshed.store(version, Ordering::Release);
    }

    /// The topics that take no record any more, each once: what waits for them, or is on its way,
    /// fails for this reason.
    pub(crate) fn take_retired(&self) -> Vec<(Arc<Topic>, Error)> {
        std::mem::take(&mut *self.retired.lock())
    }

    /// Every partition of every topic.
    pub(crate) fn queues(&self) -> Vec<(Arc<PartitionQueue>, Arc<Topic>)> {
        let by_name = self.by_name.read();
        let retired = self.retired.lock();
        let topics = by_name.values().chain(retired.iter().map(|(topic, _)| topic));
        let of_topic = |topic: &Arc<Topic>| {
            let queues = topic.queues();
            queues
                .into_iter()
                .map(|queue| (queue, Arc::clone(topic)))
                .collect::<Vec<_>>()
        };
        topics.flat_map(of_topic).collect()
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
    pub(crate) fn name(&self) -> &TopicName {
        &self.name
    }

    /// The queues of its partitions.
    pub(crate) fn queues(&self) -> Vec<Arc<PartitionQueue>> {
        self.queues.read().clone()
    }

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

    /// The batch at `from` was closed: keyless records go to another partition, any but this with
    /// the same chance, of those that have a leader.
    pub(crate) fn move_on(&self, from: PartitionIndex) {
        if self.sticky.load(Ordering::Relaxed) != from.0 {
            return;
        }
        let snapshot = self.metadata.snapshot();
        let count = partition_count(&snapshot, &self.name, self.id).unwrap_or(1);
        // Metadata may know of partitions before there are queues for them.
        let count = count.min(self.queues.read().len() as u32);
        let next = pick(
            count,
            |at| leads(&snapshot, &self.name, self.id, at),
            Some(from.0),
            random,
        );
        // Whoever moved on first has chosen.
        let _ = self
            .sticky
            .compare_exchange(from.0, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn partition_count(snapshot: &Snapshot, topic: &TopicName, id: TopicId) -> Option<u32> {
    let entry = snapshot.entry(topic, id)?;
    Some(entry.partitions.len() as u32)
}

fn leads(snapshot: &Snapshot, topic: &TopicName, id: TopicId, index: u32) -> bool {
    snapshot
        .entry(topic, id)
        .and_then(|entry| entry.partitions.get(index as usize))
        .is_some_and(|partition| partition.leader.is_some())
}

fn random(below: u32) -> u32 {
    rand::random_range(0..below)
}

/// One of `count` partitions: one that has a leader if any does, and not the one to avoid if there
/// is another.
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
