//! Pulling from leaders, and serving followers: one stream for each pair of brokers and direction, all partitions multiplexed.
//!
//! 1. A partition that begins to follow queues itself with the [`Links`]; the link to its leader asks it where to fetch from and sends
//!    that along with whatever else there is to say: what piles up while the stream is busy goes out as one message.
//! 2. The leader's [`ReplicationService`] keeps at most one fetch a partition and stream. One that cannot be answered costs
//!    nothing: the partition wakes the stream when something is written, or its epoch ends.
//! 3. The follower enqueues what it got and fetches on at once, ahead of its own disk. How far its disk is it says apart from
//!    fetching, as soon as it moves.
//! 4. High watermarks ride along with answers, or follow shortly after.
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

pub use links::{Connect, Links};
pub use service::ReplicationService;
