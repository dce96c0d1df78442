//! The Rust client of Tidelog.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidelog_client::{Client, NewTopic, OffsetReset, Record};
//!
//! #[tokio::main]
//! async fn main() -> tidelog_client::Result<()> {
//!     let client = Client::builder(["localhost:7171"]).client_id("billing").connect().await?;
//!     client.admin().create_topic(NewTopic::new("orders").partitions(6)).await?;
//!
//!     let producer = client.producer().build().await?;
//!     let stored = producer.send(Record::to("orders").key("ada").value("two bolts")).await?;
//!     println!("stored in partition {} at offset {}", stored.partition, stored.offset);
//!     producer.close(Duration::from_secs(10)).await?;
//!
//!     let group = client.group("inventory").topics(["orders"]);
//!     let mut consumer = group.auto_offset_reset(OffsetReset::Earliest).build().await?;
//!     let record = consumer.recv().await?;
//!     println!("{:?}: {:?}", record.key, record.value);
//!     // Only what is marked is committed.
//!     consumer.mark(&record);
//!     consumer.close(Duration::from_secs(10)).await
//! }
//! ```
//!
//! Everything begins with a [`Client`], which knows the cluster and holds the connections:
//!
//! - [`Admin`]: topics, groups, offsets, the cluster
//! - [`Consumer`]: reads records, as a member of a group ([`Client::group`]) or from partitions
//!   chosen by hand ([`Client::consumer`])
//! - [`Producer`]: records in, acknowledgements out
//!
//! # Depending on it
//! It is not on crates.io. From a checkout, or from wherever the repository is:
//!
//! ```toml
//! [dependencies]
//! tidelog-client = { path = "../tidelog/crates/client" }       # or { git = "…" }
//! tokio = { version = "1", features = ["rt-multi-thread", "macros"] }
//! ```
//!
//! It needs Rust 1.95, has no features to choose, and runs on the tokio runtime in which the client
//! was made. It needs no `protoc`.
//!
//! # Errors and the log
//! An [`Error`] says what went wrong, whether the same call may succeed later
//! ([`Error::is_retriable`]), and whether a record may have been written all the same. What passes
//! is tried again inside, with growing pauses, before it is told: a loop that only logs what fails
//! costs nothing.
//!
//! The client speaks through `tracing`. At WARN it says, once, which address of which broker does
//! not answer, why, and that it answers again; and once a minute that nobody does. A program that
//! starts no subscriber hears none of it: `tracing_subscriber::fmt::init()` is enough.
//!
//! # Examples
//! Each is a program in `crates/client/examples`:
//! `cargo run -p tidelog-client --example NAME -- localhost:7171`
//!
//! | name | shows |
//! | --- | --- |
//! | `order_service` | three services that read what one publishes; scaled, killed and started again |
//! | `graceful_shutdown` | a service that ends by Ctrl-C or SIGTERM: nothing lost, its partitions handed over at once |
//! | `dead_letter` | retries, and a dead-letter topic for what cannot be processed |
//! | `json` | values in JSON with serde |
//! | `headers` | headers, timestamps, values that are null |
//! | `errors` | what to do about each [`ErrorKind`] |

#![warn(missing_docs)]

mod admin;
mod backoff;
mod client;
mod connection;
mod consumer;
mod coordinators;
mod error;
mod metadata;
mod offsets;
mod producer;
mod reachability;
mod record;
mod wire;

pub use tidelog_record::{Compression, HeaderIter, HeaderView, Headers};
pub use tidelog_types::{
    BrokerId, ClusterId, DirectoryId, ErrorCode, InvalidName, PartitionError, PartitionIndex, TopicId,
    TopicName, TopicPartition,
};

pub use admin::{
    Admin, BrokerDescription, BrokerFigures, BrokerStanding, ClusterDescription, CommittedOffset,
    ConfigChange, ConfigSource, CreatedTopic, GroupCoordinator, GroupDescription, GroupListing,
    GroupListings, GroupMember, NewTopic, PartitionDescription, TopicConfig, TopicDescription, TopicListing,
    TopicListings,
};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    AssignedConsumerBuilder, Committer, Consumer, Ends, GroupConsumerBuilder, HookFuture, Marker,
    OffsetAndMetadata, OffsetReset, RebalanceListener, StartAt,
};
pub use error::{Error, ErrorKind, Result};
pub use offsets::{OffsetAt, PartitionOffset};
pub use producer::{Acks, DeliveryFuture, Producer, ProducerBuilder, SendError};
pub use record::{ConsumedRecord, Header, Record, RecordMetadata};
