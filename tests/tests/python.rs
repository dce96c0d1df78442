//! Python programs with nothing but grpcio and the `.proto` files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tidelog_tests::cluster::Cluster;
use tidelog_tests::python;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_records_make_the_round_trip() -> Result<()> {
    let said = run_client("roundtrip.py").await?;
    assert!(
        said.contains("202 plain records produced and read back"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_shares_a_topic() -> Result<()> {
    let said = run_client("group.py").await?;
    assert!(
        said.contains("200 records read by a group of two, each once"),
        "{said}"
    );
    Ok(())
}

/// Runs one of the programs against three brokers: what it printed.
async fn run_client(program: &str) -> Result<String> {
    let interpreter = interpreter()?;
    let cluster = Cluster::start(3).await?;
    let output = Command::new(interpreter)
        .arg(python::programs().join(program))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto"))
        .arg(cluster.brokers()[0].client_address())
        .output()
        .context("running the Python client")?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "the Python client failed: {out}{err}");
    Ok(out.into_owned())
}

#[test]
fn the_programs_say_how_they_are_used() -> Result<()> {
    for program in ["roundtrip.py", "group.py"] {
        let run = |words: &[&str]| {
            Command::new(interpreter()?)
                .arg(python::programs().join(program))
                .args(words)
                .output()
                .context("running the Python client")
        };
        let help = run(&["--help"])?;
        let out = String::from_utf8_lossy(&help.stdout);
        assert!(
            help.status.success() && out.contains("HOST:PORT") && out.contains("example:"),
            "{out}"
        );
        for wrong in [&[][..], &["."], &[".", "127.0.0.1:1"]] {
            let refused = run(wrong)?;
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(said.contains("usage:") && !said.contains("Traceback"), "{said}");
        }
    }
    Ok(())
}

fn interpreter() -> Result<PathBuf> {
    let environment = python::environment(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    Ok(environment.join("bin/python"))
}
