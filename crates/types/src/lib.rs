//! Ids, offsets, epochs, error codes and limits: the words that every crate of Tidelog shares.
//!
//! This crate is a leaf. It knows no runtime, no protobuf and no disk, and it is not a drawer for
//! whatever has no other place: a type stands here only because two crates that must not know each
//! other speak of it.
//!
//! - [`ids`]: brokers, topics, partitions, directories, clusters, producers
//! - [`offset`]: offsets and epochs
//! - [`host_port`]: addresses, as flags, files and brokers write them
//! - [`check_topic_id`]: whether the topic that a request means is the one that has its name now
//! - [`names`]: topic names and group ids, valid by construction
//! - [`batch`]: what the broker knows of a record batch without opening it
//! - [`log_state`]: what a partition's log remembers beside its batches: leader epochs, producers
//! - [`partition`]: a partition as cluster metadata registers it
//! - [`error_code`]: Kafka's error codes, by name and number
//! - [`limits`]: every named maximum that more than one crate obeys
//! - [`mutant`]: rules that tests break on purpose
//! - [`crash`]: points at which tests let a process die
//! - [`murmur2()`]: Kafka's hash, which places keys and groups

#![warn(missing_docs)]

pub mod batch;
pub mod crash;
pub mod error_code;
pub mod host_port;
pub mod ids;
pub mod limits;
pub mod log_state;
mod meant;
mod murmur2;
pub mod mutant;
pub mod names;
pub mod offset;
pub mod partition;

pub use batch::{BatchInfo, ProducerStamp};
pub use error_code::{ErrorCode, PartitionError};
pub use host_port::{HostPort, InvalidHostPort};
pub use ids::{
    BrokerId, ClusterId, DirectoryId, LocalPartition, PartitionIndex, ProducerId, TopicId, TopicIdPartition,
    TopicPartition,
};
pub use log_state::{EpochEntry, ProducerState, RememberedBatch};
pub use meant::check_topic_id;
pub use murmur2::{coordinator_partition, murmur2, partition_for_key};
pub use mutant::Mutant;
pub use names::{GroupId, InvalidName, TopicName};
pub use offset::{BrokerEpoch, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, Sequence};
pub use partition::PartitionRegistration;
