//! Small files, and no `unwrap` outside tests is clippy's: here only what clippy does not see.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The most lines a Rust file may have.
const MAX_LINES: usize = 800;

/// Fails with every Rust file under version control that is too long.
pub(crate) fn check() -> Result<()> {
    let mut long = Vec::new();
    for path in sources()? {
        let lines = count_lines(&path)?;
        if lines > MAX_LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    if long.is_empty() {
        return Ok(());
    }
    bail!(
        "files of more than {MAX_LINES} lines want splitting:\n  {}",
        long.join("\n  ")
    )
}

/// What is told of: the drivers, and the pure crates that hold their rules.
const TOLD: [(&str, &[&str]); 4] = [
    ("sim", &["sim"]),
    ("broker", &["broker"]),
    ("client", &["client"]),
    (
        "pure",
        &["cluster", "coordinator", "group", "log", "producer", "replica"],
    ),
];

/// How many lines of Rust, tests included, the simulation, the drivers and the pure crates have:
/// rules move from the first three to the last.
pub(crate) fn tell() -> Result<()> {
    let sources = sources()?;
    let mut told = Vec::new();
    for (name, crates) in TOLD {
        let mut lines = 0;
        for path in &sources {
            if crates
                .iter()
                .any(|of| path.starts_with(Path::new("crates").join(of)))
            {
                lines += count_lines(path)?;
            }
        }
        told.push(format!("{name} {lines}"));
    }
    println!("lines: {}", told.join(", "));
    Ok(())
}

/// Every Rust file under version control.
pub(crate) fn sources() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "*.rs"])
        .output()
        .context("running git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = String::from_utf8(output.stdout).context("file names in UTF-8")?;
    // A file deleted but not yet committed is listed still.
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect())
}

fn count_lines(path: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().count())
}
