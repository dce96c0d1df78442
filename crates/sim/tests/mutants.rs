//! Every rule that can be broken on purpose is noticed when it is. Runs in a build with the feature `mutants` alone.

#![cfg(feature = "mutants")]

use tidelog_sim::report::run_seeds;
use tidelog_types::mutant::{Mutant, switch_here};

/// Within so many seeds.
const SEEDS: u64 = 500;
/// About the storage of the real Raft, which is not simulated: the tests of the metadata crate must notice them.
const ELSEWHERE: [Mutant; 2] = [Mutant::AnswerVoteBeforeSync, Mutant::PurgeBeforeSnapshotSync];

#[test]
fn every_mutant_is_noticed() {
    for mutant in Mutant::ALL
        .into_iter()
        .filter(|mutant| !ELSEWHERE.contains(mutant))
    {
        let report = run_seeds(0..SEEDS, 2, || switch_here(Some(mutant)), |_| ());
        assert!(
            report.failed.is_some(),
            "{} is not noticed in {SEEDS} runs",
            mutant.name()
        );
    }
    switch_here(None);
}
