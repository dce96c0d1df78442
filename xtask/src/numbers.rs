//! Every rule and invariant is found by its number: in code, where it is kept, and in a test that
//! looks at it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sizes::sources;

/// The rules of docs/replication.md, and the invariants of docs/guarantees.md.
fn numbers() -> impl Iterator<Item = String> {
    let rules = (1..=12).map(|number| format!("R{number}"));
    let kinds = [
        ('C', 1..=11),
        ('G', 12..=15),
        ('P', 16..=25),
        ('M', 26..=30),
        ('L', 31..=31),
    ];
    let invariants = kinds
        .into_iter()
        .flat_map(|(kind, range)| range.map(move |number| format!("{kind}{number}")));
    rules.chain(invariants)
}

/// Fails with every number that is missing somewhere.
pub(crate) fn check() -> Result<()> {
    let (mut code, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for path in sources()? {
        if path.starts_with("xtask") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let (in_code, in_tests) = split(&path, &text);
        code.extend(words(in_code));
        tests.extend(words(in_tests));
    }
    let mut missing = Vec::new();
    for number in numbers() {
        for (place, words) in [("code", &code), ("a test", &tests)] {
            if !words.contains(&number) {
                missing.push(format!("{number} is not named in {place}"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("rules and invariants:\n  {}", missing.join("\n  "))
}

/// What of a file is code, and what tests.
fn split<'a>(path: &Path, text: &'a str) -> (&'a str, &'a str) {
    let of_tests = path
        .components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "compose")));
    if of_tests {
        return ("", text);
    }
    text.split_at(text.find("#[cfg(test)]").unwrap_or(text.len()))
}

/// Words that may be numbers, in capitals: of comments, and of names between their underscores.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| (2..=3).contains(&word.len()))
        .map(str::to_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_comment_hold_their_numbers() {
        let found: Vec<String> = words("fn r7_a_replica_joins() {} // M29, not r70x").collect();
        assert!(found.contains(&"R7".to_owned()) && found.contains(&"M29".to_owned()));
        assert!(!found.contains(&"R70X".to_owned()));
    }

    #[test]
    fn tests_beside_code_are_tests() {
        let (code, tests) = split(
            Path::new("crates/a/src/b.rs"),
            "code R1\n#[cfg(test)]\nmod tests { r2 }",
        );
        assert!(code.contains("R1") && !code.contains("r2") && tests.contains("r2"));
        assert_eq!(split(Path::new("crates/a/tests/b.rs"), "x"), ("", "x"));
    }
}
