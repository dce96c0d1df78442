//! What happened in a run of a cluster, as events.
//!
//! - [`event`]: the vocabulary

pub mod event;

pub use event::{Event, What};
