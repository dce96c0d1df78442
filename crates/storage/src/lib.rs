//! Partition logs on one disk: the [`LogStore`] contract, the RocksDB engine that keeps it, and the in-memory model that the
//! engine is held to.

mod batch_header;
mod cache;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod log_store;
mod memory;
pub mod rocks;

pub use log_store::{
    Append, BatchToAppend, LogStore, PartitionLog, Progress, ReadBatches, StoreError, StoreListener,
    StoredPartition, Truncate,
};
pub use memory::MemoryStore;
#[cfg(feature = "fuzzing")]
pub use rocks::fuzz;
pub use rocks::{
    DirectoryMeta, OpenError, ReadOnlyStore, RocksOptions, RocksStore, Space, create_dir_durably,
};
