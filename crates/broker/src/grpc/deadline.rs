//! How long a call may take, as its caller says.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// What gRPC calls the time that a call has from when it was sent.
const TIMEOUT: &str = "grpc-timeout";

/// How long to try what a call asks for: nine tenths of the time that its caller waits, so that the
/// caller still gets the answer; at most `longest`.
pub(super) fn within(metadata: &MetadataMap, longest: Duration) -> Duration {
    let given = metadata.get(TIMEOUT).and_then(|text| parsed(text.to_str().ok()?));
    given.map_or(longest, |given| (given / 10 * 9).min(longest))
}

/// Up to eight digits and a unit.
fn parsed(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn given(text: &'static str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMEOUT, text.parse().unwrap());
        within(&metadata, LONGEST)
    }

    #[test]
    fn a_caller_is_answered_before_it_gives_up() {
        assert_eq!(given("5S"), Duration::from_millis(4_500));
        assert_eq!(given("5000m"), Duration::from_millis(4_500));
        assert_eq!(given("2000000u"), Duration::from_millis(1_800));
        assert_eq!(given("99999990n"), Duration::from_nanos(89_999_991));
        assert_eq!(given("11S"), Duration::from_millis(9_900));
        for long in ["12S", "1M", "99999999H"] {
            assert_eq!(given(long), LONGEST, "{long}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_none() {
        assert_eq!(within(&MetadataMap::new(), LONGEST), LONGEST);
        for wrong in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S", "é"] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
