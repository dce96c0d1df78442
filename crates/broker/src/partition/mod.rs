//! The partition replicas of this broker: the driver of the `replica` crate.
//!
//! A [`Partition`] is a state machine under a short mutex. Requests come from tokio, progress from
//! the store's threads; each call into the machine performs its effects before it lets go of the
//! lock, and no effect waits for the disk: the store only enqueues, waiters are woken, the rest is
//! handed to a task.
//!
//! 1. [`ReplicaManager::append`] gives a batch its offsets and enqueues it: in the order of the
//!    calls. What it returns waits for the acknowledgement, so that many can be in flight.
//! 2. The store reports to [`StoreEvents`]; *written* feeds followers, *durable* moves the high
//!    watermark, which answers produces and wakes consumers' fetches.
//! 3. [`ReplicaManager::apply_image`] makes, moves and deletes replicas as cluster metadata says.
//! 4. [`ReplicaManager::run`] looks after what time changes: lagging followers, checkpoints,
//!    expiry.
//!
//! - `manager`: what this broker holds, and the store's reports
//! - `image`: cluster metadata, applied
//! - `partition`: one replica with its waiters
//! - `effects`: what a replica's effects mean here
//! - `produce`, `fetch`, `offsets`, `followers`: its callers
//! - `context`: what all partitions share
//! - `timers`: the one timer

mod context;
mod effects;
mod fetch;
mod fetch_budget;
mod followers;
mod image;
mod manager;
mod offsets;
#[expect(
    clippy::module_inception,
    reason = "the folder is about partitions, the file about one"
)]
mod partition;
mod produce;
mod readers;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod timers;

pub use context::{DiskRoom, DiskUse, FollowerLinks, Hooks, Limits, Role, RoleChange};
pub use fetch::{Answer, FetchSpec, Fetched, PartitionFetch, PartitionFetched};
pub use fetch_budget::FetchPermit;
pub use followers::{FollowerWaker, TakeError};
pub use manager::{ReplicaManager, StoreEvents};
pub use offsets::{OffsetQuery, QueriedOffset};
pub use partition::Partition;
pub use produce::{Acks, AppendPermit, Produce, ProduceCompletion, Produced};
