//! What goes into a coordinator, and what comes out.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_types::{
    GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicId, TopicIdPartition, TopicName,
};

use crate::ids::{AssignmentVersion, InstanceId, MemberEpoch, MemberId, RequestId, StreamId};
use crate::record::{Partitions, Record};
use crate::sessions::SessionChange;
use crate::subscription::Subscription;

/// One thing to decide.
#[derive(Debug, Clone)]
pub enum Command {
    /// A stream's first message: join, or resume.
    Join {
        /// The stream it came by.
        stream: StreamId,
        /// What it says.
        join: Box<Join>,
    },
    /// The member lives.
    Heartbeat {
        /// The stream it came by.
        stream: StreamId,
        /// The member's newest epoch.
        epoch: MemberEpoch,
    },
    /// The member gave up what an assignment took away.
    Revoked {
        /// The stream it came by.
        stream: StreamId,
        /// The assignment this answers.
        version: AssignmentVersion,
        /// Everything it still owns.
        owned: BTreeSet<TopicIdPartition>,
    },
    /// The member wants to read something else.
    Subscribe {
        /// The stream it came by.
        stream: StreamId,
        /// What it wants now.
        subscription: Subscription,
    },
    /// The member leaves.
    Leave {
        /// The stream it came by.
        stream: StreamId,
        /// A static member that will be back keeps its partitions until its session ends.
        keep_instance: bool,
    },
    /// A stream broke. Its member stays until its session ends.
    Disconnected {
        /// Which.
        stream: StreamId,
    },
    /// Commit offsets.
    Commit {
        /// Where the reply goes.
        request: RequestId,
        /// For which group.
        group: GroupId,
        /// By whom, in which epoch; `None` for a consumer that is no member.
        member: Option<(MemberId, MemberEpoch)>,
        /// What.
        offsets: Vec<OffsetToCommit>,
    },
    /// Delete an empty group and its offsets.
    Delete {
        /// Where the reply goes.
        request: RequestId,
        /// Which.
        group: GroupId,
    },
    /// Members were silent, or too slow in giving partitions up. Due by itself.
    Expire {
        /// Of which group.
        group: GroupId,
        /// Who.
        members: Vec<MemberId>,
    },
    /// Topics changed that concern the group. Due by itself.
    TopicsChanged {
        /// Which.
        group: GroupId,
    },
    /// The group has offsets that have reached their age. Due by itself.
    ExpireOffsets {
        /// Which.
        group: GroupId,
    },
}

/// A join (epoch 0), or the resumption of a broken stream (the last epoch, and everything still
/// owned).
#[derive(Debug, Clone)]
pub struct Join {
    /// The group.
    pub group: GroupId,
    /// The member's id: a fresh one if it named none.
    pub member: MemberId,
    /// 0 to join; else the last epoch it was given.
    pub epoch: MemberEpoch,
    /// Its static name.
    pub instance_id: Option<InstanceId>,
    /// What it wants to read.
    pub subscription: Subscription,
    /// Everything it still owns.
    pub owned: BTreeSet<TopicIdPartition>,
    /// Name for people.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give partitions up.
    pub max_poll_interval: Duration,
}

/// One offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: TopicName,
    /// The topic's id, if the consumer named it: its records are those that were processed.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset to go on from.
    pub offset: Offset,
    /// Leader epoch of the last processed record, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The consumer's note.
    pub metadata: String,
}

/// One offset that was not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitFailure {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// Why.
    pub error: PartitionError,
}

/// What a coordinator proposes: records to append and, once they are replicated, effects to
/// perform. Nothing of it has happened yet; dropping it leaves no trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a decision is only a proposal until it is applied"]
pub struct Decision {
    /// For the log: in one batch, unless the decision may be cut.
    pub records: Vec<Record>,
    /// For the world, after the high watermark has covered the records.
    pub effects: Vec<Effect>,
    /// Its records may be appended in several batches, of which the later ones may be lost.
    /// Removals of offsets and of groups are so: a part of them is a state that a client may see,
    /// and they are unbounded. Every other decision fits a batch, by the limits of groups and of
    /// the cluster.
    pub may_be_cut: bool,
    pub(crate) sessions: Vec<SessionChange>,
    pub(crate) group: Option<GroupId>,
}

impl Decision {
    /// The first records alone, without any effect.
    pub(crate) fn first_records(mut self, count: usize) -> Self {
        self.records.truncate(count);
        Self {
            records: self.records,
            may_be_cut: true,
            ..Self::default()
        }
    }
}

/// What a coordinator tells the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The first event of a stream.
    Joined {
        /// To whom.
        stream: StreamId,
        /// Who it is from now on.
        member: MemberId,
        /// Its epoch.
        epoch: MemberEpoch,
    },
    /// What a member shall own.
    Assign {
        /// To whom.
        stream: StreamId,
        /// Which assignment of this stream.
        version: AssignmentVersion,
        /// The member's epoch with it.
        epoch: MemberEpoch,
        /// All of it. What the member owns beyond this it gives up.
        partitions: Partitions,
        /// Subscribed names that do not exist.
        unknown_topics: Vec<TopicName>,
    },
    /// A heartbeat was heard.
    HeartbeatAnswer {
        /// To whom.
        stream: StreamId,
        /// The member's epoch.
        epoch: MemberEpoch,
    },
    /// The stream is at its end.
    End {
        /// Which.
        stream: StreamId,
        /// Why; `None` after an orderly leave.
        error: Option<PartitionError>,
    },
    /// A request's reply.
    Reply {
        /// Which request.
        request: RequestId,
        /// What became of it.
        reply: Reply,
    },
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of a commit: the partitions refused, or why the whole was.
    Committed(Result<Vec<CommitFailure>, PartitionError>),
    /// Of a deletion.
    Deleted(Result<(), PartitionError>),
}
