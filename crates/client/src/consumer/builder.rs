//! Making consumers.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tidelog_types::{PartitionIndex, TopicName, TopicPartition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::committer::Committer;
use super::fetcher::Fetcher;
use super::listener::{NoListener, RebalanceListener};
use super::membership::{Directive, Membership, Reconciler, Session};
use super::options::{FetchOptions, OffsetReset, StartAt, fetch_setters};
use super::shared::Shared;
use super::{Consumer, Member};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::no_such_partition;
use crate::wire::session::{Assigned, Subscription};

/// How long making a consumer may take: joining its group, or learning of its topics.
const BUILD_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    /// Settings for a member of a consumer group: the group's members share its topics' partitions.
    pub fn group(&self, group: impl Into<String>) -> GroupConsumerBuilder {
        GroupConsumerBuilder {
            client: self.clone(),
            group: group.into(),
            subscription: Subscription::default(),
            instance_id: None,
            max_poll_interval: Duration::from_mins(5),
            auto_commit: None,
            listener: Arc::new(NoListener),
            fetch: FetchOptions::default(),
        }
    }

    /// Settings for a consumer of partitions chosen by hand, without a group.
    pub fn consumer(&self) -> AssignedConsumerBuilder {
        AssignedConsumerBuilder {
            client: self.clone(),
            topics: Vec::new(),
            partitions: Vec::new(),
            fetch: FetchOptions::default(),
        }
    }
}

/// Settings of a group's member.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use std::time::Duration;
/// use tidelog_client::OffsetReset;
///
/// let consumer = client
///     .group("inventory")
///     .topics(["orders", "returns"])
///     .auto_offset_reset(OffsetReset::Earliest)
///     .max_poll_interval(Duration::from_secs(60))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GroupConsumerBuilder {
    client: Client,
    group: String,
    subscription: Subscription,
    instance_id: Option<String>,
    max_poll_interval: Duration,
    auto_commit: Option<Duration>,
    listener: Arc<dyn RebalanceListener>,
    fetch: FetchOptions,
}

impl GroupConsumerBuilder {
    /// Reads these topics. One that does not exist is read once it does.
    #[must_use]
    pub fn topics<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.subscription.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Reads every topic whose whole name matches this regular expression, also those that come
    /// later; may be given beside [`topics`](Self::topics).
    #[must_use]
    pub fn topic_regex(mut self, regex: impl Into<String>) -> Self {
        self.subscription.topic_regex = Some(regex.into());
        self
    }

    /// How partitions are shared out: "uniform", the default, which moves few, or "range". The
    /// group uses what most members ask for.
    #[must_use]
    pub fn assignor(mut self, name: impl Into<String>) -> Self {
        self.subscription.assignor = name.into();
        self
    }

    /// A name under which a restarted process gets its partitions back, without a rebalance: unique
    /// in the group.
    #[must_use]
    pub fn instance_id(mut self, instance_id: impl Into<String>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// How long the application may go without calling for a record before the member leaves the
    /// group; five minutes by default. Also how long it may take to give partitions up.
    #[must_use]
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// Commits what is marked every five seconds; off by default. With or without it nothing is
    /// committed that is not marked, and what is marked is committed when partitions are given up.
    #[must_use]
    pub fn enable_auto_commit(mut self, enable: bool) -> Self {
        self.auto_commit = enable.then_some(Duration::from_secs(5));
        self
    }

    /// The same at another interval.
    #[must_use]
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.auto_commit = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// Is told when partitions come and go.
    #[must_use]
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    fetch_setters!();

    /// Joins the group; returns when its coordinator took the member in, and before partitions are
    /// assigned.
    pub async fn build(self) -> Result<Consumer> {
        self.fetch.check()?;
        if self.subscription.topics.is_empty() && self.subscription.topic_regex.is_none() {
            return Err(Error::invalid(
                "a member reads something: give topics or a topic_regex",
            ));
        }
        let member_id = uuid::Uuid::new_v4().to_string();
        let shared = Arc::new(Shared::new(self.fetch, member_id));
        let committer = Committer::new(self.client.clone(), &self.group, Arc::clone(&shared));
        let (directives, directed) = watch::channel(Directive::default());
        let (commands, obeyed) = mpsc::unbounded_channel();
        let (closing, closed) = mpsc::channel(1);
        let membership = Membership {
            group: self.group.as_str().into(),
            instance_id: self.instance_id,
            subscription: self.subscription,
            max_poll_interval: self.max_poll_interval,
        };
        let group = Arc::clone(&membership.group);
        let over = CancellationToken::new();
        let session = Session::new(
            self.client.clone(),
            Arc::clone(&shared),
            membership,
            directives,
            obeyed,
        );
        let reconciler = Reconciler {
            client: self.client.clone(),
            shared: Arc::clone(&shared),
            committer: committer.clone(),
            listener: self.listener,
            directives: directed,
            commands,
            closing: closed,
            life: shared.identity().life,
        };
        let mut tasks = Tasks::new(&shared);
        let ends = over.clone().drop_guard();
        tasks.spawn("session", async move {
            session.run().await;
            drop(ends);
        });
        tasks.spawn("reconciler", reconciler.run());
        tasks.spawn(
            "fetcher",
            Fetcher::run(self.client.clone(), Arc::clone(&shared), Some(group)),
        );
        if let Some(interval) = self.auto_commit {
            tasks.spawn("auto-commit", commit_at(interval, committer.clone()));
        }
        joined(&shared, BUILD_TIMEOUT).await?;
        Ok(Consumer {
            client: self.client,
            _tasks: tasks.set,
            shared,
            member: Some(Member {
                committer,
                closing,
                over,
            }),
        })
    }
}

/// Waits until the member has an epoch, or the reason why it will have none.
async fn joined(shared: &Shared, timeout: Duration) -> Result<()> {
    let mut identities = shared.identities();
    let deadline = Instant::now() + timeout;
    loop {
        shared.check()?;
        if identities.borrow_and_update().epoch > 0 {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, identities.changed())
            .await
            .is_err()
        {
            let why = match shared.trouble() {
                Some(error) => format!("the last failure: {error}"),
                None => "none answered".to_owned(),
            };
            let message = format!("no coordinator took the member in within {timeout:?}; {why}");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
    }
}

async fn commit_at(interval: Duration, committer: Committer) {
    loop {
        tokio::time::sleep(interval).await;
        if let Err(error) = committer.commit().await {
            tracing::warn!(%error, "what is marked could not be committed; the next commit covers it, unless its partitions are lost");
        }
    }
}

/// Settings of a consumer of partitions chosen by hand.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use tidelog_client::{OffsetAt, StartAt};
///
/// let mut consumer = client
///     .consumer()
///     .topic("orders", OffsetAt::Earliest)
///     .partition("returns", 0, StartAt::Offset(1_000))
///     .build()
///     .await?;
/// println!("{:?}", consumer.recv().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AssignedConsumerBuilder {
    client: Client,
    topics: Vec<(String, StartAt)>,
    partitions: Vec<(String, u32, StartAt)>,
    fetch: FetchOptions,
}

impl AssignedConsumerBuilder {
    /// Reads all partitions that a topic has now, each from there.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>, from: impl Into<StartAt>) -> Self {
        self.topics.push((topic.into(), from.into()));
        self
    }

    /// Reads one partition. What is said of a partition wins over what is said of its topic.
    #[must_use]
    pub fn partition(mut self, topic: impl Into<String>, partition: u32, from: impl Into<StartAt>) -> Self {
        self.partitions.push((topic.into(), partition, from.into()));
        self
    }

    /// Reads these partitions.
    #[must_use]
    pub fn assign<S: Into<StartAt>>(
        mut self,
        partitions: impl IntoIterator<Item = (TopicPartition, S)>,
    ) -> Self {
        for (partition, from) in partitions {
            self.partitions
                .push((partition.topic.into(), partition.partition.0, from.into()));
        }
        self
    }

    fetch_setters!();

    /// Begins to read. A topic or partition that does not exist is an error.
    ///
    /// What is read are the topics that have these names now. Once one of them is deleted, its
    /// partitions are an error, `UNKNOWN_TOPIC_ID`, after what was fetched of them, also if it is
    /// made anew: that is another topic, and another consumer reads it.
    pub async fn build(self) -> Result<Consumer> {
        self.fetch.check()?;
        let names = self.topics.iter().map(|(topic, _)| topic);
        let names = names.chain(self.partitions.iter().map(|(topic, ..)| topic));
        let names: BTreeSet<TopicName> = names.map(|name| name.parse()).collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Err(Error::invalid(
                "a consumer reads something: give topics or partitions",
            ));
        }
        self.client.ask_anew(names).await?;
        let mut all = BTreeMap::new();
        for (topic, from) in &self.topics {
            for partition in self.existing(topic, None).await? {
                all.insert(partition, *from);
            }
        }
        for (topic, index, from) in &self.partitions {
            for partition in self.existing(topic, Some(*index)).await? {
                all.insert(partition, *from);
            }
        }
        let shared = Arc::new(Shared::new(self.fetch, String::new()));
        shared.change(|slots| {
            for (read, from) in all {
                let id = slots.add(read, None);
                slots.begin(id, Some(from));
            }
        });
        let mut tasks = Tasks::new(&shared);
        tasks.spawn(
            "fetcher",
            Fetcher::run(self.client.clone(), Arc::clone(&shared), None),
        );
        Ok(Consumer {
            client: self.client,
            _tasks: tasks.set,
            shared,
            member: None,
        })
    }

    /// One partition of a topic, or all of them.
    async fn existing(&self, topic: &str, index: Option<u32>) -> Result<Vec<Assigned>> {
        let name: TopicName = topic.parse()?;
        let entry = self.client.topic(&name).await?;
        let count = entry.partitions.len();
        let indexes = match index {
            None => 0..count as u32,
            Some(index) if (index as usize) < count => index..index + 1,
            Some(index) => return Err(no_such_partition(&name, PartitionIndex(index), count)),
        };
        let read = |index| Assigned {
            partition: TopicPartition {
                topic: name.clone(),
                partition: PartitionIndex(index),
            },
            topic_id: entry.topic_id,
        };
        Ok(indexes.map(read).collect())
    }
}

/// Tasks that do not die in silence.
struct Tasks {
    shared: Arc<Shared>,
    set: JoinSet<()>,
}

impl Tasks {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            set: JoinSet::new(),
        }
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.set.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                let message =
                    format!("the consumer's {name} task panicked, or a hook in it: make another consumer");
                shared.end(Error::new(ErrorKind::Closed, message));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::ErrorCode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_that_takes_nobody_in_is_told_of_with_its_last_refusal() {
        let shared = Shared::new(FetchOptions::default(), "me".to_owned());
        let waiting = joined(&shared, BUILD_TIMEOUT).await.unwrap_err();
        assert_eq!(
            waiting.to_string(),
            "no coordinator took the member in within 30s; none answered"
        );
        let full = ErrorKind::Refused(ErrorCode::DiskFull);
        shared.note_trouble(Some(Error::new(full, "the disk of broker 1 is full")));
        let refused = joined(&shared, BUILD_TIMEOUT).await.unwrap_err().to_string();
        assert!(
            refused.contains("DISK_FULL") && refused.contains("broker 1"),
            "{refused}"
        );
        assert!(refused.contains("within 30s"), "{refused}");
    }
}
