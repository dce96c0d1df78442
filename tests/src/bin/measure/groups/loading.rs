//! A broker is killed that coordinates a group with a million commits behind it: how long after it
//! is ready again the group is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidelog_client::{Client, NewTopic};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::wait;

const TOPIC: &str = "loading";
const GROUP: &str = "loading";
/// Commits by the thousand.
const PARTITIONS: u32 = 1_000;
const ROUNDS: u64 = 1_000;
/// How long the answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn measure() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let admin = client.admin();
    admin
        .create_topic(NewTopic::new(TOPIC).partitions(PARTITIONS))
        .await?;
    let partitions = client.partitions(TOPIC).await?;
    for round in 1..=ROUNDS {
        let offsets = partitions.iter().map(|partition| (partition.clone(), round));
        admin
            .commit_group_offsets(GROUP, offsets)
            .await
            .context("committing")?;
    }
    let broker = cluster.broker(1);
    broker.kill()?;
    broker.start()?;
    broker.wait_ready(READY).await?;
    let began = Instant::now();
    // A new client: nothing it knows is old.
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let offsets = wait::until("the group's offsets", PATIENCE, async || {
        Ok(client
            .admin()
            .timeout(Duration::from_secs(1))
            .group_offsets(GROUP)
            .await?)
    })
    .await?;
    let took = began.elapsed();
    ensure!(
        offsets.len() == partitions.len() && offsets.iter().all(|offset| offset.offset == ROUNDS),
        "not everything is there again"
    );
    println!(
        "a coordinator with {} commits behind it answers {:.2} s after its broker is ready again",
        u64::from(PARTITIONS) * ROUNDS,
        took.as_secs_f64()
    );
    Ok(())
}
