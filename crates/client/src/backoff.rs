//! How long to wait before trying again: from 20 ms, doubling to one second, with jitter so that clients do not march in step.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first pause.
pub(crate) const SHORTEST: Duration = Duration::from_millis(20);
/// The longest.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// Pauses without an end: how long to go on is a matter of deadlines.
pub(crate) fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST)
        .with_max_delay(LONGEST)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The pause after the `attempts`th failure in a row, jitter aside: for state machines, which draw no randomness.
pub(crate) fn after(attempts: u32) -> Duration {
    (SHORTEST * 2_u32.saturating_pow(attempts.saturating_sub(1).min(10))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        assert_eq!(
            [1, 2, 3, 6, 7, 40].map(|n| after(n).as_millis()),
            [20, 40, 80, 640, 1000, 1000]
        );
        let first = delays().next().unwrap();
        assert!((SHORTEST..=SHORTEST * 2).contains(&first), "{first:?}");
    }
}
