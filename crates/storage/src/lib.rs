//! Partition logs on one disk: the RocksDB engine that keeps the contract
//! [`LogStore`](tidelog_log::LogStore).

mod batch_header;
mod cache;
pub mod rocks;

#[cfg(feature = "fuzzing")]
pub use rocks::fuzz;
pub use rocks::{
    DirectoryMeta, OpenError, ReadOnlyStore, RocksOptions, RocksStore, Space, create_dir_durably,
};
