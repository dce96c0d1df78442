//! Offsets, epochs and sequences: numbers that must not be mistaken for each other.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A record's position in its partition's log, from 0. As an *end*, the offset that the next record
/// will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);
    /// The largest offset that Kafka's signed 64-bit field can hold.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many offsets lie between `earlier` and this one; 0 if it is not earlier.
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Offset {
    type Output = Self;

    fn add(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Sub<u64> for Offset {
    type Output = Self;

    fn sub(self, count: u64) -> Self {
        Self(self.0 - count)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

number! {
    /// Counts a partition's leaderships. Raised by the metadata log with every election; at most
    /// `i32::MAX`.
    LeaderEpoch(u32)
}
number! {
    /// Counts every change of a partition's registration (leader, ISR, replicas): the
    /// compare-and-set of ISR changes.
    PartitionEpoch(u32)
}
number! {
    /// The metadata-log index of a broker's registration: unique in a cluster's life (KIP-631,
    /// KIP-903).
    BrokerEpoch(u64)
}
number! {
    /// A producer id's epoch; the newer one fences the older.
    ProducerEpoch(u16)
}

/// A record's number within its producer id, epoch and partition. Counts from 0 and wraps after
/// `i32::MAX` (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u32);

impl Sequence {
    /// The first of every producer epoch.
    pub const ZERO: Self = Self(0);
    const MODULUS: u64 = i32::MAX as u64 + 1;

    /// The sequence of a wire field, unless it is negative.
    pub const fn from_wire(value: i32) -> Option<Self> {
        if value < 0 { None } else { Some(Self(value as u32)) }
    }

    /// As Kafka's signed field holds it.
    pub const fn to_wire(self) -> i32 {
        self.0 as i32
    }

    /// The sequence `count` records later, wrapping to 0 after `i32::MAX`.
    #[must_use]
    pub const fn advanced_by(self, count: u64) -> Self {
        Self(((self.0 as u64 + count) % Self::MODULUS) as u32)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_to_zero_after_the_largest_signed_number() {
        let last = Sequence::from_wire(i32::MAX).unwrap();
        assert_eq!(last.advanced_by(1), Sequence::ZERO);
        assert_eq!(last.advanced_by(3).to_wire(), 2);
        assert_eq!(Sequence::ZERO.advanced_by(5).to_wire(), 5);
        assert_eq!(Sequence::from_wire(-1), None);
    }
}
