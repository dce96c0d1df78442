//! Members of a group as processes of their own, to be killed and paused, and what became of them.
//!
//! - [`told`]: what a member writes down, line by line, as it happens
//! - [`member`]: the member's program
//! - [`process`]: its process, as a test holds it
//! - [`judge`]: whether it all went right

pub mod judge;
pub mod member;
pub mod process;
pub mod told;
