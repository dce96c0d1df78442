//! Cluster metadata as a pure state machine: commands in, changes out, an immutable image for
//! readers.
//!
//! The metadata log carries [`Command`]s. Every broker applies them in log order, in two steps:
//!
//! 1. [`decide()`] validates a command against the image as it is *when the command is applied*, by
//!    compare-and-set on epochs, and yields [`Change`]s and a result. A refusal is a result like
//!    any other: it is the same on every broker.
//! 2. [`ClusterImage::replay`] performs the changes. It is the only mutator.
//!
//! Nothing here reads a clock, draws a random number or touches a disk: whoever proposes a command
//! stamps what it needs (topic ids, where placement starts), and a broker's epoch is the log index
//! of its registration. So the image after index *i* is the same everywhere (M26).
//!
//! - [`command`], [`outcome`], [`change`]: what goes in, what comes back, what happens
//! - [`image`]: the state, shared by `Arc`; [`ImageDelta`] names what differs between two of them
//! - [`broker`], [`ids`]: a broker in that state, and how it is named
//! - [`mod@decide`]: one file a family of commands
//! - [`election`]: leaders, ISR and ELR of one partition (R8, KIP-966)
//! - [`placement`]: which brokers hold a new topic's replicas
//! - [`plan`]: what an image asks of a broker's replicas, and when the broker serves (R3)
//! - [`configs`]: topic configs by Kafka's names
//! - [`session`]: a broker's own session, as it sees it. Soft state of that broker
//! - [`duties`]: whom the metadata leader fences. Soft state of that broker
//! - [`sessions`]: who is alive, as the metadata leader sees it. Soft state of one broker, not of
//!   the log

pub mod broker;
pub mod change;
pub mod command;
pub mod configs;
pub mod decide;
pub mod duties;
pub mod election;
pub mod ids;
pub mod image;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod session;
pub mod sessions;
#[cfg(test)]
mod testing;

pub use broker::BrokerImage;
pub use change::Change;
pub use command::Command;
pub use configs::TopicConfigs;
pub use decide::decide;
pub use ids::{BrokerIncarnation, Listener};
pub use image::{ClusterImage, ImageDelta, MetadataIndex, TopicImage};
pub use outcome::{Accepted, Outcome};
