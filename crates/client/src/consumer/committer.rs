//! Commits of a group's member, fenced by its epoch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::limits::MAX_COMMIT_METADATA_BYTES;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::time::Instant;

use super::offset::OffsetAndMetadata;
use super::shared::{Identity, Shared};
use super::slots::SlotId;
use crate::admin::CommittedOffset;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::topic_gone;
use crate::wire::Refusal;
use crate::wire::groups::{self as wire, Committer as Stamp, MAX_OFFSETS_PER_REQUEST, OffsetToCommit};

/// How long a commit is tried again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one coordinator may take to replicate it.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Commits for a consumer of a group. Cheap to clone;
/// [`RebalanceListener::revoked`](crate::RebalanceListener::revoked) is given one.
///
/// ```no_run
/// # async fn example(consumer: tidelog_client::Consumer) -> tidelog_client::Result<()> {
/// let committer = consumer.committer()?;
/// tokio::spawn(async move { committer.commit().await });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Committer {
    client: Client,
    group: Arc<str>,
    shared: Arc<Shared>,
}

/// One offset on its way to the coordinator.
#[derive(Debug, Clone)]
struct Wanted {
    slot: SlotId,
    partition: TopicPartition,
    topic_id: TopicId,
    offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
    metadata: String,
    /// Named by the application, which is told if the topic is gone. What is merely marked is
    /// dropped then: nobody will go on from there.
    is_named: bool,
}

impl Committer {
    pub(super) fn new(client: Client, group: &str, shared: Arc<Shared>) -> Self {
        Self {
            client,
            group: group.into(),
            shared,
        }
    }

    /// Commits what is marked, of every partition the unbroken run from where reading began;
    /// answered when it is replicated. Does nothing if nothing was marked since the last time.
    ///
    /// What is marked of a topic that was deleted is left out. Tried again for up to 30 s where
    /// that may help. An error whose [`Error::is_retriable`] is false means that the member was
    /// fenced meanwhile, or that the cluster refuses the commit for good. Dropping the future is
    /// fine: the next commit covers the same.
    pub async fn commit(&self) -> Result<()> {
        self.commit_marked(None).await
    }

    /// Commits these offsets, each the one to go on from: that of the last processed record, plus
    /// one. Records below them count as marked. The partitions must be assigned to this consumer.
    /// An offset is a number, or an [`OffsetAndMetadata`].
    pub async fn commit_offsets<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        let _one_at_a_time = self.shared.commits.lock().await;
        let wanted: Vec<Wanted> = offsets
            .into_iter()
            .map(|(partition, offset)| self.wanted(partition, offset.into()))
            .collect::<Result<_>>()?;
        let marks: Vec<(SlotId, Offset)> = wanted.iter().map(|one| (one.slot, one.offset)).collect();
        self.commit_all(wanted).await?;
        self.shared.change(|slots| {
            for (id, offset) in marks {
                slots.with(id, |slot| slot.marks.mark_below(offset));
            }
        });
        Ok(())
    }

    /// Everything that the group committed, by whichever member.
    pub(super) async fn committed(&self) -> Result<Vec<CommittedOffset>> {
        self.client.admin().group_offsets(&self.group).await
    }

    fn wanted(&self, partition: TopicPartition, wanted: OffsetAndMetadata) -> Result<Wanted> {
        let offset = Offset(wanted.offset);
        let found = self.shared.look(|slots| {
            let id = slots.id(&partition)?;
            let slot = slots.by_id.get(&id)?;
            Some((id, slot.topic_id, slot.marks.epoch_below(offset)))
        });
        let (slot, topic_id, leader_epoch) = found.ok_or_else(|| super::errors::not_assigned(&partition))?;
        Ok(Wanted {
            slot,
            partition,
            topic_id,
            offset,
            leader_epoch,
            metadata: wanted.metadata,
            is_named: true,
        })
    }

    /// Commits what is marked of some partitions, or of all.
    pub(super) async fn commit_marked(&self, of: Option<&BTreeSet<SlotId>>) -> Result<()> {
        let _one_at_a_time = self.shared.commits.lock().await;
        // What was lost a moment ago is another's to commit, and the application is about to hear
        // so.
        let life = self.shared.identity().life;
        let marked = self.shared.look(|slots| {
            let mut marked = slots.committable(of);
            marked.retain(|(id, ..)| slots.is_of_life(*id, life));
            marked
        });
        let wanted = marked.into_iter().map(|(slot, read, committable)| Wanted {
            slot,
            partition: read.partition,
            topic_id: read.topic_id,
            offset: committable.offset,
            leader_epoch: committable.leader_epoch,
            metadata: String::new(),
            is_named: false,
        });
        self.commit_all(wanted.collect()).await
    }

    async fn commit_all(&self, wanted: Vec<Wanted>) -> Result<()> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        for chunk in requests(wanted) {
            self.commit_chunk(chunk, deadline).await?;
        }
        Ok(())
    }

    /// Tries until all of it is replicated or refused for good. What is not ours any more is not
    /// tried again.
    async fn commit_chunk(&self, mut open: Vec<Wanted>, deadline: Instant) -> Result<()> {
        let mut pauses = crate::backoff::delays();
        let mut refused = None;
        while !open.is_empty() {
            let mut identities = self.shared.identities();
            let identity = identities.borrow_and_update().clone();
            self.drop_lost(&mut open, identity.life, &mut refused);
            self.drop_gone(&mut open, &mut refused);
            if open.is_empty() {
                break;
            }
            let failure = match self.attempt(&identity, &open, deadline).await {
                Ok(failures) => self.settle(&mut open, failures, &mut refused),
                Err(error) => Some(error),
            };
            let Some(error) = failure else { break };
            if !error.is_retriable() {
                return Err(error);
            }
            self.client.inner.metadata.check_home()?;
            if error.is_unknown_topic() {
                // Either the topic is gone, as metadata will tell, or the coordinator has not heard
                // of it yet.
                self.client.inner.metadata.request_refresh();
            }
            let wake = Instant::now() + pauses.next().unwrap_or(crate::backoff::LONGEST);
            if wake >= deadline {
                return Err(error);
            }
            tracing::debug!(group = %self.group, %error, "a commit is tried again");
            if error.code() == Some(ErrorCode::StaleMemberEpoch) {
                // The new epoch is on its way down the session's stream.
                let _ = tokio::time::timeout_at(wake, identities.changed()).await;
            } else {
                tokio::time::sleep_until(wake).await;
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn attempt(
        &self,
        identity: &Identity,
        wanted: &[Wanted],
        deadline: Instant,
    ) -> Result<Vec<(TopicPartition, Error)>> {
        let inner = &self.client.inner;
        let timeout = ATTEMPT.min(deadline - Instant::now());
        let (address, channel) = inner.coordinators.channel(inner, &self.group, timeout).await?;
        let offsets = wanted.iter().map(|one| OffsetToCommit {
            partition: one.partition.clone(),
            topic_id: Some(one.topic_id),
            offset: one.offset.0,
            leader_epoch: one.leader_epoch.map(|epoch| epoch.0),
            metadata: one.metadata.clone(),
        });
        let stamp = Stamp {
            member_id: identity.member_id.clone(),
            member_epoch: identity.epoch,
        };
        let answer = wire::commit(channel, &self.group, stamp, offsets.collect(), timeout).await;
        answer.map_err(|refusal: Refusal| {
            inner.coordinators.refused(inner, &self.group, &address, &refusal);
            refusal.error.context(format!("group {}", self.group))
        })
    }

    /// Takes note of what was committed; keeps in `open` what may be tried again, and says why.
    fn settle(
        &self,
        open: &mut Vec<Wanted>,
        failures: Vec<(TopicPartition, Error)>,
        refused: &mut Option<Error>,
    ) -> Option<Error> {
        let mut again = None;
        let failure_of = |partition: &TopicPartition| failures.iter().find(|(failed, _)| failed == partition);
        self.shared.look(|slots| {
            open.retain(|one| match failure_of(&one.partition) {
                None => {
                    if let Some(slot) = slots.by_id.get_mut(&one.slot) {
                        slot.marks.committed(one.offset);
                    }
                    false
                }
                Some((partition, error)) if error.is_retriable() => {
                    again = Some(error.clone().context(partition));
                    true
                }
                Some((partition, error)) => {
                    refused.get_or_insert(error.clone().context(partition));
                    false
                }
            });
        });
        again
    }

    /// What is meant for a topic that was deleted is never tried again: least of all until another
    /// topic has its name.
    fn drop_gone(&self, open: &mut Vec<Wanted>, refused: &mut Option<Error>) {
        let snapshot = self.client.inner.metadata.snapshot();
        open.retain(|one| {
            let is_gone = snapshot.is_gone(one.topic_id);
            if is_gone {
                let error = topic_gone(&one.partition.topic, one.topic_id, &snapshot).context(&one.partition);
                tracing::debug!(group = %self.group, %error, "an offset is not committed");
                if one.is_named {
                    refused.get_or_insert(error);
                }
            }
            !is_gone
        });
    }

    /// What was taken away between two tries is another's to commit.
    fn drop_lost(&self, open: &mut Vec<Wanted>, life: u64, refused: &mut Option<Error>) {
        self.shared.look(|slots| {
            open.retain(|one| {
                let is_ours = slots.is_of_life(one.slot, life);
                if !is_ours {
                    let message = format!(
                        "group {}: {} was taken away before its commit was replicated",
                        self.group, one.partition
                    );
                    let fenced = ErrorKind::Refused(ErrorCode::FencedMemberEpoch);
                    refused.get_or_insert(Error::new(fenced, message));
                }
                is_ours
            });
        });
    }
}

/// Offsets, as many a request as a broker takes at a time.
fn requests(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut requests: Vec<Vec<Wanted>> = Vec::new();
    let mut room = (0, 0);
    for one in wanted {
        let size = one.metadata.len();
        match requests.last_mut() {
            Some(request) if room.0 > 0 && room.1 >= size => request.push(one),
            _ => {
                requests.push(vec![one]);
                room = (MAX_OFFSETS_PER_REQUEST, MAX_COMMIT_METADATA_BYTES);
            }
        }
        room = (room.0 - 1, room.1.saturating_sub(size));
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::testing::partition;

    #[test]
    fn a_request_holds_so_many_offsets_and_so_much_metadata() {
        let one = |index: u32, metadata: usize| Wanted {
            slot: SlotId(1),
            partition: partition("t", index),
            topic_id: crate::wire::fake_consumer::topic_id("t"),
            offset: Offset(7),
            leader_epoch: None,
            metadata: "m".repeat(metadata),
            is_named: false,
        };
        let sizes = |metadata: usize| -> Vec<usize> {
            let wanted = (0..2_500).map(|index| one(index, metadata)).collect();
            requests(wanted).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(0), [1_000, 1_000, 500]);
        let large = sizes(4_096);
        assert_eq!(
            (large[0], large.iter().sum::<usize>()),
            (MAX_COMMIT_METADATA_BYTES / 4_096, 2_500)
        );
        // One that no broker takes is refused by itself.
        assert_eq!(requests(vec![one(0, 1), one(1, 1 << 20), one(2, 1)]).len(), 3);
        assert!(requests(Vec::new()).is_empty());
    }
}
