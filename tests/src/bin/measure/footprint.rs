//! Idle CPU and memory, and how long it takes until a cluster acknowledges.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tidelog_client::{Client, NewTopic, Record};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::ledger::Ledger;
use tidelog_tests::scenario::Load;
use tidelog_tests::{flights, wait};

use crate::process;

const TOPIC: &str = "flights";
/// Departures of a year.
const YEAR: usize = 336_776;

pub(crate) async fn measure(file: Option<&Path>, idle_seconds: u64) -> Result<()> {
    let mut cluster = Cluster::prepare(3, false, &[])?;
    let began = Instant::now();
    cluster.start_all()?;
    first_acknowledged(&cluster, true).await?;
    println!(
        "from starting three empty brokers to the first acknowledged record: {:.2} s",
        began.elapsed().as_secs_f64()
    );

    cluster.wait_ready(READY).await?;
    let idle = Duration::from_secs(idle_seconds);
    tokio::time::sleep(idle).await;
    let (cpu_before, at) = (process::cpu_time(&cluster)?, Instant::now());
    tokio::time::sleep(idle).await;
    let cpu = process::cpu_time(&cluster)?.saturating_sub(cpu_before);
    println!(
        "three idle brokers: {:.2} % of a core (mean of {idle_seconds} s, after {idle_seconds} s idle), {:.0} MiB of memory in all (PSS)",
        100.0 * cpu.as_secs_f64() / at.elapsed().as_secs_f64(),
        process::pss_bytes(&cluster)? as f64 / 1024.0 / 1024.0
    );

    let rows = load_a_year(&cluster, file).await?;
    cluster.kill_all()?;
    let began = Instant::now();
    cluster.start_all()?;
    first_acknowledged(&cluster, false).await?;
    println!(
        "from restarting all three after SIGKILL, {rows} records loaded, to the first acknowledged record: {:.2} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Tries until a record is acknowledged; creates the topic first on an empty cluster.
async fn first_acknowledged(cluster: &Cluster, create: bool) -> Result<()> {
    let client = wait::until("a broker to answer", READY, async || {
        Ok(Client::builder(cluster.bootstrap()).connect().await?)
    })
    .await?;
    if create {
        let topic = || NewTopic::new(TOPIC).partitions(6).replication_factor(3);
        wait::until("a topic to be created", READY, async || {
            Ok(client.admin().create_topic(topic()).await?)
        })
        .await?;
    }
    let producer = client.producer().build().await.context("building a producer")?;
    producer.send(Record::to(TOPIC).value("first")).await?;
    producer.close(READY).await?;
    Ok(())
}

async fn load_a_year(cluster: &Cluster, file: Option<&Path>) -> Result<usize> {
    let flights = flights::read(file.map_or_else(flights::week_file, Path::to_owned).as_path())?;
    let rounds = YEAR.div_ceil(flights.len());
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let load = Load {
        topic: TOPIC.to_owned(),
        rounds,
        flights: Arc::new(flights),
        pace: Duration::ZERO,
        disturbance: Arc::default(),
    };
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    Ok(load.run(client, ledger).await?.produced)
}
