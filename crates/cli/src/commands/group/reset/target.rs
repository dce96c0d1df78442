//! Where to: one of five flags.

use clap::Args;

use crate::args::moment;
use crate::exit::Failure;

/// Where a group shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Offset(u64),
    /// Milliseconds since 1970.
    Time(i64),
    Shift(i64),
}

/// The flags, of which one must be given.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(super) struct TargetFlags {
    /// To the first record that is still there
    #[arg(long)]
    to_earliest: bool,
    /// To the end: only what comes from now on
    #[arg(long)]
    to_latest: bool,
    /// To this offset in every partition
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
    /// To the first record at or after a moment: @2026-03-01T12:00 (UTC, or with an offset like
    /// +02:00), @2026-03-01, @ and milliseconds since 1970, or -1h for an hour ago
    #[arg(long, value_name = "MOMENT", value_parser = moment, allow_hyphen_values = true)]
    to_datetime: Option<i64>,
    /// So many records on from what is committed, or back if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

impl TargetFlags {
    /// The one that was given.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let flags = [
            self.to_earliest.then_some(Target::Earliest),
            self.to_latest.then_some(Target::Latest),
            self.to_offset.map(Target::Offset),
            self.to_datetime.map(Target::Time),
            self.shift_by.map(Target::Shift),
        ];
        let given = flags.into_iter().flatten().next();
        given.ok_or_else(|| {
            Failure::usage(
                "say where to: --to-earliest, --to-latest, --to-offset, --to-datetime or --shift-by",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        to: TargetFlags,
    }

    #[test]
    fn a_moment_may_be_a_date_or_so_long_ago() {
        let target =
            |words: [&str; 2]| Line::try_parse_from(["x", words[0], words[1]]).map(|line| line.to.target());
        let date = target(["--to-datetime", "@2013-01-01T10:00Z"]).unwrap().unwrap();
        assert_eq!(date, Target::Time(1_357_034_400_000));
        assert!(matches!(
            target(["--to-datetime", "-1h"]).unwrap().unwrap(),
            Target::Time(_)
        ));
        let refusal = target(["--to-datetime", "-5"]).unwrap_err().to_string();
        assert!(refusal.contains("write -5s"), "{refusal}");
        assert_eq!(target(["--shift-by", "-5"]).unwrap().unwrap(), Target::Shift(-5));
    }
}
