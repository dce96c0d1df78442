//! What consumer groups cost and how soon they are felt.
//!
//! - [`rebalance`]: from a join to the new owner's first record, and whether the others notice
//! - [`scale`]: ten thousand members on one broker
//! - [`loading`]: how soon a coordinator serves that has a million commits behind it

pub(crate) mod loading;
pub(crate) mod rebalance;
pub(crate) mod scale;
