//! Raft node ids: broker id in the high half, 32 bits of the directory id in the low.
//!
//! An emptied disk comes back with another directory id and so is another node: it cannot vote as
//! the one it was (M30).

use std::fmt;

use tidelog_types::{BrokerId, DirectoryId};

/// A member of the metadata group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftNodeId(pub u64);

impl RaftNodeId {
    /// The node of a broker on a data directory.
    pub fn new(broker: BrokerId, directory: DirectoryId) -> Self {
        let bytes = directory.as_bytes();
        // The last four bytes of a random UUID are random in every bit; the middle ones hold
        // version and variant.
        let low = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        Self(u64::from(broker.get()) << 32 | u64::from(low))
    }

    /// Whose node it is; `None` for a number that is no node's.
    pub const fn broker(self) -> Option<BrokerId> {
        BrokerId::new((self.0 >> 32) as u32)
    }
}

impl fmt::Display for RaftNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.0 >> 32, self.0 as u32)
    }
}
