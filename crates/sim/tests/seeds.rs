//! Seeds that must hold, that must give the same history twice, and that must get to what a
//! simulation is for.

use tidelog_sim::report::{describe, run_seeds};
use tidelog_sim::{Options, Seen, run};

/// How many seeds a test run looks at; `cargo xtask sim` looks at as many as it is told.
const SEEDS: u64 = 200;

#[test]
fn invariants_hold_and_the_runs_get_somewhere() {
    let report = run_seeds(0..SEEDS, 2, || (), |_| ());
    if let Some(failed) = &report.failed {
        panic!("{}", describe(failed, None));
    }
    assert_eq!(report.runs, SEEDS);
    let least = Seen {
        events: 2_000_000,
        faults: 20 * SEEDS,
        operations: 500_000,
        acknowledged: 200_000,
        unknown: 400,
        duplicates: 2000,
        truncations: 300,
        rebuilds: 100,
        deferred_fetches: 500,
        leaderships: 3000,
        elected_from_elr: 300,
        joins: 4000,
        fencings: 1000,
        self_fencings: 100,
        metadata_leaders: 500,
        voters_replaced: 40,
        coordinators: 1000,
        members_removed: 500,
        commits: 4000,
        zombie_commits: 80,
        under_min_isr: 1000,
        interrupted_coordinators: 200,
        cut_decisions: 50,
        slow_members: 50,
        deleted_groups: 2000,
        trims: 200,
        alterations: 50,
        recovery_ms: 1,
    };
    let seen = report.seen;
    let figures = seen.figures().into_iter().zip(least.figures());
    for ((what, seen), (_, least)) in figures {
        assert!(
            seen >= least,
            "{what}: {seen}, and {least} is the least:\n{}",
            report.figures()
        );
    }
}

#[test]
fn a_seed_gives_the_same_history_to_the_byte() {
    let options = Options {
        digest: true,
        ..Options::default()
    };
    let mut digests = Vec::new();
    for seed in 0..6 {
        let (first, second) = (run(seed, options), run(seed, options));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.seen, second.seen, "seed {seed}");
        digests.push(first.digest);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 6, "different seeds give different histories");
}
