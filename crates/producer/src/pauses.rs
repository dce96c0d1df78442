//! How long to wait before trying again: from 20 ms, doubling to one second.

use std::time::Duration;

/// The first pause.
pub const SHORTEST: Duration = Duration::from_millis(20);
/// The longest pause between two attempts.
pub const LONGEST: Duration = Duration::from_secs(1);

/// The pause after the `failures`th failure in a row.
pub fn after(failures: u32) -> Duration {
    (SHORTEST * 2_u32.saturating_pow(failures.saturating_sub(1).min(10))).min(LONGEST)
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
    }
}
