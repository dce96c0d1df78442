//! What the client knows of the cluster: brokers' addresses, topics, leaders.
//!
//! One task a client asks for metadata; everybody else reads the newest snapshot, nudges that task, or waits for a change. Knowledge only moves
//! forward: a leader is replaced by one of a newer epoch, whoever told of it (an answer of Admin.Metadata or the hint in a refusal).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidelog_types::{
    BrokerId, ClusterId, ErrorCode, LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// How long a metadata answer is believed without being asked for again.
pub(crate) const MAX_AGE: Duration = Duration::from_mins(1);
/// The shortest time between two questions: a failing partition asks often.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// How long one broker is waited for before another is asked, too.
const ASK_NEXT: Duration = Duration::from_millis(300);
/// Most brokers that are asked at a time.
const MAX_ASKED: usize = 3;

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

/// One topic.
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
    pub(crate) topics: Vec<(TopicName, Result<TopicEntry>)>,
}

/// Everything known at one moment; immutable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) index: u64,
    /// Counts answers, so that a waiter can tell whether one came since.
    pub(crate) answers: u64,
    pub(crate) brokers: BTreeMap<BrokerId, String>,
    pub(crate) topics: HashMap<TopicName, Result<TopicEntry>>,
}

impl Snapshot {
    /// The leader of a partition with its address, if both are known.
    pub(crate) fn leader(&self, partition: &TopicPartition) -> Option<(BrokerId, LeaderEpoch, &str)> {
        let entry = self.topics.get(&partition.topic)?.as_ref().ok()?;
        let PartitionLeader { leader, epoch } = *entry.partitions.get(partition.partition.0 as usize)?;
        let broker = leader?;
        Some((broker, epoch, self.brokers.get(&broker)?))
    }

    pub(crate) fn merge(&mut self, answer: MetadataAnswer) {
        self.answers += 1;
        self.cluster_id = answer.cluster_id.or(self.cluster_id);
        // A broker that lags behind may still know of topics that we do not, but not of newer addresses.
        if answer.index >= self.index || self.brokers.is_empty() {
            self.index = answer.index;
            self.brokers = answer.brokers;
        }
        for (name, told) in answer.topics {
            match (self.topics.get_mut(&name), told) {
                (Some(Ok(known)), Ok(told)) if known.topic_id == told.topic_id => known.advance(told),
                // One broker that has not heard of a topic yet does not make it vanish; a newer answer does.
                (Some(Ok(_)), Err(_)) if answer.index < self.index => {}
                (_, told) => {
                    self.topics.insert(name, told);
                }
            }
        }
    }

    /// Takes the hint if it is news.
    pub(crate) fn apply_hint(&mut self, partition: &TopicPartition, hint: &LeaderHint) -> bool {
        if !hint.address.is_empty() {
            self.brokers.insert(hint.broker, hint.address.clone());
        }
        let Some(Ok(entry)) = self.topics.get_mut(&partition.topic) else {
            return false;
        };
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

/// Asks one broker for metadata. Implemented by the client over the wire.
pub(crate) trait AskMetadata: Send + Sync + 'static {
    fn ask(
        &self,
        address: &str,
        topics: Vec<TopicName>,
        min_index: u64,
    ) -> impl Future<Output = Result<MetadataAnswer>> + Send;
}

/// The cache: shared by everything a client makes.
#[derive(Debug)]
pub(crate) struct Metadata {
    bootstrap: Vec<String>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    wanted: Mutex<Wanted>,
    nudge: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    topics: BTreeSet<TopicName>,
    min_index: u64,
    /// Rotates over brokers, so that one that is cut off is not asked again and again.
    turn: usize,
    last_error: Option<Error>,
    failures: u64,
}

impl Metadata {
    pub(crate) fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            snapshot: watch::Sender::default(),
            wanted: Mutex::default(),
            nudge: Notify::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// Asks for news soon; never waits.
    pub(crate) fn request_refresh(&self) {
        self.nudge.notify_one();
    }

    /// From now on this topic is asked for.
    pub(crate) fn want(&self, topic: &TopicName) {
        let mut wanted = self.wanted.lock();
        if !wanted.topics.contains(topic) {
            wanted.topics.insert(topic.clone());
            self.nudge.notify_one();
        }
    }

    /// Only metadata at least this new is good enough from now on: one's own writes are read.
    pub(crate) fn require_index(&self, index: u64) {
        let mut wanted = self.wanted.lock();
        wanted.min_index = wanted.min_index.max(index);
        self.nudge.notify_one();
    }

    pub(crate) fn apply_hint(&self, partition: &TopicPartition, hint: &LeaderHint) -> bool {
        let mut news = false;
        self.snapshot.send_if_modified(|snapshot| {
            news = Arc::make_mut(snapshot).apply_hint(partition, hint);
            news
        });
        news
    }

    pub(crate) fn merge(&self, answer: MetadataAnswer) {
        self.snapshot
            .send_modify(|snapshot| Arc::make_mut(snapshot).merge(answer));
    }

    /// The topic's entry, waiting until it is known. A topic that stays unknown until `deadline` is an error.
    pub(crate) async fn topic(&self, name: &TopicName, deadline: Instant) -> Result<TopicEntry> {
        if let Some(Ok(entry)) = self.snapshot.borrow().topics.get(name) {
            return Ok(entry.clone());
        }
        self.want(name);
        let mut changes = self.subscribe();
        let mut refused = None;
        loop {
            match changes.borrow_and_update().topics.get(name) {
                Some(Ok(entry)) => return Ok(entry.clone()),
                // A broker may not have heard of a topic that another has just made.
                Some(Err(error)) if error.is_retriable() => refused = Some(error.clone()),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            self.request_refresh();
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(refused.unwrap_or_else(|| self.unreachable()));
            }
        }
    }

    /// Waits until any broker answered; fails when every address was tried and none did.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<()> {
        let mut changes = self.subscribe();
        while changes.borrow_and_update().answers == 0 {
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(self.unreachable());
            }
        }
        Ok(())
    }

    /// Waits for an answer that was asked for from now on.
    pub(crate) async fn fresh(&self, deadline: Instant) -> Result<()> {
        let mut changes = self.subscribe();
        let seen = changes.borrow_and_update().answers;
        // One that is on its way was asked for before.
        while changes.borrow_and_update().answers < seen + 2 {
            self.request_refresh();
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(self.unreachable());
            }
        }
        Ok(())
    }

    /// The address of a broker, or of any if `None`: rotating.
    pub(crate) fn address(&self, broker: Option<BrokerId>) -> Option<String> {
        let snapshot = self.snapshot.borrow();
        match broker {
            Some(broker) => snapshot.brokers.get(&broker).cloned(),
            None => Some(self.next_address(&snapshot)),
        }
    }

    /// What to say when nobody answers.
    pub(crate) fn unreachable(&self) -> Error {
        let cause = self.wanted.lock().last_error.clone();
        let cause = cause.map_or_else(
            || "no answer in time".to_owned(),
            |error| error.message().to_owned(),
        );
        Error::new(
            ErrorKind::Unreachable,
            format!(
                "no broker of {} could be reached: {cause}; check the bootstrap addresses, and that a broker runs there",
                self.bootstrap.join(", ")
            ),
        )
    }

    fn next_address(&self, snapshot: &Snapshot) -> String {
        let mut wanted = self.wanted.lock();
        wanted.turn += 1;
        let known = snapshot.brokers.len();
        // Every other round goes by the bootstrap list: the known addresses may all be dead ones.
        let choices = known + self.bootstrap.len();
        let turn = wanted.turn % choices.max(1);
        snapshot
            .brokers
            .values()
            .nth(turn)
            .cloned()
            .unwrap_or_else(|| self.bootstrap[turn - known].clone())
    }

    /// Asks one broker, and as long as nobody answers another one every [`ASK_NEXT`]: one that is paused answers nothing and must not hold
    /// up the news of its successor. Whether one answered.
    async fn refresh_once(&self, ask: &impl AskMetadata) -> bool {
        let mut asked = FuturesUnordered::new();
        asked.push(self.ask_one(ask));
        loop {
            let may_ask_more = asked.len() < MAX_ASKED;
            tokio::select! {
                Some(answered) = asked.next() => if answered || asked.is_empty() {
                    return answered;
                },
                () = tokio::time::sleep(ASK_NEXT), if may_ask_more => asked.push(self.ask_one(ask)),
            }
        }
    }

    /// Asks one broker and keeps what it says. A failure is kept for the message of whoever gives up waiting.
    async fn ask_one(&self, ask: &impl AskMetadata) -> bool {
        let address = {
            let snapshot = self.snapshot.borrow();
            self.next_address(&snapshot)
        };
        let (topics, min_index) = {
            let wanted = self.wanted.lock();
            (wanted.topics.iter().cloned().collect(), wanted.min_index)
        };
        match ask.ask(&address, topics, min_index).await {
            Ok(answer) => {
                self.wanted.lock().failures = 0;
                self.merge(answer);
                true
            }
            Err(error) => {
                tracing::debug!(%address, %error, "a broker gave no metadata");
                let mut wanted = self.wanted.lock();
                wanted.failures += 1;
                wanted.last_error = Some(error.context(&address));
                false
            }
        }
    }

    /// The task: refreshes when nudged, when the last answer is old, and after failures at a pace that slows down, whoever nudges.
    pub(crate) async fn run(self: Arc<Self>, ask: impl AskMetadata) {
        let mut pauses = crate::backoff::delays();
        loop {
            if self.refresh_once(&ask).await {
                pauses = crate::backoff::delays();
                tokio::time::sleep(MIN_INTERVAL).await;
                let _ = tokio::time::timeout(MAX_AGE, self.nudge.notified()).await;
            } else {
                let pause = pauses.next().unwrap_or(crate::backoff::LONGEST);
                tokio::time::sleep(pause.max(MIN_INTERVAL)).await;
            }
        }
    }
}

/// The refusal for a partition number that a topic does not have.
pub(crate) fn no_such_partition(topic: &TopicName, partition: PartitionIndex, count: usize) -> Error {
    Error::new(
        ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition),
        format!("topic {topic} has {count} partitions, so there is no partition {partition}"),
    )
}

#[cfg(test)]
mod tests;
