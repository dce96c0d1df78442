//! Admin: topics, groups, offsets and the cluster.

mod groups;
mod types;

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

pub use self::types::{
    BrokerDescription, BrokerFigures, BrokerStanding, ClusterDescription, CommittedOffset, ConfigChange,
    ConfigSource, CreatedTopic, GroupCoordinator, GroupDescription, GroupListing, GroupListings, GroupMember,
    NewTopic, PartitionDescription, TopicConfig, TopicDescription, TopicListing, TopicListings,
};
use crate::client::Client;
use crate::connection::Channel;
use crate::error::{Error, Result};
use crate::offsets::{OffsetAt, PartitionOffset, look_up};
use crate::wire::admin as wire;
use crate::wire::log::OffsetQuery;

/// How long a call tries, unless [`Admin::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long one broker may take over a read: there are others.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How many times another broker is asked where the first is out of contact with its cluster, and
/// how long each may take.
const MAX_OTHERS: usize = 4;
const OTHER_ATTEMPT: Duration = Duration::from_secs(1);
/// How long something may be unknown because the asked brokers lag behind.
const LAGGING: Duration = Duration::from_millis(400);

/// Topics, groups, offsets and the cluster. Calls go to a broker that answers and are tried again,
/// elsewhere if need be, while that may help.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use tidelog_client::NewTopic;
///
/// let admin = client.admin();
/// admin.create_topic(NewTopic::new("orders").partitions(6)).await?;
/// for partition in admin.describe_topic("orders").await?.partitions {
///     println!("{}: leader {:?}, in sync {:?}", partition.partition, partition.leader, partition.isr);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            timeout: TIMEOUT,
        }
    }

    /// With another limit on how long a call tries; thirty seconds by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates a topic; returns when every partition has a leader that serves.
    /// `TOPIC_ALREADY_EXISTS` if there is one of that name.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic> {
        let name = topic.name.clone();
        let mut unclear = false;
        let mut tries = Tries::within(self.timeout);
        let (created, index) = loop {
            let channel = self.client.inner.any_channel()?;
            match wire::create_topic(channel, topic.clone(), tries.left()).await {
                Ok(created) => break created,
                // The attempt before this one may have done it.
                Err(error) if unclear && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                    return Err(error.context("an earlier attempt of this very call may have created it"));
                }
                // The topic is there; only its leaders are late.
                Err(error) if error.code() == Some(ErrorCode::RequestTimedOut) => return Err(error),
                Err(error) => {
                    unclear |= error.code().is_none();
                    tries.again(error).await?;
                }
            }
        };
        if let Some(id) = created.topic_id {
            self.client.inner.metadata.created(&name, index, id);
        }
        Ok(created)
    }

    /// Deletes a topic and every record in it.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let call = |channel, left| wire::delete_topic(channel, name.to_owned(), left);
        let index = self.anywhere(self.timeout, call).await?;
        self.client.inner.metadata.deleted(name, index);
        Ok(())
    }

    /// Changes a topic's configs, all of them or none: those not named stay as they are.
    pub async fn alter_topic_configs(&self, name: &str, change: ConfigChange) -> Result<()> {
        let call = |channel, left| wire::alter_topic_configs(channel, name.to_owned(), change.clone(), left);
        let index = self.anywhere(self.timeout, call).await?;
        self.client.inner.metadata.require_index(index);
        Ok(())
    }

    /// A topic in full, with leaders, replicas and offsets, from a broker that is in contact with
    /// its cluster if there is one: [`TopicDescription::answered_by`] says whether it was.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let call = |channel, left| wire::describe_topic(channel, name.to_owned(), left);
        self.in_contact(call, |topic| topic.answered_by.as_ref()).await
    }

    /// All topics, by name; those of the cluster itself where asked for. From a broker that is in
    /// contact with its cluster if there is one: [`TopicListings::answered_by`] says whether it
    /// was.
    pub async fn list_topics(&self, include_internal: bool) -> Result<TopicListings> {
        let page = |token: String| {
            move |channel, left| wire::list_topics(channel, include_internal, token.clone(), left)
        };
        let (mut listed, mut next) = self
            .in_contact(page(String::new()), |(page, _)| page.answered_by.as_ref())
            .await?;
        while !next.is_empty() {
            let (more, token) = self.anywhere(ATTEMPT, page(next)).await?;
            listed.topics.extend(more.topics);
            next = token;
        }
        Ok(listed)
    }

    /// Brokers, the metadata leader, and partitions in trouble, from a broker that is in contact
    /// with its cluster if there is one: [`ClusterDescription::answered_by`] says whether it was.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        self.in_contact(wire::describe_cluster, |cluster| cluster.answered_by.as_ref())
            .await
    }

    /// What the broker that serves at this address, `host:port`, tells of itself. It alone is
    /// asked, once, for no longer than a call of this Admin tries.
    pub async fn describe_broker(&self, address: &str) -> Result<BrokerFigures> {
        let channel = self.client.inner.connections.to(address)?;
        wire::describe_broker(channel, self.timeout).await
    }

    /// Looks up one offset a partition, by position or timestamp. All of them or an error.
    ///
    /// ```no_run
    /// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
    /// use tidelog_client::OffsetAt;
    ///
    /// let ends = client.partitions("orders").await?.into_iter().map(|partition| (partition, OffsetAt::Latest));
    /// for (partition, end) in client.admin().list_offsets(ends).await? {
    ///     println!("{partition} ends at {}", end.offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_offsets(
        &self,
        queries: impl IntoIterator<Item = (TopicPartition, OffsetAt)>,
    ) -> Result<BTreeMap<TopicPartition, PartitionOffset>> {
        let deadline = Instant::now() + self.timeout;
        let queries: Vec<_> = queries.into_iter().collect();
        for (partition, _) in &queries {
            self.client
                .inner
                .metadata
                .topic(&partition.topic, deadline)
                .await?;
        }
        let query = |(partition, at)| OffsetQuery {
            partition,
            topic_id: None,
            leader_epoch: None,
            at,
        };
        look_up(
            &self.client.inner,
            queries.into_iter().map(query).collect(),
            deadline,
        )
        .await
    }

    /// Asks any broker, and others while what they tell is stale. If nobody tells better, the
    /// answer of the one that last had contact.
    async fn in_contact<T, F>(
        &self,
        call: impl Fn(Channel, Duration) -> F,
        standing: impl Fn(&T) -> Option<&BrokerStanding>,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let is_stale = |answer: &T| standing(answer).is_some_and(|standing| standing.stale);
        let since = |answer: &T| {
            standing(answer)
                .and_then(|standing| standing.since_contact)
                .unwrap_or(Duration::MAX)
        };
        let mut best = self.anywhere(ATTEMPT, &call).await?;
        for _ in 0..MAX_OTHERS {
            if !is_stale(&best) {
                break;
            }
            let Ok(channel) = self.client.inner.any_channel() else {
                break;
            };
            if let Ok(other) = call(channel, self.timeout.min(OTHER_ATTEMPT)).await
                && (!is_stale(&other) || since(&other) < since(&best))
            {
                best = other;
            }
        }
        Ok(best)
    }

    /// Asks any broker, another one after each failure that may pass.
    async fn anywhere<T, F>(&self, attempt: Duration, call: impl Fn(Channel, Duration) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tries = Tries::within(self.timeout);
        let mut unknown_since = None;
        loop {
            let channel = self.client.inner.any_channel()?;
            match call(channel, tries.left().min(attempt)).await {
                Ok(answer) => return Ok(answer),
                // A broker may not have heard yet of what this very client has just created through
                // another one.
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    let since: &Instant = unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= LAGGING {
                        return Err(error.for_good());
                    }
                    tries.again(error).await?;
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }
}

/// Attempts until a deadline, with pauses between them.
pub(crate) struct Tries {
    deadline: Instant,
    pauses: backon::ExponentialBackoff,
}

impl Tries {
    pub(crate) fn within(timeout: Duration) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            pauses: crate::backoff::delays(),
        }
    }

    /// How long the next attempt may take: never nothing, so that each call is tried once.
    pub(crate) fn left(&self) -> Duration {
        self.deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(50))
    }

    /// Waits before the next attempt; gives the error back if there shall be none.
    pub(crate) async fn again(&mut self, error: Error) -> Result<()> {
        let wake = Instant::now() + self.pauses.next().unwrap_or(crate::backoff::LONGEST);
        if !error.is_retriable() || wake >= self.deadline {
            return Err(error);
        }
        tokio::time::sleep_until(wake).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::TopicId;

    use crate::wire::fake_consumer::FakeCluster;

    /// Which broker's answer is taken, while these are cut off for so many milliseconds.
    async fn answering(cluster: &FakeCluster, cut_off_ms: &[(u32, u64)]) -> u32 {
        cluster.state.world.lock().cut_off_ms = cut_off_ms.iter().copied().collect();
        let described = cluster.client().await.admin().describe_cluster().await.unwrap();
        described.answered_by.unwrap().broker_id
    }

    #[tokio::test]
    async fn the_cluster_is_described_by_a_broker_in_contact_with_it() {
        let cluster = FakeCluster::start(3).await;
        assert_eq!(answering(&cluster, &[(1, 9_000), (3, 9_000)]).await, 2);
        assert_eq!(answering(&cluster, &[(1, 9_000), (2, 9_000)]).await, 3);
        // Nobody is: by the one that was last.
        assert_eq!(
            answering(&cluster, &[(1, 9_000), (2, 3_000), (3, 6_000)]).await,
            2
        );
    }

    /// A topic of seven partitions and a group that committed in each, told in pages of two.
    async fn paged() -> FakeCluster {
        let cluster = FakeCluster::start(1).await;
        cluster.topic("t", 7);
        let mut world = cluster.state.world.lock();
        world.page_size = 2;
        world.committed = (0..7)
            .map(|index| (("t".to_owned(), index), u64::from(index)))
            .collect();
        drop(world);
        cluster
    }

    #[tokio::test]
    async fn what_comes_in_several_pages_is_put_together() {
        let cluster = paged().await;
        let client = cluster.client().await;
        let pages = || std::mem::take(&mut cluster.state.world.lock().pages);
        pages();
        let admin = client.admin();
        let topic = admin.describe_topic("t").await.unwrap();
        let numbers: Vec<u32> = topic.partitions.iter().map(|one| one.partition).collect();
        assert_eq!((numbers, pages()), ((0..7).collect(), 4));
        let committed = admin.group_offsets("g").await.unwrap();
        let offsets: Vec<u64> = committed.iter().map(|one| one.offset).collect();
        assert_eq!((offsets, pages()), ((0..7).collect(), 4));
    }

    #[tokio::test]
    async fn metadata_of_more_topics_than_a_page_holds_are_all_known() {
        let cluster = paged().await;
        let names = ["t", "u", "v", "w", "x"];
        for name in &names[1..] {
            cluster.topic(name, 1);
        }
        let client = cluster.client().await;
        let wanted = names.iter().map(|name| name.parse().unwrap());
        client.ask_anew(wanted).await.unwrap();
        let known = client.inner.metadata.snapshot();
        for name in names {
            let partitions = known
                .topic(&name.parse().unwrap())
                .map(|told| told.as_ref().unwrap().partitions.len());
            assert_eq!(partitions, Some(if name == "t" { 7 } else { 1 }), "{name}");
        }
    }

    #[tokio::test]
    async fn a_topic_that_is_made_anew_between_two_pages_is_described_from_the_first_again() {
        let cluster = paged().await;
        let [old, new] = [1, 2].map(|byte| TopicId::from_slice(&[byte; 16]).unwrap());
        cluster.state.world.lock().described_as = [old, old, new, new, new, new, new].into();
        let topic = cluster.client().await.admin().describe_topic("t").await.unwrap();
        let numbers: Vec<u32> = topic.partitions.iter().map(|one| one.partition).collect();
        assert_eq!(
            (topic.topic_id, numbers),
            (new, (0..7).collect()),
            "nothing of the old one is kept"
        );
    }
}
