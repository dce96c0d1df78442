//! `--from`: where reading begins.

use std::str::FromStr;

use anyhow::Result;
use tidelog_client::{OffsetAt, OffsetReset, StartAt};

use crate::args::{MOMENT_SYNTAX, looks_like_moment, moment};
use crate::exit::Failure;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Beginning,
    Latest,
    Offset(u64),
    /// Milliseconds since 1970.
    Timestamp(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" => Ok(Self::Beginning),
            "latest" | "end" => Ok(Self::Latest),
            _ if looks_like_moment(text) => moment(text).map(Self::Timestamp),
            _ => text.parse().map(Self::Offset).map_err(|_| {
                format!("{text:?} is neither an offset nor a moment: write beginning, latest, an offset such as 42, {MOMENT_SYNTAX}")
            }),
        }
    }
}

impl From {
    /// For partitions that are read by hand.
    pub(super) fn start(self) -> StartAt {
        match self {
            Self::Beginning => OffsetAt::Earliest.into(),
            Self::Latest => OffsetAt::Latest.into(),
            Self::Offset(offset) => offset.into(),
            Self::Timestamp(timestamp_ms) => OffsetAt::Timestamp(timestamp_ms).into(),
        }
    }

    /// For a group, where nothing is committed.
    pub(super) fn reset(self) -> Result<OffsetReset, Failure> {
        match self {
            Self::Beginning => Ok(OffsetReset::Earliest),
            Self::Latest => Ok(OffsetReset::Latest),
            Self::Offset(_) | Self::Timestamp(_) => Err(Failure::usage(
                "a group goes on where it committed: with --group, --from is beginning or latest",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_begin_is_understood() {
        let parse = |text: &str| text.parse::<From>();
        assert_eq!(parse("beginning"), Ok(From::Beginning));
        assert_eq!(parse("latest"), Ok(From::Latest));
        assert_eq!(parse("42"), Ok(From::Offset(42)));
        assert_eq!(parse("@1700000000000"), Ok(From::Timestamp(1_700_000_000_000)));
        assert_eq!(
            parse("@2013-01-01T10:00Z"),
            Ok(From::Timestamp(1_357_034_400_000))
        );
        assert!(matches!(parse("-1h"), Ok(From::Timestamp(_))));
        for bad in ["", "-1", "yesterday", "-n"] {
            let refusal = parse(bad).unwrap_err();
            assert!(
                refusal.contains("neither an offset nor a moment"),
                "{bad}: {refusal}"
            );
        }
        for bad in ["@", "@x", "2013-13-01", "1h"] {
            let refusal = parse(bad).unwrap_err();
            assert!(!refusal.contains("offset"), "{bad}: {refusal}");
        }
    }

    #[test]
    fn a_group_begins_at_an_end() {
        assert_eq!(From::Beginning.reset().unwrap(), OffsetReset::Earliest);
        assert!(From::Offset(3).reset().unwrap_err().message.contains("--group"));
    }
}
