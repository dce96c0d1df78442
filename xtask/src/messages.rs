//! Sentences of libraries and brokers know no command line: whoever reads them may use another
//! client, or none of ours.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::sizes::sources;

/// What clients are told comes from here.
const SPOKEN_TO_CLIENTS: &[&str] = &[
    "crates/client/src",
    "crates/broker/src/grpc",
    "crates/broker/src/group",
    "crates/broker/src/partition",
    "crates/cluster/src",
    "crates/group/src",
    "crates/record/src",
    "crates/replica/src",
    "crates/types/src",
];

/// Fails with every string there that names a flag or a command of the program.
pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for path in sources()? {
        if !SPOKEN_TO_CLIENTS.iter().any(|folder| path.starts_with(folder)) || is_test(&path) {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for (at, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| names_command_line(line))
        {
            wrong.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "these sentences speak of the command line, which not everybody uses:\n  {}",
        wrong.join("\n  ")
    )
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// A flag such as `--bootstrap`, or a command such as `tidelog topic`; not in comments.
fn names_command_line(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with("//") {
        return false;
    }
    let begins_word = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let flag = line
        .match_indices("--")
        .any(|(at, _)| line[..at].ends_with(['"', ' ', '(', '`']) && begins_word(&line[at + 2..]));
    let command = [
        "topic", "group", "cluster", "produce", "consume", "log", "server", "dev",
    ]
    .iter()
    .any(|command| line.contains(&format!("tidelog {command}")));
    flag || command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_commands_are_found_in_code_and_not_in_comments() {
        for line in [
            r#"format!("no broker answers; check --bootstrap")"#,
            r#""create it (tidelog topic create)","#,
            r#"    look at it with tidelog topic describe";"#,
        ] {
            assert!(names_command_line(line), "{line}");
        }
        for line in [
            "// See --bootstrap.",
            "let x = y - -z; // a -- b",
            r#"format!("{a}--{b}")"#,
            r#""tidelog-client/{}""#,
            "use tidelog_types::TopicName;",
        ] {
            assert!(!names_command_line(line), "{line}");
        }
    }
}
