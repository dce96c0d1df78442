//! One partition replica as a pure state machine: leader, follower or offline; high watermark, ISR,
//! fencing, truncation.
//!
//! Nothing here reads a clock, waits or touches a disk. Events and the time go in through the
//! methods of [`Replica`]; answers and [`Effect`]s come out, and whoever drives it performs them in
//! order. The same machine runs in a broker and in the simulation.
//!
//! The life of a produced batch, with the rules that each step keeps (docs/replication.md has them
//! all):
//!
//! 1. [`Replica::append`] checks the epoch (R6), the ISR (R2) and the producer's sequence (R9), and
//!    gives the batch its offsets.
//! 2. The driver writes it. [`Replica::written`] lets followers read it (R10).
//! 3. Followers fetch it ([`Replica::follower_fetch`]), append it ([`Replica::fetched`]) and report
//!    what is on their stable storage ([`Replica::follower_durable`]); the leader's own arrives by
//!    [`Replica::durable`].
//! 4. The high watermark moves to the lowest durable end over the maximal ISR (R1): the produce is
//!    answered, consumers read on.
//!
//! Cluster metadata moves a replica between its roles ([`Replica::apply`]: R3, R4, R8 as seen from
//! a replica), and the leader asks it for ISR changes (R7). A follower that took what its new
//! leader does not have truncates by epoch (R5).
//!
//! - [`replica`]: the machine and its inputs
//! - [`leader`], [`follower`], [`offline`]: one type a role
//! - [`log`]: what every role has: the log's ends, epochs and producers
//! - [`epochs`], [`producers`]: what is derived from batches, one implementation for appending,
//!   replicating and rebuilding
//! - [`effect`]: what the driver has to do
//! - [`messages`], [`fetched`]: what goes in and comes out
//!
//! Between two brokers runs one stream for all partitions that one follows and the other leads,
//! with a machine at either end:
//!
//! - [`link`]: the follower's side, what it says and when it connects
//! - [`feed`]: the leader's side, what it answers and when

pub mod effect;
pub mod epochs;
pub mod feed;
pub mod fetched;
pub mod follower;
pub mod isr;
pub mod leader;
pub mod link;
pub mod log;
pub mod messages;
pub mod offline;
pub mod producers;
pub mod replica;

pub use effect::{Effect, LostProduces};
pub use epochs::EpochCache;
pub use fetched::{DivergingEpoch, Fetched, LogRange};
pub use isr::{IsrChangeOutcome, IsrProposal};
pub use log::{LogState, ReplicaLog};
pub use messages::{
    AppendRequest, Appended, Assignment, ConsumerRead, FetchPosition, FetchedFromLeader, FollowerDurable,
    FollowerFetch, InvalidFetch, NewBatch, Progress,
};
pub use producers::{ProducerTable, SequenceCheck};
pub use replica::{PartitionStatus, Replica, Settings};
