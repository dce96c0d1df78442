//! Random schedules of three replicas that exchange messages, crash with the loss of what no sync covered, and change leaders. After
//! every step the invariants R16 to R25 of a partition hold. A seed replays identically.

#![expect(unreachable_pub, reason = "modules of one test")]

mod checks;
mod cluster;
mod disk;

use proptest::prelude::*;

use cluster::Cluster;

/// Steps of one schedule.
const STEPS: usize = 2500;

fn run(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    for _ in 0..STEPS {
        cluster.step();
        checks::all(&mut cluster);
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_every_schedule(seed in any::<u64>()) {
        run(seed);
    }
}

/// Schedules that never acknowledge, truncate or elect would prove nothing.
#[test]
fn schedules_reach_what_they_are_for() {
    let mut seen = cluster::Seen::default();
    for seed in 0..100 {
        seen.add(&run(seed).seen);
    }
    assert!(seen.acknowledged > 1000, "{seen:?}");
    assert!(seen.truncations > 50, "{seen:?}");
    assert!(seen.elections > 200, "{seen:?}");
    assert!(seen.joins > 50, "{seen:?}");
    assert!(seen.duplicates > 20, "{seen:?}");
    assert!(seen.rebuilds > 0, "{seen:?}");
}
