//! What happened in a run of a cluster, as events, and the checker of every invariant over them.
//!
//! One checker serves simulated and real clusters. A run is recorded as a list of [`Event`]s; the
//! checker takes them one by one and stops at the first that no correct cluster can produce:
//!
//! ```
//! use tidelog_history::{Checker, Event, What};
//! # use std::time::Duration;
//! # fn run() -> Vec<Event> { vec![Event { at: Duration::ZERO, what: What::Ended { up: Vec::new() } }] }
//! let mut checker = Checker::new();
//! for event in run() {
//!     checker.take(&event)?;
//! }
//! checker.finish()?;
//! # Ok::<(), tidelog_history::Violation>(())
//! ```
//!
//! A [`Violation`] names the invariant, the number of the event (its index in the history, from 0)
//! and what it collides with. The cost is close to linear in the length of the history, so that a
//! simulation can judge every step of thousands of runs.
//!
//! # What it relies on
//!
//! - Events stand in the order in which they happened. Of clients, a `…Began` or `…Asked` is
//!   recorded before the request is sent and the answer after it arrived, so histories of several
//!   processes may be merged by time and nothing is concluded from the order of two requests that
//!   overlap.
//! - [`What::ReadToEnd`] begins when every send has come to its end: all that was acknowledged
//!   before it is recorded is demanded of it. [`What::GroupSettled`] comes when the group was
//!   handed all of the last one.
//! - An invariant whose events are missing holds vacuously: of real clusters nothing is known of
//!   the inside.
//! - An unclean election, where the topic allows it ([`What::UncleanElection`]), gives up, for its
//!   partition and from then on, what rests on committed records staying: C1, C2, C9, P17 and P23
//!   by promise, and C4, C5, C8, G15, P16, P18 and P24 because they follow from those. A
//!   registration shows by itself that its election was one. Where the topic does not allow it, it
//!   is against M29.
//!
//! # How it is built
//!
//! - [`event`]: the vocabulary
//! - [`invariant`]: the invariants, by number
//! - [`checker`]: takes events, keeps the state, asks every check
//! - `world`: what the events add up to: sends, logs of replicas, what is committed, registrations
//! - `invariants`: one file an invariant, with a history that it must reject and one that it must
//!   accept
//! - [`digest`]: a hash over a history, by which two runs are compared
//! - `render`: an event as a line for people
//!
//! To add an invariant: name it in [`invariant`]; write its file in `invariants` with a type that
//! implements `Check` and a `cases()` beside it; list it in `invariants.rs` and in
//! `invariants/tests.rs`. State that only one invariant needs stays in its type; what several need
//! belongs to `world`. A check must never reject a correct cluster: where an event leaves room, it
//! decides for the cluster.

pub mod checker;
pub mod digest;
pub mod event;
mod hash;
pub mod invariant;
mod invariants;
mod paged;
mod render;
#[cfg(test)]
mod script;
mod world;

pub use checker::{Checker, Violation, check};
pub use digest::Digest;
pub use event::{Event, What};
pub use invariant::Invariant;
