//! What was told, and how answers of brokers that are not equally far become one picture that only
//! moves forward.
//!
//! Answers carry how far the metadata are that they were made from. For each topic the newest one
//! counts: a broker that lags behind makes no topic vanish and brings none back. So a topic's id
//! that was known and is replaced, by another or by none, is gone for good.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tidelog_types::{
    BrokerId, ClusterId, ErrorCode, LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition,
};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Most ids of topics that are gone which are remembered: somebody may still hold one for as long
/// as a request or a record lasts.
const MAX_GONE: usize = 1_000;

/// Where a leader is, as a refusal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderHint {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    /// `host:port`; empty if the broker that told it does not know.
    pub(crate) address: String,
}

/// A partition's leader as last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionLeader {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) epoch: LeaderEpoch,
}

/// A topic, as the newest metadata have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    pub(crate) topic_id: TopicId,
    pub(crate) partitions: Vec<PartitionLeader>,
}

/// An answer of Admin.Metadata, in domain types.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetadataAnswer {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) index: u64,
    /// Address of every broker that is alive.
    pub(crate) brokers: BTreeMap<BrokerId, String>,
    pub(crate) topics: Vec<TopicTold>,
}

/// What an answer says of one topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicTold {
    pub(crate) name: TopicName,
    /// How far the metadata were that tell it: an answer may have come in several pages.
    pub(crate) index: u64,
    pub(crate) entry: Result<TopicEntry>,
}

/// Everything known at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) index: u64,
    /// Counts answers, so that a waiter can tell whether one came since.
    pub(crate) answers: u64,
    /// The newest question that was answered; 0 before any.
    pub(crate) question: u64,
    pub(crate) brokers: BTreeMap<BrokerId, String>,
    /// Why nothing can go on: the addresses are another cluster's. Until a broker of our own
    /// answers.
    pub(crate) astray: Option<Error>,
    topics: HashMap<TopicName, Told>,
    /// Ids of topics that were known and are gone, the newest last.
    gone: VecDeque<TopicId>,
}

/// What was told of a name.
#[derive(Debug, Clone)]
struct Told {
    entry: Result<TopicEntry>,
    /// How far the metadata were that told it.
    index: u64,
    /// Since when there is no such topic.
    unknown_since: Option<Instant>,
}

impl Snapshot {
    /// What is known of a topic; `None` if nothing was told yet.
    pub(crate) fn topic(&self, name: &TopicName) -> Option<&Result<TopicEntry>> {
        self.topics.get(name).map(|told| &told.entry)
    }

    /// The topic of that name if it has this id.
    pub(crate) fn entry(&self, name: &TopicName, id: TopicId) -> Option<&TopicEntry> {
        let entry = self.topic(name)?.as_ref().ok()?;
        (entry.topic_id == id).then_some(entry)
    }

    /// The id of the topic that has this name now.
    pub(crate) fn id(&self, name: &TopicName) -> Option<TopicId> {
        Some(self.topic(name)?.as_ref().ok()?.topic_id)
    }

    /// Whether a topic was deleted. One that this client never heard of is not known to be.
    pub(crate) fn is_gone(&self, id: TopicId) -> bool {
        self.gone.contains(&id)
    }

    /// Since when there is no topic of that name, as far as was told.
    pub(crate) fn unknown_since(&self, name: &TopicName) -> Option<Instant> {
        self.topics.get(name)?.unknown_since
    }

    /// The leader of a partition of the topic with this id, with its address, if both are known.
    pub(crate) fn leader(
        &self,
        name: &TopicName,
        id: TopicId,
        index: PartitionIndex,
    ) -> Option<(BrokerId, LeaderEpoch, &str)> {
        let entry = self.entry(name, id)?;
        let PartitionLeader { leader, epoch } = *entry.partitions.get(index.0 as usize)?;
        let broker = leader?;
        Some((broker, epoch, self.brokers.get(&broker)?))
    }

    pub(crate) fn merge(&mut self, answer: MetadataAnswer) {
        self.answers += 1;
        self.astray = None;
        self.cluster_id = answer.cluster_id.or(self.cluster_id);
        // A broker that lags behind may still know of topics that we do not, but not of newer
        // addresses.
        if answer.index >= self.index || self.brokers.is_empty() {
            self.index = answer.index;
            self.brokers = answer.brokers;
        }
        for TopicTold { name, index, entry } in answer.topics {
            match self.topics.get_mut(&name) {
                Some(told) => {
                    let lost = told.take(entry, index);
                    self.gone.extend(lost);
                }
                None => {
                    self.topics.insert(name, Told::new(entry, index));
                }
            }
        }
        while self.gone.len() > MAX_GONE {
            self.gone.pop_front();
        }
    }

    /// The topic of a name was deleted, or made, by this entry of the metadata log: what was told
    /// of the name before counts no more, and until a broker tells of it, this error stands for it.
    pub(crate) fn supersede(
        &mut self,
        name: &TopicName,
        index: u64,
        now: Option<TopicId>,
        until_told: Error,
    ) {
        if now.is_some() && self.id(name) == now {
            return;
        }
        let lost = match self.topics.get_mut(name) {
            Some(told) => told.take(Err(until_told), index),
            None => {
                self.topics
                    .insert(name.clone(), Told::new(Err(until_told), index));
                None
            }
        };
        self.gone.extend(lost);
    }

    /// Takes the hint if it is news. It came with an answer to a request that named the topic's id,
    /// if there is one.
    pub(crate) fn apply_hint(
        &mut self,
        partition: &TopicPartition,
        id: Option<TopicId>,
        hint: &LeaderHint,
    ) -> bool {
        if !hint.address.is_empty() {
            self.brokers.insert(hint.broker, hint.address.clone());
        }
        let Some(Ok(entry)) = self.topics.get_mut(&partition.topic).map(|told| &mut told.entry) else {
            return false;
        };
        if id.is_some_and(|id| id != entry.topic_id) {
            return false;
        }
        let Some(known) = entry.partitions.get_mut(partition.partition.0 as usize) else {
            return false;
        };
        let news = hint.epoch > known.epoch || (hint.epoch == known.epoch && known.leader.is_none());
        if news {
            *known = PartitionLeader {
                leader: Some(hint.broker),
                epoch: hint.epoch,
            };
        }
        news && self.brokers.contains_key(&hint.broker)
    }
}

impl Told {
    fn new(entry: Result<TopicEntry>, index: u64) -> Self {
        let unknown = entry.as_ref().is_err_and(Error::is_unknown_topic);
        Self {
            entry,
            index,
            unknown_since: unknown.then(Instant::now),
        }
    }

    /// Takes in what another answer says. Returns the id of the topic that it shows to be gone.
    fn take(&mut self, told: Result<TopicEntry>, index: u64) -> Option<TopicId> {
        match (&mut self.entry, told) {
            (Ok(known), Ok(told)) if known.topic_id == told.topic_id => {
                known.advance(told);
                self.index = self.index.max(index);
                None
            }
            _ if index < self.index => None,
            (_, told) => {
                let since = self.unknown_since;
                let before = std::mem::replace(self, Self::new(told, index));
                self.unknown_since = self.unknown_since.map(|now| since.unwrap_or(now));
                before.entry.ok().map(|entry| entry.topic_id)
            }
        }
    }
}

impl TopicEntry {
    fn advance(&mut self, told: Self) {
        for (index, told) in told.partitions.into_iter().enumerate() {
            match self.partitions.get_mut(index) {
                Some(known) if told.epoch >= known.epoch => *known = told,
                Some(_) => {}
                None => self.partitions.push(told),
            }
        }
    }
}

/// The refusal for a partition number that a topic does not have. More never come to be: it is for
/// good.
pub(crate) fn no_such_partition(topic: &TopicName, partition: PartitionIndex, count: usize) -> Error {
    let message = format!("topic {topic} has {count} partitions, so there is no partition {partition}");
    Error::new(ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition), message).for_good()
}

/// The failure of what was meant for a topic that was deleted. It may have been made anew: that is
/// another topic.
pub(crate) fn topic_gone(topic: &TopicName, id: TopicId, snapshot: &Snapshot) -> Error {
    let now = match snapshot.id(topic) {
        Some(now) => format!("; the topic that has its name now, {now}, is another one"),
        None => String::new(),
    };
    let message = format!("topic {topic} with id {id} was deleted{now}");
    Error::new(ErrorKind::Refused(ErrorCode::UnknownTopicId), message).for_good()
}
