//! The Rust client of Tidelog.
//!
//! Everything begins with a [`Client`], which knows the cluster and holds the connections:
//!
//! - [`Admin`]: topics, groups, offsets, the cluster
//! - [`Consumer`]: reads records, as a member of a group ([`Client::group`]) or from partitions chosen by hand ([`Client::consumer`])
//! - [`Producer`]: records in, acknowledgements out
//!
//! An [`Error`] says what went wrong, whether the same call may succeed later, and whether a record may have been written all the same.
//!
//! Everything here runs on the tokio runtime in which the client was made.

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

pub use tidelog_record::{Compression, HeaderView, Headers};
pub use tidelog_types::{ErrorCode, PartitionIndex, TopicName, TopicPartition};

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, CommittedOffset, ConfigChange, CreatedTopic,
    GroupDescription, GroupListing, GroupMember, NewTopic, PartitionDescription, TopicDescription,
    TopicListing,
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
