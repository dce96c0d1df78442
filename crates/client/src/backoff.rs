//! How long to wait before trying again, with jitter so that clients do not march in step.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use tidelog_producer::pauses::SHORTEST;
pub(crate) use tidelog_producer::pauses::{LONGEST, after};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pause_is_the_shortest_with_jitter() {
        let first = delays().next().unwrap();
        assert!((SHORTEST..=SHORTEST * 2).contains(&first), "{first:?}");
    }
}
