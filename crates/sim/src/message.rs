//! What brokers and clients say to each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::{Command, Outcome};
use tidelog_group::{AssignmentVersion, CommitFailure, Effect, Join, MemberEpoch, MemberId, OffsetToCommit};
use tidelog_history::event::{Life, Value};
use tidelog_replica::Progress;
use tidelog_replica::feed::Answer as FollowerAnswer;
use tidelog_replica::link::Request;
use tidelog_types::{
    BrokerEpoch, BrokerId, GroupId, LeaderEpoch, Offset, PartitionError, ProducerId, ProducerStamp,
    TopicIdPartition,
};

use crate::disk::Batch;
use crate::raft::RaftMessage;

/// A machine of the run: a broker or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    Broker(BrokerId),
    Client(u32),
}

/// A process on a machine. What was meant for one life of it never reaches another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) site: Site,
    pub(crate) life: Life,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A broker's session with the metadata leader.
    Session,
    /// A follower's stream to a leader, opened by a broker of this epoch.
    Replication(BrokerEpoch),
    /// A producer's stream.
    Produce,
    /// A member's stream to its coordinator.
    Group,
}

/// A message between two machines.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Raft(RaftMessage),
    Propose {
        id: u64,
        command: Arc<Command>,
    },
    Proposed {
        id: u64,
        result: Proposed,
    },
    Heartbeat {
        epoch: BrokerEpoch,
        sequence: u64,
    },
    HeartbeatAnswer {
        sequence: u64,
        stale: bool,
        fenced: bool,
    },
    /// Of a follower. Empty: a sign of life.
    ReplicaFetch(Request),
    ReplicaAnswer {
        answers: Vec<FollowerAnswer<Vec<Batch>>>,
        progress: Vec<(TopicIdPartition, Progress)>,
    },
    Ask {
        id: u64,
        ask: Ask,
    },
    Answer {
        id: u64,
        answer: Answer,
    },
    Produce {
        attempt: u64,
        partition: TopicIdPartition,
        leader_epoch: Option<LeaderEpoch>,
        payload: Arc<Payload>,
        /// How long the answer may take.
        timeout: Duration,
    },
    Produced {
        attempt: u64,
        result: Result<(Offset, LeaderEpoch), PartitionError>,
    },
    Member(MemberSays),
    Coordinator(Effect),
}

/// What came of a proposal.
#[derive(Debug, Clone)]
pub(crate) enum Proposed {
    Applied(Outcome),
    NotLeader,
    Indeterminate,
}

/// What a producer's batch holds.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) values: Vec<Value>,
    pub(crate) stamp: Option<ProducerStamp>,
}

/// A client's question.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Metadata,
    InitProducer,
    Fetch {
        partition: TopicIdPartition,
        leader_epoch: Option<LeaderEpoch>,
        offset: Offset,
        max_batches: usize,
        max_wait: Duration,
    },
    /// Where the log begins and where it ends for consumers.
    Ends {
        partition: TopicIdPartition,
        leader_epoch: Option<LeaderEpoch>,
    },
    /// Removes old records, at most up to the high watermark.
    Trim {
        partition: TopicIdPartition,
        back: u64,
    },
    Commit {
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        offsets: Vec<OffsetToCommit>,
    },
    DeleteGroup(GroupId),
    Offsets {
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        partition: TopicIdPartition,
    },
}

/// A broker's answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Every partition with its leader, as this broker knows.
    Metadata(Vec<(TopicIdPartition, Option<BrokerId>, LeaderEpoch)>),
    Producer(ProducerId),
    Fetched {
        batches: Vec<Batch>,
        log_start: Offset,
        leader_epoch: LeaderEpoch,
        /// Where to read on.
        next: Offset,
    },
    Ends {
        start: Offset,
        end: Offset,
        leader_epoch: LeaderEpoch,
    },
    Committed(Vec<CommitFailure>),
    Offset(Option<Offset>),
    Done,
    Refused(PartitionError),
}

/// What a member says on its stream.
#[derive(Debug, Clone)]
pub(crate) enum MemberSays {
    Join(Box<Join>),
    Heartbeat(MemberEpoch),
    Revoked {
        version: AssignmentVersion,
        owned: BTreeSet<TopicIdPartition>,
    },
    Leave,
}
