//! What is shipped, looked at as bytes.

use anyhow::{Result, ensure};
use tidelog_tests::cluster::binary;

fn holds(program: &[u8], text: &str) -> bool {
    program
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Rules that tests break by name, and points at which they let a process die, are compiled only
/// where their features are on. Features of one build unify, so it is the program that is looked at
/// and not the manifests.
#[test]
fn no_rule_can_be_broken_in_the_program() -> Result<()> {
    let program = std::fs::read(binary()?)?;
    ensure!(
        holds(&program, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
        "a name that must be there is not found: this test looks wrongly"
    );
    ensure!(
        !holds(&program, "mutant:"),
        "the program was built with the feature `mutants`"
    );
    ensure!(
        !holds(&program, "crash:"),
        "the program was built with the feature `failpoints`"
    );
    Ok(())
}
