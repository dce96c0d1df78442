//! The records of `__consumer_offsets`, as domain types. Their bytes are the driver's matter.
//!
//! The topic is compacted: of each key only the newest record is sure to be there, so a replay may
//! meet a member's target before the member itself. A record therefore never relies on another that
//! came before it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{GroupId, LeaderEpoch, Offset, TopicIdPartition};

use crate::ids::{GroupEpoch, InstanceId, MemberEpoch, MemberId};
use crate::{AssignorName, Subscription};

/// A set of partitions, shared between states, pushes and records.
pub type Partitions = Arc<BTreeSet<TopicIdPartition>>;

/// One record: a key, and its newest value or `None` for "gone" (a tombstone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A group.
    Group {
        /// Which.
        group: GroupId,
        /// What it is now.
        value: Option<GroupValue>,
    },
    /// A member's own words.
    Member {
        /// Of which group.
        group: GroupId,
        /// Which.
        member: MemberId,
        /// What it said.
        value: Option<Arc<MemberValue>>,
    },
    /// What a member shall own in the end.
    Target {
        /// Of which group.
        group: GroupId,
        /// Which.
        member: MemberId,
        /// All of it.
        value: Option<Partitions>,
    },
    /// What a member owns.
    Current {
        /// Of which group.
        group: GroupId,
        /// Which.
        member: MemberId,
        /// All of it, and its epoch.
        value: Option<Arc<CurrentAssignment>>,
    },
    /// A committed offset.
    Offset {
        /// Of which group.
        group: GroupId,
        /// Which partition. By topic id: a topic created anew under its name starts without
        /// offsets.
        partition: TopicIdPartition,
        /// The offset.
        value: Option<CommittedOffset>,
    },
}

impl Record {
    /// The group it belongs to.
    pub fn group(&self) -> &GroupId {
        match self {
            Self::Group { group, .. }
            | Self::Member { group, .. }
            | Self::Target { group, .. }
            | Self::Current { group, .. }
            | Self::Offset { group, .. } => group,
        }
    }
}

/// A group as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupValue {
    /// Counts target assignments.
    pub epoch: GroupEpoch,
    /// The assignor in use.
    pub assignor: AssignorName,
    /// Since when it has no members, milliseconds since 1970; `None` while it has some.
    pub empty_since_ms: Option<i64>,
}

/// What a member said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// Its static name, if it has one.
    pub instance_id: Option<InstanceId>,
    /// What it wants to read.
    pub subscription: Subscription,
    /// Name for people.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give partitions up.
    pub max_poll_interval: Duration,
}

/// What a member owns, and how far it has reconciled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurrentAssignment {
    /// The group epoch it has reached.
    pub epoch: MemberEpoch,
    /// The one it had before: accepted on resume if what it owns shows that only the answer was
    /// lost.
    pub previous_epoch: MemberEpoch,
    /// What it may own.
    pub assigned: Partitions,
    /// What it was told to give up and may still own. Nobody else gets it before it says so.
    pub revoking: Partitions,
}

/// How far a group has processed a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset to go on from.
    pub offset: Offset,
    /// Leader epoch of the last processed record, if the consumer named it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The consumer's own note.
    pub metadata: String,
    /// When it was committed, milliseconds since 1970.
    pub committed_ms: i64,
}
