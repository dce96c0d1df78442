//! The consumer-group coordinator of one `__consumer_offsets` partition, as a pure state machine.
//!
//! The protocol is KIP-848's with pushed assignments. The server owns the assignment; a member
//! reconciles towards it by giving up first. In steps:
//!
//! 1. A join, a leave, a changed subscription or changed topics raise the *group epoch* and compute
//!    every member's *target* assignment ([`assignor`]).
//! 2. A member that holds more than its target is told to give the rest up. Until it acknowledges
//!    that, it keeps its *member epoch*, so that it may still commit what it gives up.
//! 3. A member with nothing to give up moves to the group epoch and gets those partitions of its
//!    target that nobody holds. The others follow as their holders acknowledge, or are removed for
//!    silence (G14).
//! 4. Every commit carries the member epoch; any other than the member's own is refused (G13).
//!
//! How it is built: `Coordinator::decide` looks and proposes, as data: [`Record`]s for the log and
//! [`Effect`]s for the world. [`State::replay`] is the only thing that changes replicated state.
//! What is decided builds on everything appended so far; what is *told* (answers, pushes, reads)
//! waits until the high watermark covers it. See [`Coordinator`] for how the two meet.
//!
//! No I/O, clock or randomness: time and fresh ids are passed in.
//!
//! - [`coordinator`]: the two states, what waits for the high watermark, and the entry points
//! - [`state`], [`record`]: the replicated state, and the records it is a replay of
//! - [`command`]: what goes in and what comes out
//! - [`decide`]: one file a kind of command
//! - [`assignor`]: who gets which partitions
//! - `refusals`: why a coordinator does not serve, in words
//! - [`sessions`]: streams and deadlines; soft state that dies with this coordinator
//! - [`topics`], [`subscription`]: what can be assigned, and who wants it

pub mod assignor;
pub mod command;
pub mod config;
pub mod coordinator;
pub mod decide;
mod errors;
pub mod ids;
pub mod limits;
pub mod record;
mod refusals;
pub mod sessions;
pub mod state;
pub mod subscription;
pub mod topics;

#[cfg(test)]
mod tests;

pub use assignor::AssignorName;
pub use command::{Command, CommitFailure, Decision, Effect, Join, OffsetToCommit, Reply};
pub use config::GroupConfig;
pub use coordinator::{Coordinator, GroupDescription, GroupSummary, MemberDescription, NamedOffset};
pub use ids::{
    AssignmentVersion, GroupEpoch, InstanceId, InvalidId, MemberEpoch, MemberId, RequestId, StreamId,
};
pub use record::{CommittedOffset, CurrentAssignment, GroupValue, MemberValue, Partitions, Record};
pub use state::{Group, GroupPhase, State};
pub use subscription::Subscription;
pub use topics::{Topic, Topics};
