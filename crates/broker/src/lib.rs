//! The Tidelog broker: gRPC services, and the drivers that run the pure crates on tokio, disk and
//! network.

pub mod config;
pub mod controller;
pub mod coordinator;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod group;
pub mod grpc;
pub mod health;
pub mod http;
pub mod metrics;
pub mod partition;
pub mod replication;
pub mod server;

pub use server::{Addresses, Server, StartError};
pub use tidelog_cluster::configs::NAMES as TOPIC_CONFIGS;
