//! The coordinators of this broker, and what members and committers say to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::ClusterImage;
use tidelog_coordinator::Leadership;
use tidelog_group::{Command, MemberEpoch, MemberId, OffsetToCommit, RequestId, StreamId, Topic, Topics};
use tidelog_types::{
    GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicIdPartition, murmur2,
};

use super::Process;
use super::shard::{Shard, not_here};
use crate::context::Context;
use crate::message::{Address, Answer, MemberSays, Message};
use crate::network::Handle;

/// How long a commit may wait for replication.
const REPLICATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The shards of the partitions of the offsets topic that are led here.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) shards: BTreeMap<PartitionIndex, Shard>,
    pub(super) topics: Arc<Topics>,
    next_stream: u64,
    next_request: u64,
}

/// The partition of the offsets topic that a group belongs to.
pub(crate) fn partition_of(group: &GroupId, partitions: u32) -> PartitionIndex {
    PartitionIndex(murmur2(group.as_str().as_bytes()) % partitions)
}

impl Process {
    /// This broker leads a partition since its log ended at `start`.
    pub(super) fn lead_groups(
        &mut self,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        start: Offset,
        context: &mut Context,
    ) {
        if id.topic_id != context.config.offsets_topic.id {
            return;
        }
        let known = self.groups.shards.get(&id.partition);
        if known.is_some_and(|shard| shard.epoch >= epoch) {
            return;
        }
        self.resign(id, context);
        let leadership = Leadership::new(start);
        let shard = Shard::new(id, epoch, leadership, Arc::clone(&self.groups.topics), context);
        self.groups.shards.insert(id.partition, shard);
        self.shard_soon(id, context);
    }

    /// It does not lead it any more.
    pub(super) fn resign(&mut self, id: TopicIdPartition, context: &mut Context) {
        if id.topic_id == context.config.offsets_topic.id
            && let Some(mut shard) = self.groups.shards.remove(&id.partition)
        {
            self.end_shard(&mut shard, &not_here(), context);
        }
    }

    /// The groups' view of topics is as new as every leadership that the same image brings.
    pub(super) fn note_topics(&mut self, image: &ClusterImage, context: &mut Context) {
        let topics = Topics::new(image.topics().map(|topic| {
            let known = Topic {
                id: topic.id,
                partition_count: topic.partitions.len() as u32,
            };
            (topic.name.clone(), known)
        }));
        if *self.groups.topics == topics {
            return;
        }
        self.groups.topics = Arc::new(topics);
        let partitions: Vec<_> = self.groups.shards.keys().copied().collect();
        for partition in partitions {
            if let Some(shard) = self.groups.shards.get_mut(&partition) {
                shard.set_topics(Arc::clone(&self.groups.topics));
            }
            self.shard_turn(partition, context);
        }
    }

    pub(super) fn tick_groups(&mut self, context: &mut Context) {
        let partitions: Vec<_> = self.groups.shards.keys().copied().collect();
        for partition in partitions {
            self.shard_turn(partition, context);
        }
    }

    /// A member says something on its stream.
    pub(super) fn member_says(&mut self, handle: Handle, says: MemberSays, context: &mut Context) {
        let known = self.stream_of(handle);
        let (partition, command) = match (says, known) {
            (MemberSays::Join(join), _) => {
                let partition = partition_of(&join.group, context.config.offsets_topic.partitions);
                if let Err(error) = self.serving_shard(partition) {
                    return self.end_stream(handle, None, error, context);
                }
                self.groups.next_stream += 1;
                let stream = StreamId(self.groups.next_stream);
                if let Some(shard) = self.groups.shards.get_mut(&partition) {
                    shard.streams.insert(stream, handle);
                }
                (partition, Command::Join { stream, join })
            }
            (MemberSays::Heartbeat(epoch), Some((partition, stream))) => {
                (partition, Command::Heartbeat { stream, epoch })
            }
            (MemberSays::Revoked { version, owned }, Some((partition, stream))) => (
                partition,
                Command::Revoked {
                    stream,
                    version,
                    owned,
                },
            ),
            (MemberSays::Leave, Some((partition, stream))) => (
                partition,
                Command::Leave {
                    stream,
                    keep_instance: false,
                },
            ),
            (_, None) => return,
        };
        self.shard_takes(partition, command, context);
    }

    /// A member's stream broke.
    pub(super) fn member_gone(&mut self, handle: Handle, context: &mut Context) {
        if let Some((partition, stream)) = self.stream_of(handle) {
            if let Some(shard) = self.groups.shards.get_mut(&partition) {
                shard.streams.remove(&stream);
            }
            self.shard_takes(partition, Command::Disconnected { stream }, context);
        }
    }

    /// Commits offsets; answers when they are replicated.
    pub(super) fn commit(
        &mut self,
        asker: Address,
        id: u64,
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        offsets: Vec<OffsetToCommit>,
        context: &mut Context,
    ) {
        let partition = partition_of(&group, context.config.offsets_topic.partitions);
        if let Err(error) = self.serving_shard(partition) {
            return self.answer(asker, id, Answer::Refused(error), context);
        }
        let request = self.wait(partition, asker, id, context);
        let command = Command::Commit {
            request,
            group,
            member,
            offsets,
        };
        self.shard_takes(partition, command, context);
    }

    /// Deletes a group; answers when that is replicated.
    pub(super) fn delete_group(&mut self, asker: Address, id: u64, group: GroupId, context: &mut Context) {
        let partition = partition_of(&group, context.config.offsets_topic.partitions);
        if let Err(error) = self.serving_shard(partition) {
            return self.answer(asker, id, Answer::Refused(error), context);
        }
        let request = self.wait(partition, asker, id, context);
        self.shard_takes(partition, Command::Delete { request, group }, context);
    }

    fn wait(&mut self, partition: PartitionIndex, asker: Address, id: u64, context: &Context) -> RequestId {
        self.groups.next_request += 1;
        let request = RequestId(self.groups.next_request);
        if let Some(shard) = self.groups.shards.get_mut(&partition) {
            let deadline = context.now + REPLICATE_TIMEOUT;
            shard.waiters.insert(request, (asker, id, deadline));
        }
        request
    }

    /// A committed offset; for a member fenced as a commit is.
    pub(super) fn committed(
        &mut self,
        group: &GroupId,
        member: Option<&(MemberId, MemberEpoch)>,
        partition: TopicIdPartition,
        context: &mut Context,
    ) -> Result<Answer, PartitionError> {
        let of = partition_of(group, context.config.offsets_topic.partitions);
        self.serving_shard(of)?;
        self.check_shard(of, context)?;
        let shard = self.groups.shards.get(&of).ok_or_else(not_here)?;
        let found = shard
            .turn()?
            .machine()
            .offsets(group, member, Some(&[partition]))?;
        Ok(Answer::Offset(found.first().map(|found| found.committed.offset)))
    }

    fn serving_shard(&self, partition: PartitionIndex) -> Result<(), PartitionError> {
        let shard = self.groups.shards.get(&partition).ok_or_else(not_here)?;
        shard.turn().map(drop)
    }

    fn stream_of(&self, handle: Handle) -> Option<(PartitionIndex, StreamId)> {
        self.groups.shards.iter().find_map(|(partition, shard)| {
            let stream = shard.streams.iter().find(|(_, known)| **known == handle);
            stream.map(|(stream, _)| (*partition, *stream))
        })
    }

    pub(super) fn end_stream(
        &mut self,
        handle: Handle,
        stream: Option<StreamId>,
        error: PartitionError,
        context: &mut Context,
    ) {
        let end = tidelog_group::Effect::End {
            stream: stream.unwrap_or(StreamId(0)),
            error: Some(error),
        };
        context.say(handle, Message::Coordinator(end));
        self.uses.remove(&handle);
        context.close(handle);
    }
}
