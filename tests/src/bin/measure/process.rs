//! What the kernel says of a process.

use std::time::Duration;

use anyhow::{Context, Result};
use tidelog_tests::cluster::{Broker, Cluster};

/// CPU time of every broker so far, user and system.
pub(crate) fn cpu_time(cluster: &Cluster) -> Result<Duration> {
    pids(cluster).map(cpu_time_of).sum()
}

/// Memory of every broker: proportional set size, so that the program's own pages count once.
pub(crate) fn pss_bytes(cluster: &Cluster) -> Result<u64> {
    pids(cluster).map(pss_of).sum()
}

fn pids(cluster: &Cluster) -> impl Iterator<Item = u32> {
    cluster.brokers().iter().filter_map(Broker::pid)
}

fn cpu_time_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, second, is in parentheses and may hold anything; after it user time is the 12th
    // field, system time the 13th.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn pss_of(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("no Pss in smaps_rollup")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
