//! A producer's batches on their way to one partition, as a pure state machine: what is sent, what
//! is sent again, and what is given up.
//!
//! Nothing here reads a clock, waits or sends. Answers and the time go in through the methods of
//! [`Line`], [`Effect`]s come out, and a driver performs them in order. The client and the
//! simulation drive the same line.
//!
//! - [`mod@line`]: the machine
//! - [`pauses`]: how long to wait before trying again

pub mod line;
pub mod pauses;

pub use line::{Answer, BatchId, Cause, Effect, Identity, Line, LineSettings, NewBatch, Why};
