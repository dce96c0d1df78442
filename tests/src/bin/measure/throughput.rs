//! How much a cluster takes, and how fast, by `tidelog bench` against three brokers on this
//! machine.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidelog_tests::cluster::{Cluster, binary};

use crate::process;

pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let bench = |words: &[&str]| bench(&cluster, words);
    let seconds = seconds.to_string();

    let (cpu_before, at) = (process::cpu_time(&cluster)?, Instant::now());
    let flood = bench(&[
        "produce",
        "flood",
        "--partitions",
        "6",
        "--replication-factor",
        "3",
        "--seconds",
        &seconds,
        "--keep",
    ])?;
    let cpu = process::cpu_time(&cluster)?.saturating_sub(cpu_before);
    println!(
        "produce, closed loop, 4,096 records of 1 KiB in flight, acks=all, replication 3: {}; brokers used {:.2} cores",
        line(&flood)?,
        cpu.as_secs_f64() / at.elapsed().as_secs_f64()
    );
    let read = bench(&["consume", "flood"])?;
    println!(
        "consume, everything from the beginning: {} MB/s",
        read["mb_per_second"].as_f64().unwrap_or_default().round()
    );
    for rate in ["1000", "80000"] {
        let paced = bench(&[
            "latency",
            "paced",
            "--partitions",
            "6",
            "--replication-factor",
            "3",
            "--rate",
            rate,
            "--seconds",
            &seconds,
            // Deleting it would be a load beside the next run.
            "--keep",
        ])?;
        println!(
            "produce, open loop at {rate} records of 1 KiB a second: {}",
            line(&paced)?
        );
    }
    Ok(())
}

fn line(figures: &Value) -> Result<String> {
    let latency = &figures["latency_ms"];
    let number = |value: &Value| value.as_f64().context("a figure is missing");
    Ok(format!(
        "{:.0} MB/s, latency p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        number(&figures["mb_per_second"])?,
        number(&latency["p50"])?,
        number(&latency["p99"])?,
        number(&latency["p999"])?,
        number(&latency["max"])?
    ))
}

fn bench(cluster: &Cluster, words: &[&str]) -> Result<Value> {
    let output = Command::new(binary()?)
        .arg("bench")
        .args(words)
        .args(["-o", "json", "--bootstrap", &cluster.bootstrap().join(",")])
        .output()
        .context("running tidelog bench")?;
    ensure!(
        output.status.success(),
        "tidelog bench {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("reading the figures")
}
