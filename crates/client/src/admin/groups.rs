//! Admin's calls about groups.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_types::{ErrorCode, TopicId, TopicName, TopicPartition};
use tokio::time::Instant;

use super::{
    ATTEMPT, Admin, CommittedOffset, GroupCoordinator, GroupDescription, GroupListing, GroupListings,
    LAGGING, Tries,
};
use crate::connection::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Refusal;
use crate::wire::groups::{self as wire, Committer, MAX_OFFSETS_PER_REQUEST, OffsetToCommit};

impl Admin {
    /// All groups, by id. Every broker is asked for those that it coordinates, so all of them must
    /// answer. The list of brokers comes from one that is in contact with its cluster, if there is
    /// one: [`GroupListings::answered_by`] says whether it was.
    pub async fn list_groups(&self) -> Result<GroupListings> {
        let cluster = self.describe_cluster().await?;
        let mut groups = Vec::new();
        for broker in cluster.brokers {
            if broker.alive && !broker.address.is_empty() {
                groups.extend(self.groups_of(&broker.address).await?);
            }
        }
        groups.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
        groups.dedup_by(|a, b| a.group_id == b.group_id);
        Ok(GroupListings {
            groups,
            answered_by: cluster.answered_by,
        })
    }

    async fn groups_of(&self, address: &str) -> Result<Vec<GroupListing>> {
        let mut groups = Vec::new();
        let mut token = String::new();
        let mut tries = Tries::within(self.timeout);
        loop {
            let channel = self.client.inner.connections.to(address)?;
            match wire::list(channel, token.clone(), tries.left().min(ATTEMPT)).await {
                Ok((page, next)) => {
                    groups.extend(page);
                    if next.is_empty() {
                        return Ok(groups);
                    }
                    token = next;
                }
                Err(error) => tries.again(error.context(address)).await?,
            }
        }
    }

    /// A group's members and offsets.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        let call = |channel, left| wire::describe(channel, group, left);
        self.at_coordinator(group, call).await
    }

    /// Which broker coordinates a group, whether it exists or not.
    pub async fn group_coordinator(&self, group: &str) -> Result<GroupCoordinator> {
        let inner = &self.client.inner;
        let mut tries = Tries::within(self.timeout);
        loop {
            match inner
                .coordinators
                .find(inner, group, tries.left().min(ATTEMPT))
                .await
            {
                Ok(found) => {
                    return Ok(GroupCoordinator {
                        broker_id: found.broker.get(),
                        address: found.address,
                    });
                }
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// Deletes a group that has no members, and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let call = |channel, left| wire::delete(channel, group, left);
        self.at_coordinator(group, call).await
    }

    /// Everything that a group committed.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>> {
        let all = BTreeSet::new();
        let call = |channel, left| wire::offsets(channel, group, Committer::default(), &all, left);
        self.at_coordinator(group, call).await
    }

    /// Sets where a group goes on reading. Allowed only while the group has no members. The first
    /// refusal of a partition is the error; the others are set all the same.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, u64)>,
    ) -> Result<()> {
        let mut to_commit = Vec::new();
        for (partition, offset) in offsets {
            to_commit.push(OffsetToCommit {
                topic_id: self.topic_id(&partition.topic).await?,
                partition,
                offset,
                leader_epoch: None,
                metadata: String::new(),
            });
        }
        let mut refused = None;
        for some in to_commit.chunks(MAX_OFFSETS_PER_REQUEST) {
            let call =
                |channel, left| wire::commit(channel, group, Committer::default(), some.to_vec(), left);
            let failures = self.at_coordinator(group, call).await?;
            let first = failures.into_iter().next();
            refused = refused.or(first.map(|(partition, error)| self.not_set(error).context(partition)));
        }
        refused.map_or(Ok(()), Err)
    }

    fn not_set(&self, error: Error) -> Error {
        if error.code() == Some(ErrorCode::UnknownTopicId) {
            // The topic was made anew since this client heard of it: the next call goes by the new
            // one.
            self.client.inner.metadata.request_refresh();
            return error;
        }
        error.unknown_for_good()
    }

    /// The id of a topic, as the client knows it by now or is told at once; `None` lets the
    /// coordinator go by the name.
    async fn topic_id(&self, name: &TopicName) -> Result<Option<TopicId>> {
        let metadata = &self.client.inner.metadata;
        let told = metadata.topic(name, Instant::now() + LAGGING).await;
        match told {
            Ok(entry) => Ok(Some(entry.topic_id)),
            Err(error) if error.kind() == ErrorKind::ForeignCluster => Err(error),
            // The coordinator says what is wrong with the name, if it does not know better.
            Err(_) => Ok(None),
        }
    }

    /// Asks the group's coordinator, looking for it anew when it moved.
    async fn at_coordinator<T, F>(&self, group: &str, call: impl Fn(Channel, Duration) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let coordinators = &self.client.inner.coordinators;
        let mut tries = Tries::within(self.timeout);
        loop {
            let attempt = tries.left().min(ATTEMPT);
            let error = match coordinators.channel(&self.client.inner, group, attempt).await {
                Ok((address, channel)) => match call(channel, attempt).await {
                    Ok(answer) => return Ok(answer),
                    Err(refusal) => {
                        coordinators.refused(&self.client.inner, group, &address, &refusal);
                        refusal.error
                    }
                },
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
                return Err(error.for_good());
            }
            self.client.inner.metadata.check_home()?;
            tries.again(error).await?;
        }
    }
}
