//! What tests of a [`LogStore`](crate::LogStore) need, and the suite that every store passes:
//! random histories of calls and restarts, compared with a plain reference.

mod batches;
mod machine;
mod recorder;
mod reference;

pub use batches::BatchSpec;
#[cfg(test)]
pub(crate) use machine::compare;
pub use machine::{Subject, check};
pub use recorder::{Heard, Recorder};
#[cfg(test)]
pub(crate) use reference::{Draw, draws};
pub use reference::{RefLog, Reference, Step};
