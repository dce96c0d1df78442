//! A coordinator over one partition of a replicated state topic, whatever it coordinates: how it
//! loads, works off commands and ends, as pure state machines.
//!
//! 1. The partition's leader makes an empty [`Machine`] and replays the log into it ([`Loading`]).
//! 2. Then [`Turn`] works: each command is decided, its records are appended, and its effects are
//!    told once the high watermark covers them.
//! 3. When the log refuses the leader, [`Leadership`] says whether the coordinator loads anew or
//!    ends.
//!
//! A driver supplies the log, the time and the streams, and performs what comes out. The broker and
//! the simulation drive the same machines. Consumer groups (`tidelog_group`) are the first
//! [`Machine`].
//!
//! - [`machine`]: what differs between kinds of coordinators
//! - [`turn`]: from a command to its effects
//! - [`loading`]: when a replay is complete
//! - [`leadership`]: from where to replay, and what a refusal of the log means

pub mod leadership;
pub mod loading;
pub mod machine;
pub mod turn;

pub use leadership::Leadership;
pub use loading::{LoadStep, Loading};
pub use machine::{Machine, Now, Refusal, Refused};
pub use turn::{Step, Turn};
