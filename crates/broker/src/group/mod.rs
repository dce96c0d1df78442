//! Consumer-group coordinators on led partitions of `__consumer_offsets`.
//!
//! One *shard* a led partition: a task with a bounded queue that owns the pure coordinator of `tidelog_group`.
//!
//! 1. [`Groups::lead`] starts a shard. It replays the partition to where it ended when the leadership began, and
//!    serves once the high watermark is there; until then everybody is told COORDINATOR_LOAD_IN_PROGRESS.
//! 2. Each command is decided, its records are appended as one batch, and the next command is taken at once: appends are
//!    pipelined. When the high watermark covers them, answers and pushes go out, in order.
//! 3. [`Groups::resign`] drops the shard with all its state; whoever waits is told NOT_COORDINATOR.
//!
//! - `handle`: [`Groups`], what the rest of the broker holds
//! - `shard`, `load`: the task
//! - `log`: what a shard needs of the replicated log; `replica_log`: that, of this broker's replicas
//! - `codec`: records as bytes; protobuf stops there

pub(crate) mod codec;
mod handle;
mod load;
mod log;
#[cfg(test)]
pub(crate) mod memory_log;
mod replica_log;
mod shard;
#[cfg(test)]
pub(crate) mod tests;
mod topics;

pub use handle::{Groups, Session};
pub use log::{OffsetsLog, ReadRecords};
pub use replica_log::ReplicaLog;
pub use topics::{follow_roles, topics_of};
