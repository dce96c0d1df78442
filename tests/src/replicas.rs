//! Comparing brokers' logs on disk, offline.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::binary;

/// One replica: its batches, as `tidelog log dump` digests them.
pub type Replica = Vec<String>;

/// Every partition replica of a stopped broker's data directory, by topic id and partition.
pub fn dump(data_dir: &Path) -> Result<BTreeMap<(String, u64), Replica>> {
    let output = Command::new(binary()?)
        .args(["log", "dump"])
        .arg(data_dir)
        .args(["-o", "json"])
        .output()
        .context("running tidelog log dump")?;
    ensure!(
        output.status.success(),
        "tidelog log dump: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut replicas: BTreeMap<_, Replica> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let batch: Value = serde_json::from_str(line).context("reading a line of the dump")?;
        let topic = batch["topic_id"]
            .as_str()
            .context("a batch without a topic id")?
            .to_owned();
        let partition = batch["partition"]
            .as_u64()
            .context("a batch without a partition")?;
        replicas
            .entry((topic, partition))
            .or_default()
            .push(line.to_owned());
    }
    Ok(replicas)
}

/// Fails unless every broker that holds a partition holds the same bytes of it. Says how many
/// batches were compared.
pub fn compare(data_dirs: &[&Path]) -> Result<usize> {
    let dumps = data_dirs
        .iter()
        .map(|dir| dump(dir))
        .collect::<Result<Vec<_>>>()?;
    let first = dumps.first().context("nothing to compare")?;
    ensure!(!first.is_empty(), "the first broker holds no batches");
    let mut compared = 0;
    for (other, dir) in dumps.iter().zip(data_dirs).skip(1) {
        ensure!(
            other.len() == first.len(),
            "{} holds other partitions than the first broker",
            dir.display()
        );
        for (partition, replica) in first {
            let same = other.get(partition) == Some(replica);
            ensure!(
                same,
                "{} differs from the first broker in partition {partition:?}",
                dir.display()
            );
            compared += replica.len();
        }
    }
    Ok(compared)
}
