//! Where to: one of five flags.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

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
    /// To the first record at or after a moment: 2026-03-01T12:00:00 (UTC), with Z or an offset like +02:00, or @ and milliseconds since 1970
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
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

/// Milliseconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    if let Some(millis) = text.strip_prefix('@') {
        return millis
            .parse()
            .map_err(|_| format!("{millis:?} are no milliseconds since 1970"));
    }
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Ok(exact.as_millisecond());
    }
    let civil: DateTime = text.parse().map_err(|_| {
        format!("{text:?} is no moment like 2026-03-01T12:00:00, 2026-03-01T12:00:00Z or @1772366400000")
    })?;
    let zoned = civil.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_understood_and_are_utc_unless_they_say_otherwise() {
        assert_eq!(moment("2013-01-01T10:00:00"), Ok(1_357_034_400_000));
        assert_eq!(moment("2013-01-01T10:00:00.250Z"), Ok(1_357_034_400_250));
        assert_eq!(moment("2013-01-01T12:00:00+02:00"), Ok(1_357_034_400_000));
        assert_eq!(moment("2013-01-01"), Ok(1_356_998_400_000));
        assert_eq!(moment("@1357034400000"), Ok(1_357_034_400_000));
        for bad in ["", "yesterday", "2013-13-01", "@", "@x", "1357034400000"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
