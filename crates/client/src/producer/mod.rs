//! Producing: records in, acknowledgements out.
//!
//! 1. [`Producer::enqueue`] waits for buffer memory, chooses a partition ([`topics`]) and copies
//!    the record into that partition's open batch ([`queue`]). Nothing is spawned or allocated for
//!    a record; a batch's records share one completion ([`delivery`]).
//! 2. One task a producer ([`driver`]) takes batches when their partition's turn has come, seals
//!    them, and puts those that go to the same broker at the same time into one message of that
//!    broker's stream ([`links`]).
//! 3. What is sent, sent again and given up is decided by a state machine for each partition
//!    ([`tidelog_producer::Line`]).

mod builder;
mod delivery;
mod driver;
mod handle;
mod links;
mod partition;
mod queue;
mod send_error;
mod topics;

pub use builder::{Acks, ProducerBuilder};
pub use delivery::DeliveryFuture;
pub use handle::Producer;
pub use send_error::SendError;

pub(crate) use tidelog_producer::Identity;
