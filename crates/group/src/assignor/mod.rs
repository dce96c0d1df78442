//! Who gets which partitions. An assignor is a pure function of members, topics and the assignment
//! before.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use tidelog_types::{ErrorCode, PartitionError, TopicId, TopicIdPartition};

use crate::ids::{InstanceId, MemberId};
use crate::record::Partitions;

/// The assignors there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AssignorName {
    /// Balanced within one over all topics, moving as little as possible.
    #[default]
    Uniform,
    /// Each topic in contiguous ranges, the same members first: equal partition numbers of equally
    /// large topics meet at one member.
    Range,
}

impl AssignorName {
    /// Kafka's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

impl fmt::Display for AssignorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AssignorName {
    type Err = PartitionError;

    /// Empty is the default; UNSUPPORTED_ASSIGNOR for a name that is none.
    fn from_str(name: &str) -> Result<Self, PartitionError> {
        match name {
            "" | "uniform" => Ok(Self::Uniform),
            "range" => Ok(Self::Range),
            other => {
                let other: String = other.chars().take(64).collect();
                let message = format!("there is no assignor {other:?}: use \"uniform\" or \"range\"");
                Err(PartitionError::new(ErrorCode::UnsupportedAssignor, message))
            }
        }
    }
}

/// One member, as an assignor sees it.
#[derive(Debug, Clone, Default)]
pub struct MemberSpec {
    /// Its static name: `range` sorts by it, so that a restart changes nothing.
    pub instance_id: Option<InstanceId>,
    /// The existing topics it subscribes to.
    pub topics: BTreeSet<TopicId>,
    /// Its target so far.
    pub previous: Partitions,
}

/// What to assign, and to whom.
#[derive(Debug, Clone, Default)]
pub struct AssignmentSpec {
    /// The members.
    pub members: BTreeMap<MemberId, MemberSpec>,
    /// How many partitions each subscribed topic has.
    pub topics: BTreeMap<TopicId, u32>,
}

/// What each member shall own. Every partition of a subscribed topic has exactly one owner, which
/// subscribes to it.
pub type Assignment = BTreeMap<MemberId, BTreeSet<TopicIdPartition>>;

/// Computes an assignment.
pub fn assign(name: AssignorName, spec: &AssignmentSpec) -> Assignment {
    match name {
        AssignorName::Uniform => uniform::assign(spec),
        AssignorName::Range => range::assign(spec),
    }
}

/// The assignor that most members prefer; `uniform` wins a draw.
pub fn preferred(votes: impl IntoIterator<Item = AssignorName>) -> AssignorName {
    let (mut uniform, mut range) = (0_usize, 0_usize);
    for vote in votes {
        match vote {
            AssignorName::Uniform => uniform += 1,
            AssignorName::Range => range += 1,
        }
    }
    if range > uniform {
        AssignorName::Range
    } else {
        AssignorName::Uniform
    }
}
