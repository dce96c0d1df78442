//! Coordinators on the partitions of a state topic that this broker leads.
//!
//! One *shard* a led partition: a task with a bounded queue that owns a pure machine
//! ([`tidelog_coordinator`]).
//!
//! 1. [`Runtime::lead`] starts a shard. It replays the partition to where it ended when the
//!    leadership began, and serves once the high watermark is there.
//! 2. Each command is decided, its records are appended as one batch (of removals as several), and
//!    the next command is taken at once: appends are pipelined. When the high watermark covers
//!    them, effects are told, in order.
//! 3. [`Runtime::resign`] drops the shard with all its state; everybody who waits is told.
//!
//! - `kind`: what differs between kinds of coordinators; groups (`crate::group`) are the first
//! - `runtime`: the shards of this broker, as others hold them
//! - `shard`, `load`: the task
//! - `log`: what a shard needs of the replicated log; `replica_log`: that, of this broker's
//!   replicas

mod kind;
mod load;
mod log;
#[cfg(test)]
pub(crate) mod memory_log;
mod replica_log;
mod runtime;
mod shard;

pub use kind::{Audience, Kind};
pub use log::{ReadRecords, StateLog};
pub use replica_log::ReplicaLog;
pub use runtime::{Runtime, ShardHandle};
