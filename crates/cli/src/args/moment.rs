//! Moments on the command line, written the same way everywhere.
//!
//! | written | means |
//! | --- | --- |
//! | `@1772366400000` | milliseconds since 1970 |
//! | `@2026-11-30T14:00:00+01:00`, `@2026-11-30T13:00Z` | that moment |
//! | `@2026-11-30T13:00`, `@2026-11-30` | the same in UTC; a date is its first moment |
//! | `-1h`, `-2d`, `-1h30m` | so long ago |
//!
//! The `@` may be left out, except before milliseconds: a number alone is an offset.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// How moments are written, for `--help` and refusals.
pub(crate) const MOMENT_SYNTAX: &str =
    "@2026-11-30T14:00Z, @2026-11-30, @ and milliseconds since 1970, or -1h for an hour ago";

/// Milliseconds since 1970.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    at(text, Timestamp::now())
}

/// Whether a text can only be meant as a moment: then a refusal should speak of moments.
pub(crate) fn looks_like_moment(text: &str) -> bool {
    let unmarked = text.strip_prefix('@').unwrap_or(text);
    let unsigned = unmarked.trim_start_matches(['-', '+']);
    let number = unsigned.parse::<u64>().is_ok();
    text.starts_with('@') || (!number && unsigned.starts_with(|c: char| c.is_ascii_digit()))
}

fn at(text: &str, now: Timestamp) -> Result<i64, String> {
    let (marked, rest) = match text.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if let Ok(millis) = rest.parse::<i64>() {
        return match (marked, Timestamp::from_millisecond(millis)) {
            (true, Ok(_)) => Ok(millis),
            (true, Err(_)) => Err(format!("{text:?} is beyond all dates: {MOMENT_SYNTAX}")),
            (false, _) => Err(not_a_moment(text, millis)),
        };
    }
    if let Ok(exact) = rest.parse::<Timestamp>() {
        return Ok(exact.as_millisecond());
    }
    if let Ok(civil) = rest.parse::<DateTime>() {
        let zoned = civil.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(zoned.timestamp().as_millisecond());
    }
    match rest.parse::<Span>() {
        Ok(span) if span.is_negative() => ago(text, span, now),
        Ok(_) => {
            let length = rest.trim_start_matches('+');
            Err(format!(
                "{text:?} is how long, and not when: write -{length} for so long ago"
            ))
        }
        Err(_) => Err(format!("{text:?} is no moment: write {MOMENT_SYNTAX}")),
    }
}

fn ago(text: &str, span: Span, now: Timestamp) -> Result<i64, String> {
    // In UTC every day has 24 hours, and months have the lengths of the calendar.
    let then = now.to_zoned(TimeZone::UTC).checked_add(span);
    let then = then.map_err(|_| format!("{text:?} is longer ago than there are dates"))?;
    Ok(then.timestamp().as_millisecond())
}

fn not_a_moment(text: &str, number: i64) -> String {
    if number < 0 {
        format!("{text:?} lacks its unit: write {number}s, {number}m, {number}h or {number}d for so long ago")
    } else {
        format!("{text:?} lacks its @: write @{number} for milliseconds since 1970")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T14:00:00Z.
    const NOW_MS: i64 = 1_796_047_200_000;
    const HOUR_MS: i64 = 3_600_000;

    fn parse(text: &str) -> Result<i64, String> {
        at(text, Timestamp::from_millisecond(NOW_MS).unwrap())
    }

    #[test]
    fn moments_are_understood_and_are_utc_unless_they_say_otherwise() {
        for written in [
            "@1796047200000",
            "@2026-11-30T14:00Z",
            "@2026-11-30T14:00:00Z",
            "@2026-11-30T15:00:00+01:00",
            "@2026-11-30T14:00:00",
            "2026-11-30T14:00Z",
            "2026-11-30 14:00:00",
        ] {
            assert_eq!(parse(written), Ok(NOW_MS), "{written}");
        }
        assert_eq!(parse("2013-01-01T10:00:00.250Z"), Ok(1_357_034_400_250));
        for date in ["2026-11-30", "@2026-11-30"] {
            assert_eq!(parse(date), Ok(NOW_MS - 14 * HOUR_MS), "{date}");
        }
    }

    #[test]
    fn a_negative_duration_is_so_long_ago() {
        for (written, hours) in [
            ("-1h", 1),
            ("-60m", 1),
            ("-2d", 48),
            ("-1d12h", 36),
            ("-PT1H", 1),
            ("@-1h", 1),
        ] {
            assert_eq!(parse(written), Ok(NOW_MS - hours * HOUR_MS), "{written}");
        }
        assert_eq!(parse("-250ms"), Ok(NOW_MS - 250));
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_to_write() {
        for (bad, says) in [
            ("-5", "write -5s"),
            ("1h", "write -1h"),
            ("+1h", "write -1h"),
            ("1796047200000", "write @1796047200000"),
            ("yesterday", "@2026-11-30"),
            ("", "@2026-11-30"),
            ("@", "@2026-11-30"),
            ("@x", "@2026-11-30"),
            ("2013-13-01", "@2026-11-30"),
            ("@9223372036854775807", "beyond all dates"),
            ("-99999999999999h", "-99999999999999h"),
        ] {
            let refusal = parse(bad).unwrap_err();
            assert!(refusal.contains(says), "{bad}: {refusal}");
        }
    }

    #[test]
    fn offsets_and_words_do_not_look_like_moments() {
        for (text, looks) in [
            ("@x", true),
            ("-1h", true),
            ("2026-13-01", true),
            ("1h", true),
            ("42", false),
            ("-5", false),
            ("beginning", false),
            ("", false),
        ] {
            assert_eq!(looks_like_moment(text), looks, "{text}");
        }
    }
}
