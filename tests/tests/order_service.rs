//! The example of an order service, run as its documentation says.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tidelog_tests::cluster::Cluster;

/// Examples are built beside the tests.
fn example() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("no build folder")?;
    let program = folder.join("examples/order_service");
    ensure!(
        program.exists(),
        "{} is not built: run the tests of the whole workspace",
        program.display()
    );
    Ok(program)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_has_its_effect_in_every_service_once() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let output = Command::new(example()?)
        .arg(cluster.brokers()[0].client_address())
        .output()
        .context("running the example")?;
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "the example failed: {out}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "payment is scaled from one member to three",
        "3000 orders are published",
        "every order had its effect in every service exactly once",
    ] {
        ensure!(out.contains(line), "no {line:?} in {out}");
    }
    for member in ["inventory-1", "payment-1", "payment-2", "payment-3", "shipping-1"] {
        ensure!(
            out.contains(&format!("{member} was handed")),
            "no {member} in {out}"
        );
    }
    Ok(())
}
