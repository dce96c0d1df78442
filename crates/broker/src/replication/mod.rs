//! Pulling from leaders, and serving followers: one stream for each pair of brokers and direction,
//! all partitions multiplexed.
//!
//! What is said on a stream, and when, is decided by [`tidelog_replica::link`] on the follower's
//! side and [`tidelog_replica::feed`] on the leader's. Here they are driven:
//!
//! 1. A partition that follows queues itself with the [`Links`]; the link to its leader asks it
//!    what it wants when the stream has room for a message.
//! 2. The leader's [`ReplicationService`] asks partitions for what answers the fetches, and reads
//!    from the disk beside the stream.
//! 3. The follower enqueues what it got and fetches on at once, ahead of its own disk. How far its
//!    disk is it says apart from fetching, as soon as it moves.
//!
//! - `link`: the follower's side of a stream
//! - `links`: all of them
//! - `service`, `session`: the leader's side
//! - `wire`: the messages

mod link;
mod links;
mod service;
mod session;
pub(crate) mod wire;

use std::sync::Arc;

use tidelog_metadata::peer::PeerChannel;
use tidelog_types::BrokerId;

pub use links::Links;
pub use service::ReplicationService;

/// How another broker is reached: a channel to its peer address, or why there is none now. Asked
/// before every attempt to connect.
pub type Connect = Arc<dyn Fn(BrokerId) -> Result<PeerChannel, tonic::Status> + Send + Sync>;
