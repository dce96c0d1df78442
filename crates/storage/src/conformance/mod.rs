//! What tests of a [`crate::LogStore`] need, and the suite that both of ours run: random histories of calls and restarts,
//! compared with a plain reference.

mod batches;
#[cfg(test)]
mod machine;
mod recorder;
#[cfg(test)]
pub(crate) mod reference;

pub use batches::BatchSpec;
pub use recorder::{Heard, Recorder};
