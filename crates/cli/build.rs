//! Puts the revision of the sources next to the release in `tidelog --version`. Without git, or
//! from an archive, there is the release alone.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = revision().map_or_else(|| release.clone(), |revision| format!("{release} ({revision})"));
    println!("cargo::rustc-env=TIDELOG_VERSION={version}");
}

fn revision() -> Option<String> {
    // A repository around sources that are not its own says nothing of them.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    for changes_with_it in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", changes_with_it])?;
        if std::path::Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says, if it is there and has an answer. It runs in this package's folder.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
