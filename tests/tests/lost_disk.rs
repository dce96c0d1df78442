//! A broker's data directory is deleted while it is stopped: it rejoins as a new directory, and
//! nothing is lost (M30, C1, P18).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidelog_client::{Client, NewTopic};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::program::Program;
use tidelog_tests::scenario::in_sync;
use tidelog_tests::wait;

const TOPIC: &str = "kept";
const RECORDS: usize = 500;
/// How long an empty directory may take to be in every ISR.
const PATIENCE: Duration = Duration::from_mins(1);

async fn metadata_leader(program: &Program) -> Result<u32> {
    wait::until("a metadata leader", PATIENCE, async || {
        let status = program.json(&["cluster", "status", "-o", "json"])?;
        let leader = status["metadata_leader"].as_u64().filter(|leader| *leader > 0);
        Ok(u32::try_from(leader.with_context(|| format!("{status}"))?)?)
    })
    .await
}

/// Produces the lines from `first` on, all acknowledged.
fn produce(program: &Program, first: usize) -> Result<()> {
    let numbers: Vec<String> = (first..first + RECORDS)
        .map(|number| number.to_string())
        .collect();
    let lines = numbers.join("\n") + "\n";
    let output = program.run_with_input(&["produce", TOPIC], &lines)?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Everything that was acknowledged is read, each record once.
fn read_all(program: &Program, count: usize) -> Result<()> {
    let text = program.ok(&["consume", TOPIC, "--from", "beginning", "--until-end"])?;
    let mut numbers = text
        .lines()
        .map(|line| Ok(line.parse::<usize>()?))
        .collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    ensure!(
        numbers == (0..count).collect::<Vec<_>>(),
        "C1: {} of {count} records are read",
        numbers.len()
    );
    Ok(())
}

async fn loses_its_disk(led_the_metadata: bool) -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let program = Program::of(&cluster);
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let topic = NewTopic::new(TOPIC).partitions(3).replication_factor(3);
    client.admin().create_topic(topic).await?;
    in_sync(&client, TOPIC, 3, PATIENCE).await?;
    produce(&program, 0)?;

    let leader = metadata_leader(&program).await?;
    let victim = if led_the_metadata { leader } else { leader % 3 + 1 };
    cluster.broker(victim).stop().await?;
    std::fs::remove_dir_all(cluster.broker(victim).data_dir())?;
    produce(&program, RECORDS)?;
    cluster.broker(victim).start()?;
    cluster.broker(victim).wait_ready(PATIENCE).await?;
    in_sync(&client, TOPIC, 3, PATIENCE).await?;
    produce(&program, 2 * RECORDS)?;

    // The other two die: only with the new directory's vote and replicas there is a majority and an
    // ISR.
    let others: Vec<u32> = (1..=3).filter(|id| *id != victim).collect();
    for other in &others {
        cluster.broker(*other).kill()?;
    }
    cluster.broker(others[0]).start()?;
    cluster.broker(others[0]).wait_ready(PATIENCE).await?;
    produce(&program, 3 * RECORDS)?;
    read_all(&program, 4 * RECORDS)?;
    cluster.broker(others[1]).start()?;
    cluster.wait_ready(READY).await?;
    in_sync(&client, TOPIC, 3, PATIENCE).await?;
    read_all(&program, 4 * RECORDS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_data_directory_rejoins_and_nothing_is_lost() -> Result<()> {
    loses_its_disk(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metadata_leader_that_lost_its_data_directory_rejoins_and_nothing_is_lost() -> Result<()> {
    loses_its_disk(true).await
}
