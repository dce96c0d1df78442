//! Generated gRPC and storage messages, and their conversions to domain types.
//!
//! - [`v1`]: the public API
//! - [`internal`]: broker to broker
//! - [`storage`]: what is kept on disk; additive only
//! - [`convert`]: one module a message family
//! - [`keys`]: names of request and response metadata
//!
//! Protobuf is named here and at the edges that `docs/architecture.md` lists, nowhere else.

#![warn(missing_docs)]

/// The public API, `tidelog.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic
)]
pub mod v1 {
    tonic::include_proto!("tidelog.v1");
}

/// Broker to broker.
pub mod internal {
    /// `tidelog.internal.v1`.
    #[allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic
    )]
    pub mod v1 {
        tonic::include_proto!("tidelog.internal.v1");
    }
}

/// What is kept on disk.
pub mod storage {
    /// `tidelog.storage.v1`.
    #[allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic
    )]
    pub mod v1 {
        tonic::include_proto!("tidelog.storage.v1");
    }
}

pub mod convert;
pub mod keys;

/// Every `.proto` file, compiled: what gRPC reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
