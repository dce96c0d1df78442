//! What the client knows of the cluster: brokers' addresses, topics, leaders.
//!
//! One task a client asks for metadata; everybody else reads the newest snapshot, nudges that task,
//! or waits for a change. Knowledge only moves forward: a leader is replaced by one of a newer
//! epoch, whoever told of it (an answer of Admin.Metadata or the hint in a refusal).

mod home;
mod snapshot;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidelog_types::{BrokerId, ErrorCode, TopicId, TopicName, TopicPartition};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use home::Home;
pub(crate) use snapshot::{
    LeaderHint, MetadataAnswer, PartitionLeader, Snapshot, TopicEntry, TopicTold, no_such_partition,
    topic_gone,
};

/// How long a metadata answer is believed without being asked for again.
pub(crate) const MAX_AGE: Duration = Duration::from_mins(1);
/// The shortest time between two questions: a failing partition asks often.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// How long one broker is waited for before another is asked, too.
const ASK_NEXT: Duration = Duration::from_millis(300);
/// Most brokers that are asked at a time.
const MAX_ASKED: usize = 3;
/// How long a bootstrap address that no broker of the cluster serves at, as far as is known, may
/// take to say whose it is.
const GREETING: Duration = Duration::from_secs(1);

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
    home: Home,
    snapshot: watch::Sender<Arc<Snapshot>>,
    wanted: Mutex<Wanted>,
    nudge: Notify,
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Wanted {
    topics: BTreeSet<TopicName>,
    min_index: u64,
    /// How many questions were asked: each has its number.
    questions: u64,
    /// Rotates over brokers, so that one that is cut off is not asked again and again.
    turn: usize,
    last_error: Option<Error>,
}

impl Metadata {
    pub(crate) fn new(bootstrap: Vec<String>, home: Home) -> Self {
        Self {
            bootstrap,
            home,
            snapshot: watch::Sender::default(),
            wanted: Mutex::default(),
            nudge: Notify::new(),
            version: AtomicU64::new(0),
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

    pub(crate) fn apply_hint(
        &self,
        partition: &TopicPartition,
        id: Option<TopicId>,
        hint: &LeaderHint,
    ) -> bool {
        let mut news = false;
        self.snapshot.send_if_modified(|snapshot| {
            news = Arc::make_mut(snapshot).apply_hint(partition, id, hint);
            news
        });
        news
    }

    #[cfg(test)]
    pub(crate) fn merge(&self, answer: MetadataAnswer) {
        self.answered(0, answer);
    }

    /// Takes in the answer to a question, by the question's number.
    fn answered(&self, question: u64, answer: MetadataAnswer) {
        self.home.answered();
        self.change(|snapshot| {
            snapshot.question = snapshot.question.max(question);
            snapshot.merge(answer);
        });
    }

    /// The version moves before anybody is woken who would look whether it did.
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshot.send_modify(|snapshot| {
            change(Arc::make_mut(snapshot));
            self.version.fetch_add(1, Ordering::Release);
        });
    }

    /// Fails while the client's addresses are another cluster's.
    pub(crate) fn check_home(&self) -> Result<()> {
        self.snapshot.borrow().astray.clone().map_or(Ok(()), Err)
    }

    /// The topic's entry, waiting until it is known. A topic that stays unknown until `deadline` is
    /// an error for good.
    pub(crate) async fn topic(&self, name: &TopicName, deadline: Instant) -> Result<TopicEntry> {
        self.check_home()?;
        if let Some(Ok(entry)) = self.snapshot.borrow().topic(name) {
            return Ok(entry.clone());
        }
        self.want(name);
        let mut changes = self.subscribe();
        let mut refused = None;
        loop {
            {
                let snapshot = changes.borrow_and_update();
                if let Some(error) = &snapshot.astray {
                    return Err(error.clone());
                }
                match snapshot.topic(name) {
                    Some(Ok(entry)) => return Ok(entry.clone()),
                    // A broker may not have heard of a topic that another has just made.
                    Some(Err(error)) if error.is_retriable() => refused = Some(error.clone()),
                    Some(Err(error)) => return Err(error.clone()),
                    None => {}
                }
            }
            self.request_refresh();
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(refused.map_or_else(|| self.unreachable(), Error::unknown_for_good));
            }
        }
    }

    /// Waits for an answer about these topics to a question that is asked after this call: what was
    /// known before may be older than the last change of the topics.
    pub(crate) async fn ask_anew(
        &self,
        names: impl IntoIterator<Item = TopicName>,
        deadline: Instant,
    ) -> Result<()> {
        let next = {
            let mut wanted = self.wanted.lock();
            wanted.topics.extend(names);
            wanted.questions + 1
        };
        let mut changes = self.subscribe();
        while changes.borrow_and_update().question < next {
            self.check_home()?;
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

    /// Waits until any broker answered; fails when every address was tried and none did.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<()> {
        let mut changes = self.subscribe();
        while changes.borrow_and_update().answers == 0 {
            self.check_home()?;
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return Err(self.unreachable());
            }
        }
        Ok(())
    }

    /// Waits for news that the topic of a name is another one than this, for so long at the most.
    pub(crate) async fn made_anew(&self, name: &TopicName, id: TopicId, timeout: Duration) {
        let mut changes = self.subscribe();
        let deadline = Instant::now() + timeout;
        while changes.borrow_and_update().id(name) == Some(id) {
            self.request_refresh();
            if tokio::time::timeout_at(deadline, changes.changed())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// This client has just deleted a topic, by that entry of the metadata log, and reads its own
    /// writes.
    pub(crate) fn deleted(&self, name: &str, index: u64) {
        let message = format!("topic {name} was deleted by this client");
        let unknown = Error::new(ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition), message);
        self.wrote(name, index, None, unknown);
    }

    /// This client has just made a topic.
    pub(crate) fn created(&self, name: &str, index: u64, id: TopicId) {
        let message =
            format!("topic {name} was made a moment ago, and no broker has told of its leaders yet");
        let untold = Error::new(ErrorKind::Refused(ErrorCode::LeaderNotAvailable), message);
        self.wrote(name, index, Some(id), untold);
    }

    fn wrote(&self, name: &str, index: u64, id: Option<TopicId>, until_told: Error) {
        if let Ok(name) = name.parse() {
            self.change(|snapshot| snapshot.supersede(&name, index, id, until_told));
        }
        self.require_index(index);
    }

    /// Changes whenever topics, or the whole cluster, may be gone that were not before.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
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

    /// Asks one broker, and as long as nobody answers another one every [`ASK_NEXT`]: one that is
    /// paused answers nothing and must not hold up the news of its successor. Whether one answered.
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

    /// Asks one broker and keeps what it says. A failure is kept for the message of whoever gives
    /// up waiting.
    async fn ask_one(&self, ask: &impl AskMetadata) -> bool {
        let address = {
            let snapshot = self.snapshot.borrow();
            self.next_address(&snapshot)
        };
        let (question, topics, min_index) = {
            let mut wanted = self.wanted.lock();
            wanted.questions += 1;
            let topics = wanted.topics.iter().cloned().collect();
            (wanted.questions, topics, wanted.min_index)
        };
        let answered = ask.ask(&address, topics, min_index).await;
        match answered.and_then(|answer| self.home.welcome(answer)) {
            Ok(answer) => {
                self.answered(question, answer);
                true
            }
            Err(error) => {
                tracing::debug!(%address, %error, "a broker gave no metadata");
                self.failed(error.context(&address));
                false
            }
        }
    }

    fn failed(&self, error: Error) {
        let choices = self.snapshot.borrow().brokers.len() + self.bootstrap.len();
        let astray = self.home.failed(&error, choices, Instant::now());
        if let Some(astray) = astray.filter(|_| self.check_home().is_ok()) {
            tracing::warn!(error = %astray, "this client's cluster is gone from its addresses");
            self.change(|snapshot| snapshot.astray = Some(astray));
        }
        self.wanted.lock().last_error = Some(error);
    }

    /// Asks every bootstrap address whose it is, but those that the cluster itself names as its
    /// brokers'. One of another cluster is an error: which of the two is meant, nobody can tell.
    /// One that does not answer may be down.
    pub(crate) async fn greet(&self, ask: &impl AskMetadata) -> Result<()> {
        let known: BTreeSet<String> = self.snapshot.borrow().brokers.values().cloned().collect();
        let unknown = self.bootstrap.iter().filter(|address| !known.contains(*address));
        let mut asked: FuturesUnordered<_> = unknown
            .map(|address| async move {
                let answered = ask.ask(address, Vec::new(), 0).await;
                answered
                    .and_then(|answer| self.home.welcome(answer))
                    .map_err(|error| error.context(address))
            })
            .collect();
        let mixed = async {
            while let Some(answered) = asked.next().await {
                if let Err(error) = answered
                    && error.kind() == ErrorKind::ForeignCluster
                {
                    return Err(error.context("two clusters are named by the bootstrap addresses"));
                }
            }
            Ok(())
        };
        tokio::time::timeout(GREETING, mixed).await.unwrap_or(Ok(()))
    }

    /// The task: refreshes when nudged, when the last answer is old, and after failures at a pace
    /// that slows down, whoever nudges.
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

#[cfg(test)]
mod tests;
