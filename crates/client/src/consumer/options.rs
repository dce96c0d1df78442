//! What a consumer can be told when it is made. Names are Kafka's, in snake_case.

use std::time::Duration;

use tidelog_types::limits::{MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS};

use crate::error::{Error, Result};
use crate::offsets::OffsetAt;

/// Where a consumer goes on where nothing is committed, or where what is committed is not in the
/// log any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// At the log start: everything there is.
    Earliest,
    /// At the high watermark: only what comes from now on. Kafka's default, and this library's.
    #[default]
    Latest,
    /// Nowhere: [`Consumer::recv`](crate::Consumer::recv) answers OFFSET_OUT_OF_RANGE, and the
    /// application seeks.
    None,
}

impl OffsetReset {
    pub(super) fn at(self) -> Option<OffsetAt> {
        match self {
            Self::Earliest => Some(OffsetAt::Earliest),
            Self::Latest => Some(OffsetAt::Latest),
            Self::None => None,
        }
    }
}

/// Where reading begins.
///
/// ```
/// use tidelog_client::{OffsetAt, StartAt};
///
/// assert_eq!(StartAt::from(42), StartAt::Offset(42));
/// assert_eq!(StartAt::from(OffsetAt::Earliest), StartAt::At(OffsetAt::Earliest));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(u64),
    /// At an offset that the leader looks up.
    At(OffsetAt),
}

impl From<u64> for StartAt {
    fn from(offset: u64) -> Self {
        Self::Offset(offset)
    }
}

impl From<OffsetAt> for StartAt {
    fn from(at: OffsetAt) -> Self {
        Self::At(at)
    }
}

/// Most bytes that are fetched ahead, unless `fetch_max_bytes` is larger.
const PREFETCH_BYTES: usize = 64 * 1024 * 1024;

/// How to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FetchOptions {
    pub(super) min_bytes: u32,
    pub(super) max_wait: Duration,
    pub(super) max_bytes: u32,
    pub(super) max_partition_bytes: u32,
    pub(super) auto_offset_reset: OffsetReset,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            max_bytes: MAX_FETCH_BYTES,
            max_partition_bytes: 1024 * 1024,
            auto_offset_reset: OffsetReset::default(),
        }
    }
}

impl FetchOptions {
    pub(super) fn check(&self) -> Result<()> {
        if self.max_bytes == 0 || self.max_partition_bytes == 0 {
            return Err(Error::invalid(
                "fetch_max_bytes and max_partition_fetch_bytes must be above 0",
            ));
        }
        if self.max_wait > Duration::from_millis(MAX_FETCH_WAIT_MS.into()) {
            return Err(Error::invalid(format!(
                "fetch_max_wait may be {MAX_FETCH_WAIT_MS} ms at most"
            )));
        }
        Ok(())
    }

    /// Most bytes that are buffered or asked for.
    pub(super) fn budget_bytes(&self) -> usize {
        PREFETCH_BYTES.max(self.max_bytes as usize)
    }
}

/// The setters that both builders have.
macro_rules! fetch_setters {
    () => {
        /// A leader answers as soon as it has so many bytes; 1 by default.
        #[must_use]
        pub fn fetch_min_bytes(mut self, bytes: u32) -> Self {
            self.fetch.min_bytes = bytes;
            self
        }

        /// A leader answers after this long at the latest; 500 ms by default, 30 s at most.
        #[must_use]
        pub fn fetch_max_wait(mut self, wait: std::time::Duration) -> Self {
            self.fetch.max_wait = wait;
            self
        }

        /// Most bytes one answer holds; 50 MiB by default. A larger first batch comes all the same.
        #[must_use]
        pub fn fetch_max_bytes(mut self, bytes: u32) -> Self {
            self.fetch.max_bytes = bytes;
            self
        }

        /// Most bytes one answer holds of a partition, and how much of it is fetched ahead; 1 MiB
        /// by default. A larger first batch comes all the same.
        #[must_use]
        pub fn max_partition_fetch_bytes(mut self, bytes: u32) -> Self {
            self.fetch.max_partition_bytes = bytes;
            self
        }

        /// Where to go on where nothing is committed, or where the position is not in the log any
        /// more.
        #[must_use]
        pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
            self.fetch.auto_offset_reset = reset;
            self
        }
    };
}
pub(super) use fetch_setters;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        assert!(FetchOptions::default().check().is_ok());
        let endless = FetchOptions {
            max_wait: Duration::from_mins(1),
            ..FetchOptions::default()
        };
        assert!(endless.check().unwrap_err().message().contains("30000 ms"));
        let nothing = FetchOptions {
            max_bytes: 0,
            ..FetchOptions::default()
        };
        assert!(nothing.check().is_err());
    }
}
