//! How a batch may be compressed, and how much of one is opened.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The most bytes that any payload is opened into, and that a builder fills: four times what
/// max.message.bytes may be set to.
pub const MAX_OPENED_BYTES: usize = 4 * tidelog_types::limits::MAX_MAX_MESSAGE_BYTES as usize;
/// What readers open a batch into at most, and therefore also the most that a broker takes of a
/// producer: twice the largest max.message.bytes, and thirty-two times the default one, which is
/// beyond what text compresses to.
pub const DEFAULT_OPENED_BYTES: usize = 32 * 1024 * 1024;

const _: () = assert!(DEFAULT_OPENED_BYTES <= MAX_OPENED_BYTES);

/// How a batch's records are compressed, with Kafka's numbers and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// Smaller than snappy and lz4, slower than both.
    Gzip = 1,
    /// Fast; in the framing of xerial's snappy-java, as Kafka writes it.
    Snappy = 2,
    /// Fast; in LZ4's own frames.
    Lz4 = 3,
    /// The smallest, at a speed near lz4's.
    Zstd = 4,
}

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The one of a number in a batch's attributes.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this program was built with it.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no compression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no compression: use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}
