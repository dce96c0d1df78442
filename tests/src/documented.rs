//! The commands of a Markdown document, made into a script that runs them in the order in which
//! they stand there.
//!
//! A block that begins with three backticks and `sh` is run. `sh config-only` is for brokers on
//! hosts that a test does not have: of its commands of `tidelog`, `server` only checks its
//! configuration and the others are only parsed (`--help`). Other blocks are what is printed, code,
//! or configuration.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The runnable blocks of one document.
#[derive(Debug)]
pub struct Document {
    name: String,
    blocks: Vec<Block>,
}

#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// Of the block's first command, counted from 1.
    line: usize,
    checks_only: bool,
    text: String,
}

impl Document {
    /// Reads a document of the repository.
    pub fn read(root: &Path, name: &str) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))?;
        let blocks = blocks(&text).with_context(|| format!("in {name}"))?;
        ensure!(!blocks.is_empty(), "{name} has no block of commands");
        Ok(Self {
            name: name.to_owned(),
            blocks,
        })
    }

    /// A script for bash. It names the place of each block before it runs it, and ends at the first
    /// command that fails. After a command that goes on in the background it waits until the
    /// cluster there serves, as a person does who reads what it prints.
    pub fn script(&self) -> String {
        let mut script = String::from(BEGIN);
        for block in &self.blocks {
            let _ = writeln!(script, "echo '--- {}:{}' >&2", self.name, block.line);
            if block.checks_only {
                script.push_str(CHECK_CONFIGS);
            }
            script.push_str(&block.text);
            if block.text.lines().any(goes_on_in_the_background) {
                script.push_str(WAIT_UNTIL_IT_SERVES);
            }
            if block.checks_only {
                script.push_str("unset -f tidelog\n");
            }
        }
        script
    }
}

/// Whatever fails: no broker outlives the script, which would hold its output open.
const BEGIN: &str = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n";
const CHECK_CONFIGS: &str = "tidelog() { if [ \"$1\" = server ]; then command tidelog \"$@\" --check-config; else command tidelog \"$@\" --help; fi; }\n";
const WAIT_UNTIL_IT_SERVES: &str = "for _ in $(seq 300); do tidelog cluster health >/dev/null 2>&1 && break; sleep 0.1; done\ntidelog cluster health >&2\n";

fn goes_on_in_the_background(line: &str) -> bool {
    let command = line.split(" #").next().unwrap_or(line).trim_end();
    command.ends_with('&') && !command.ends_with("&&")
}

fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &str, String)> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((at + 2, info.trim(), String::new())),
            (Some(_), Some("")) => {
                if let Some((line, info, text)) = open.take() {
                    blocks.extend(block(line, info, text)?);
                }
            }
            (Some((_, _, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "a block is not closed");
    Ok(blocks)
}

fn block(line: usize, info: &str, text: String) -> Result<Option<Block>> {
    let checks_only = match info {
        "sh" => false,
        "sh config-only" => true,
        "" => bail!("the block at line {line} does not say what it is: sh, text, rust, …"),
        _ => return Ok(None),
    };
    Ok(Some(Block {
        line,
        checks_only,
        text,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_are_run_and_in_order() {
        let text =
            "# T\n```sh\none\ntwo &\n```\nprose\n```text\nout\n```\n```sh config-only\ntidelog server\n```\n";
        let found = blocks(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].text.as_str()), (3, "one\ntwo &\n"));
        assert_eq!((found[1].line, found[1].checks_only), (11, true));
        let document = Document {
            name: "t.md".to_owned(),
            blocks: found,
        };
        let script = document.script();
        let places: Vec<_> = [
            "t.md:3",
            "one\ntwo &\n",
            "cluster health",
            "t.md:11",
            "--check-config",
            "tidelog server",
        ]
        .iter()
        .map(|part| script.find(part).unwrap())
        .collect();
        assert!(places.is_sorted(), "{script}");
    }

    #[test]
    fn a_block_that_does_not_say_what_it_is_is_an_error() {
        assert!(blocks("```\nwhat\n```\n").is_err());
        assert!(blocks("```sh\nwhat\n").is_err());
    }

    #[test]
    fn what_goes_on_in_the_background_is_told_from_what_does_not() {
        assert!(goes_on_in_the_background("tidelog dev &"));
        assert!(goes_on_in_the_background("tidelog dev &   # three brokers"));
        assert!(!goes_on_in_the_background("true && \\"));
        assert!(!goes_on_in_the_background("one &&"));
        assert!(!goes_on_in_the_background("tidelog topic list"));
    }
}
