//! `cargo xtask check`: everything about the sources that a machine can judge.

use anyhow::Result;

use crate::prerequisites;
use crate::run::cargo;
use crate::{circles, layering, messages, numbers, prose, sizes};

/// Runs every check, the quick ones first.
pub(crate) fn check() -> Result<()> {
    step("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    step("layering", layering::check)?;
    step("circles of imports", circles::check)?;
    step("file sizes", sizes::check)?;
    sizes::tell()?;
    step("comments and pages", prose::check)?;
    step("sentences that clients are told", messages::check)?;
    step("numbers of rules and invariants", numbers::check)?;
    if prerequisites::runs("cargo-deny") {
        step("dependencies", || {
            cargo(&["deny", "--log-level", "error", "check"], &[])
        })?;
    } else {
        eprintln!("check: dependencies skipped: cargo-deny is not installed (cargo install cargo-deny)");
    }
    prerequisites::for_build()?;
    step("lints", || {
        cargo(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "--deny",
                "warnings",
            ],
            &[],
        )
    })?;
    step("docs", || {
        cargo(
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--locked",
                "--document-private-items",
            ],
            &[(
                "RUSTDOCFLAGS",
                "--deny warnings --allow rustdoc::private_intra_doc_links",
            )],
        )
    })
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("check: {name}");
    run().map_err(|error| error.context(format!("check of {name} failed")))
}
