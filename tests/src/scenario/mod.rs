//! Loads that tests, the demo and the full-year run share: a producer of numbered flights, and members of a group that read them.

mod load;
mod member;

pub use load::{Disturbance, Load, LoadReport, RowHeader};
pub use member::{Member, MemberReport};

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ledger::Ledger;

/// A ledger that producers and readers write together.
pub type SharedLedger = Arc<Mutex<Ledger>>;
