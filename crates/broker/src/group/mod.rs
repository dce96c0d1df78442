//! Consumer groups on led partitions of `__consumer_offsets`.
//!
//! Each led partition has a coordinator (`crate::coordinator`) whose machine is that of
//! `tidelog_group`.
//!
//! - `handle`: [`Groups`], what the rest of the broker asks
//! - `kind`, `audience`: groups as a kind of coordinators, and who is told
//! - `codec`: records as bytes; protobuf stops there
//! - `topics`: cluster metadata, as far as groups care

mod audience;
pub(crate) mod codec;
mod handle;
mod kind;
#[cfg(test)]
pub(crate) mod tests;
mod topics;

pub use audience::{GroupAudience, Request};
pub use handle::{Groups, MemberStream};
pub use kind::GroupKind;
pub use topics::topics_of;
