//! Deterministic simulation of whole clusters: the shipped code of `replica`, `cluster`,
//! `coordinator`, `group` and `producer` on simulated disks, network and time.
//!
//! [`run()`] draws a cluster, its clients and what breaks from a seed, and lets them live for some
//! minutes of virtual time on one thread. The history of that is checked while it is written, by
//! [`tidelog_history`]. The same seed gives the same history.
//!
//! - `schedule`, `random`, `context`: virtual time, chance, and what everything shares
//! - `disk`, `network`: what forgets, delays and breaks
//! - `raft`: the metadata log
//! - `broker`: a broker's process, the drivers around the pure crates
//! - `clients`: producers, readers, members of a group
//! - `config`, `faults`, `world`: what a run is of, what breaks in it, and the loop of events
//! - [`mod@run`], `recorder`, `panics`: a run from its seed to its verdict
//! - [`report`]: many runs, and what is said of them
//! - `known`, in a build with mutants: what notices each
//!
//! # What is a model, and what is not there
//!
//! What decides is what ships: the crates `replica`, `cluster`, `coordinator`, `group` and
//! `producer`, and `history` that judges. What drives them in a broker or a client is not:
//! `broker`, `clients`, `raft` and `disk` stand for it, and a bug of the real drivers is for the
//! tests of those, the torture and the crash tests to find.
//!
//! - **openraft** and its storage: `raft` is a small Raft of its own that keeps the same promises.
//!   Every node has the whole log, nothing is purged and no snapshot is sent; a node that starts
//!   builds its image from its own snapshot and the entries behind that. The real ones are tested
//!   in the crate `metadata`.
//! - **RocksDB**: `disk` is [`tidelog_log::disk`], the model that passes the suite of every store:
//!   one log for all partitions, of which a crash leaves a prefix. It never
//!   returns damaged bytes, and frees no space. It never runs full; coordinators are refused now
//!   and then as if it did.
//! - **gRPC**, protobuf and the encoding of records: messages are values, batches are headers with
//!   numbered records, of which each is its own. A stream has no flow control, so no back-pressure
//!   is met. Of the limits of bytes those of a follower's stream are, which are drawn small.
//! - **Time**: each process has a clock that starts anywhere and is off by up to 1 % (the Raft's
//!   timers go by the true time). Nobody reads the time of day: timestamps, retention, compaction
//!   and the expiry of offsets and of producers are not simulated.
//! - **Administration**: topics are made once and never deleted or grown. Unclean elections, and
//!   produces of `acks=1` and `acks=0`, do not occur. Trims come from clients; no client of a real
//!   broker can ask for one yet.
//! - **Threads**: a driver's turn is not interrupted. What a broker reads or writes beside it
//!   happens in turns of its own, at random later times.

mod broker;
mod clients;
mod config;
mod context;
mod disk;
mod faults;
#[cfg(feature = "mutants")]
pub mod known;
mod message;
mod network;
mod panics;
mod raft;
mod random;
mod recorder;
pub mod report;
pub mod run;
mod schedule;
mod world;

pub use recorder::{Broken, Options, Seen};
pub use run::{Verdict, Violation, run};
