//! Partition logs without a disk: what a broker asks of a store, and what it may rely on.
//!
//! - [`LogStore`]: the contract. `tidelog-storage` keeps it on RocksDB
//! - [`disk`]: the model of a store's disk, which the simulation runs on
//! - [`MemoryStore`]: the contract kept on that model, for tests
//! - `conformance`: the suite that every store passes, with the feature of that name

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
pub mod conformance;
pub mod disk;
mod log_store;
mod memory;

pub use log_store::{
    Append, BatchToAppend, LogStore, PartitionLog, Progress, ReadBatches, StoreError, StoreListener,
    StoredPartition, Truncate,
};
pub use memory::MemoryStore;
