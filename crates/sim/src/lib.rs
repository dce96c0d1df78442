//! Deterministic simulation of whole clusters: the shipped `replica`, `cluster` and `group` code on simulated disks, network and time.
//!
//! [`run()`] draws a cluster, its clients and what breaks from a seed, and lets them live for some minutes of virtual time on one thread.
//! The history of that is checked while it is written, by [`tidelog_history`]. The same seed gives the same history.
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
