//! Ids and epochs that only groups know.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Why a member id or instance id is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} of {length} bytes is not allowed: use 1 to {max} bytes of UTF-8")]
pub struct InvalidId {
    /// Which kind of id.
    pub what: &'static str,
    /// Its length, bytes.
    pub length: usize,
    /// The longest allowed, bytes.
    pub max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest, in bytes.
            pub const MAX_LEN: usize = 255;

            /// The characters.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(id: &str) -> Result<Self, InvalidId> {
                if (1..=Self::MAX_LEN).contains(&id.len()) {
                    Ok(Self(id.into()))
                } else {
                    Err(InvalidId { what: $what, length: id.len(), max: Self::MAX_LEN })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name! {
    /// A member's id: drawn by the coordinator's driver when the member first joins, or chosen by
    /// the member.
    MemberId, "a member id"
}
name! {
    /// A static member's name (group.instance.id, KIP-345): a restart under it changes no
    /// assignment.
    InstanceId, "an instance id"
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Counts a group's target assignments: raised by whatever changes who should own what.
    GroupEpoch(u32)
}
number! {
    /// The group epoch that a member has reconciled to; fences its commits. 0 means "not in the
    /// group".
    MemberEpoch(u32)
}
number! {
    /// Numbers the assignments pushed on one stream, from 1.
    AssignmentVersion(u64)
}
number! {
    /// One session stream; never used twice by a driver.
    StreamId(u64)
}
number! {
    /// One request that waits for its reply; never used twice by a driver.
    RequestId(u64)
}

impl GroupEpoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl MemberEpoch {
    /// What a joining member says, having none.
    pub const NONE: Self = Self(0);

    /// The epoch of a member that has reconciled to `group`.
    pub const fn at(group: GroupEpoch) -> Self {
        Self(group.0)
    }
}
