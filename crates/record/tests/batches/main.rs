//! Batches against other implementations, against damage, and against each rule by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![expect(clippy::disallowed_methods, reason = "fixtures stand in files")]

mod arrive;
mod build;
mod craft;
mod fixtures;
mod hostile;
mod oracle;
mod refuse;
