//! The client itself: one picture of the cluster and one set of connections, shared by everything
//! it makes.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{BrokerId, ClusterId, HostPort, TopicId, TopicName, TopicPartition};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::connection::{Channel, Connections};
use crate::coordinators::Coordinators;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Home, Metadata, TopicEntry};
use crate::wire::Refusal;
use crate::wire::metadata::AskOverWire;

/// How long `connect` tries, unless the builder says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a cluster. Cheap to clone; clones share connections and metadata. When the last
/// clone and everything made by them are gone, so are the connections.
///
/// ```no_run
/// # async fn example() -> tidelog_client::Result<()> {
/// use tidelog_client::Client;
///
/// let client = Client::builder(["localhost:7171"]).client_id("billing").connect().await?;
/// println!("{:?}", client.admin().describe_cluster().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

/// Settings of a [`Client`].
///
/// ```no_run
/// # async fn example() -> tidelog_client::Result<()> {
/// use std::time::Duration;
/// use tidelog_client::Client;
///
/// let brokers = ["one:7171", "two:7171", "three:7171"];
/// let client = Client::builder(brokers).connect_timeout(Duration::from_secs(3)).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    client_id: String,
    connect_timeout: Duration,
}

/// What clones of a client share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) client_id: String,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) coordinators: Coordinators,
    /// The task that keeps the metadata fresh: ends with the last clone.
    refresher: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl Client {
    /// Settings for a client of the cluster that these brokers belong to. One that answers is
    /// enough.
    ///
    /// Each is `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets, the
    /// port from 1 to 65535, without a scheme. A list separated by commas may stand in one string.
    /// What is no address is refused by [`connect`](ClientBuilder::connect), before anything is
    /// tried.
    pub fn builder<S: Into<String>>(bootstrap: impl IntoIterator<Item = S>) -> ClientBuilder {
        ClientBuilder {
            // A list in one string, as it stands in an environment variable, is fine too.
            bootstrap: bootstrap
                .into_iter()
                .flat_map(|address| {
                    address
                        .into()
                        .split(',')
                        .map(|one| one.trim().to_owned())
                        .collect::<Vec<_>>()
                })
                .filter(|address| !address.is_empty())
                .collect(),
            client_id: "tidelog-client".to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// Topics, groups and the cluster.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The cluster's id; `None` while it has not formed.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.inner.metadata.snapshot().cluster_id
    }

    /// The name this client goes by.
    pub fn client_id(&self) -> &str {
        &self.inner.client_id
    }

    /// All partitions of a topic, asking the cluster if the topic is not known yet.
    pub async fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        let topic: TopicName = topic
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        let entry = self.topic(&topic).await?;
        let partition = |index| TopicPartition {
            topic: topic.clone(),
            partition: tidelog_types::PartitionIndex(index),
        };
        Ok((0..entry.partitions.len() as u32).map(partition).collect())
    }

    pub(crate) async fn topic(&self, name: &TopicName) -> Result<TopicEntry> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        self.inner.metadata.topic(name, deadline).await
    }

    /// Waits until the cluster was asked for these topics once more, so that [`topic`](Self::topic)
    /// tells of those of now.
    pub(crate) async fn ask_anew(&self, names: impl IntoIterator<Item = TopicName>) -> Result<()> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        self.inner.metadata.ask_anew(names, deadline).await
    }
}

impl ClientBuilder {
    /// A name for people, in the brokers' logs and groups' descriptions.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// How long [`connect`](Self::connect) tries to reach a broker; ten seconds by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects: returns when one broker answered, fails when none did in time. A bootstrap address
    /// that cannot be one is [`ErrorKind::InvalidArgument`] at once.
    ///
    /// The client then belongs to that broker's cluster for good. An address whose broker belongs
    /// to another cluster is an error, [`ErrorKind::ForeignCluster`], here and ever after: see
    /// there.
    pub async fn connect(self) -> Result<Client> {
        let bootstrap = addresses(&self.bootstrap)?;
        let connections = Arc::new(Connections::new(&self.client_id));
        let home = Home::new(Arc::clone(connections.cluster()));
        let bootstrap = bootstrap.iter().map(HostPort::to_string).collect();
        let metadata = Arc::new(Metadata::new(bootstrap, home));
        let ask = AskOverWire(Arc::clone(&connections));
        let refresher = tokio::spawn(Arc::clone(&metadata).run(ask.clone()));
        let inner = Inner {
            client_id: self.client_id,
            connections,
            metadata,
            coordinators: Coordinators::default(),
            refresher: refresher.abort_handle(),
        };
        let client = Client {
            inner: Arc::new(inner),
        };
        client
            .inner
            .metadata
            .ready(Instant::now() + self.connect_timeout)
            .await?;
        client.inner.metadata.greet(&ask).await?;
        Ok(client)
    }
}

/// The bootstrap addresses, each once, in their order.
fn addresses(texts: &[String]) -> Result<Vec<HostPort>> {
    let mut addresses: Vec<HostPort> = Vec::with_capacity(texts.len());
    for text in texts {
        let address = text
            .parse()
            .map_err(|error| Error::invalid(format!("bootstrap address {error}")))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Error::invalid(
            "no bootstrap address: give at least one host:port",
        ));
    }
    Ok(addresses)
}

impl Inner {
    /// Where a broker serves, as metadata knows.
    pub(crate) fn address_of(&self, broker: BrokerId) -> Result<String> {
        self.metadata.address(Some(broker)).ok_or_else(|| {
            self.metadata.request_refresh();
            Error::new(
                ErrorKind::Unreachable,
                format!("broker {broker} is not alive, as far as is known"),
            )
        })
    }

    /// A channel to any broker: another one with each call.
    pub(crate) fn any_channel(&self) -> Result<Channel> {
        self.metadata.check_home()?;
        let address = self
            .metadata
            .address(None)
            .ok_or_else(|| self.metadata.unreachable())?;
        self.connections.to(&address)
    }

    /// Takes what a refusal says about who leads, of the topic with the id that was named; true if
    /// the partition can be tried again at once.
    pub(crate) fn learn(&self, partition: &TopicPartition, id: Option<TopicId>, refusal: &Refusal) -> bool {
        let news = refusal
            .leader
            .as_ref()
            .is_some_and(|hint| self.metadata.apply_hint(partition, id, hint));
        if !news && refusal.error.needs_metadata() {
            self.metadata.request_refresh();
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_no_address_is_refused_before_anything_is_tried() {
        let began = Instant::now();
        for bad in [
            "HOST",
            "h:99999",
            "h:0",
            "https://h:7171",
            "http://h:7171",
            "::1:7171",
            "one:1,two",
            " , ",
        ] {
            let error = Client::builder([bad]).connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}: {error}");
            assert!(error.message().contains("bootstrap address"), "{bad}: {error}");
            assert!(!error.is_retriable(), "{bad}");
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_list_may_stand_in_one_string_and_an_address_in_it_twice() {
        let builder = Client::builder(["one:1, two:2,", "[::1]:3", "one:1"]);
        let all = addresses(&builder.bootstrap).unwrap();
        assert_eq!(
            all.iter().map(HostPort::to_string).collect::<Vec<_>>(),
            ["one:1", "two:2", "[::1]:3"]
        );
    }
}
