//! Settings of every group of a coordinator.

use std::time::Duration;

use crate::limits::MAX_MEMBERS_PER_GROUP;

/// Settings that hold for every group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How often a member heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a member may be silent before it is removed.
    pub session_timeout: Duration,
    /// How long offsets are kept after their group became empty.
    pub offsets_retention: Duration,
    /// Most members of one group.
    pub max_members: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            session_timeout: Duration::from_secs(45),
            offsets_retention: Duration::from_hours(7 * 24),
            max_members: MAX_MEMBERS_PER_GROUP,
        }
    }
}
