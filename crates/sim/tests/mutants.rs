//! Every rule that can be broken on purpose is noticed when it is. Runs in a build with the feature
//! `mutants` alone.

#![cfg(feature = "mutants")]

use tidelog_sim::known::{KNOWN, is_documented, simulated, table};
use tidelog_sim::{Options, run};
use tidelog_types::mutant::switch_here;

#[test]
fn every_mutant_is_noticed_as_it_is_known_to_be() {
    assert!(
        simulated().eq(KNOWN.map(|(mutant, ..)| mutant)),
        "each has its known seed"
    );
    for (mutant, seed, known) in KNOWN {
        switch_here(Some(mutant));
        let violation = run(seed, Options::default()).violation;
        switch_here(None);
        let broken = violation.map(|violation| violation.broken);
        assert_eq!(broken, Some(known), "{} in seed {seed}", mutant.name());
    }
}

#[test]
fn what_is_known_of_mutants_is_what_the_documentation_says() {
    assert!(
        is_documented(),
        "docs/replication.md is to have these rows:\n{}",
        table(&KNOWN)
    );
}
