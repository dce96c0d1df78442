//! A producer over real streams, against brokers that do as a test says.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not see as such

mod fake;

mod batching;
mod lifecycle;
mod retrying;

use tidelog_client::Record;

/// A record without a key to partition 0.
fn record(value: impl ToString) -> Record {
    Record::to(fake::TOPIC).partition(0).value(value.to_string())
}
