//! The `tidelog` program as a user runs it against a cluster.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, binary};

/// Runs the program with the cluster's addresses in its environment.
#[derive(Debug, Clone)]
pub struct Program {
    bootstrap: String,
}

impl Program {
    /// For a cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self::at(&cluster.bootstrap().join(","))
    }

    /// For brokers at these addresses, with commas between them.
    pub fn at(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
        }
    }

    /// The command, to be changed before it runs.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(words)
            .env("TIDELOG_BOOTSTRAP", &self.bootstrap)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it to its end, however that is.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.command(words)?
            .output()
            .with_context(|| format!("running tidelog {words:?}"))
    }

    /// The same with something on its standard input.
    pub fn run_with_input(&self, words: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command(words)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting tidelog {words:?}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // A program that refuses its input may close it early.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// Runs it; it must succeed. Its standard output.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        ensure!(
            output.status.success(),
            "tidelog {words:?} ended with {}: {}",
            output.status,
            stderr(&output)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, its output one JSON value.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        serde_json::from_str(&self.ok(words)?).with_context(|| format!("the output of tidelog {words:?}"))
    }

    /// The same, its output one JSON value a line.
    pub fn json_lines(&self, words: &[&str]) -> Result<Vec<Value>> {
        let text = self.ok(words)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("the line {line:?}")))
            .collect()
    }
}

/// What a program said on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless the program ended with this code, and its last line on standard error holds all of
/// these words: what stands before says what it waited for.
pub fn refused(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = stderr(output);
    ensure!(
        output.status.code() == Some(code),
        "it ended with {}, not {code}: {said}",
        output.status
    );
    let line = said
        .lines()
        .rfind(|line| line.starts_with("tidelog: "))
        .with_context(|| format!("no line says why: {said}"))?;
    for word in words {
        ensure!(line.contains(word), "{line:?} does not say {word:?}");
    }
    Ok(())
}
