//! Batches against other implementations, against damage, and against each rule by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod arrive;
mod build;
mod craft;
mod fixtures;
mod hostile;
mod oracle;
mod refuse;
