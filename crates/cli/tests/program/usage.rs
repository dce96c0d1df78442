//! Wrong usage, help and version.

use super::{code, err, out, run, tidelog};

#[test]
fn a_tip_names_only_what_is_near_to_what_was_written() {
    let near = run(&["topic", "descrbe", "orders"]);
    assert_eq!(code(&near), 2);
    assert!(err(&near).contains("'describe'"), "{}", err(&near));
    // Who wants records deleted must not be led to deleting the topic.
    for words in [
        &["topic", "delete-records", "orders"][..],
        &["consume", "orders", "--from", "-5"],
        &["produce", "orders", "-x"],
    ] {
        let output = run(words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(!err(&output).contains("tip:"), "{words:?}: {}", err(&output));
    }
}

#[test]
fn a_moment_that_is_none_is_refused_with_how_to_write_one() {
    for (words, says) in [
        (
            &["consume", "orders", "--from", "-5"][..],
            "neither an offset nor a moment",
        ),
        (&["consume", "orders", "--from", "@yesterday"], "@2026-11-30"),
        (
            &["group", "reset-offsets", "g", "--to-datetime", "1h"],
            "write -1h",
        ),
    ] {
        let output = run(words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(err(&output).contains(says), "{words:?}: {}", err(&output));
    }
}

#[test]
fn a_broker_s_number_is_one_or_more() {
    let output = run(&["server", "--check-config", "--node-id", "0", "--data-dir", "d"]);
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("--node-id") && err(&output).contains("'0'"),
        "{}",
        err(&output)
    );
    let mut command = tidelog();
    command.args(["server", "--check-config", "--data-dir", "d"]);
    let output = command.env("TIDELOG__BROKER__ID", "0").output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("1 or more"), "{}", err(&output));
}

#[test]
fn help_has_examples_and_is_short() {
    for words in [&["topic", "list", "-h"][..], &["topic", "list", "--help"]] {
        let output = run(words);
        assert_eq!(code(&output), 0);
        assert!(
            out(&output).contains("Examples:\n  tidelog topic list"),
            "{}",
            out(&output)
        );
        assert!(out(&output).lines().count() <= 24, "{}", out(&output));
    }
}

#[test]
fn the_version_names_the_revision_where_git_knows_it() {
    let output = run(&["--version"]);
    let told = out(&output).trim();
    let release = concat!("tidelog ", env!("CARGO_PKG_VERSION"));
    assert!(told.starts_with(release), "{told}");
    let known = std::process::Command::new("git")
        .args(["ls-files", "--error-unmatch", "build.rs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .is_ok_and(|output| output.status.success());
    let revision = told[release.len()..].trim().trim_matches(['(', ')']);
    if known {
        assert!(
            revision.len() >= 12 && revision.chars().all(|digit| digit.is_ascii_hexdigit()),
            "{told}"
        );
    } else {
        assert_eq!(revision, "");
    }
}
