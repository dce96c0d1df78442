//! Python programs with nothing but grpcio and the `.proto` files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tidelog_tests::cluster::Cluster;

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
    let python = environment()?;
    let cluster = Cluster::start(3).await?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python)
        .arg(tests.join("clients/python").join(program))
        .arg(tests.join("../proto"))
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

/// A virtual environment with what the client needs; made once.
fn environment() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-client");
    let python = folder.join("bin/python");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    let installed = folder.join("installed.txt");
    // Tests run side by side, each in a process of its own: one makes it.
    let one_at_a_time = std::fs::File::create(folder.with_extension("lock"))?;
    one_at_a_time.lock()?;
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(&requirements))?;
    std::fs::write(installed, wanted)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
