//! The compose file as it is shipped: three containers form a cluster, serve the host, and survive
//! the loss of one of them.
//!
//! `cargo xtask test` makes the image of the program under test and names it in `TIDELOG_IMAGE`,
//! wherever a Docker engine answers.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod compose;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use compose::Compose;
use tidelog_client::{Client, NewTopic, OffsetReset, Record};
use tidelog_tests::scenario::in_sync;

const TOPIC: &str = "orders";
/// How long each step may take: what is asserted is that it happens, not how fast.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the brokers serve the host, as the compose file says.
const BOOTSTRAP: [&str; 3] = ["localhost:17171", "localhost:17271", "localhost:17371"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_containers_form_a_cluster_and_survive_the_loss_of_one() -> Result<()> {
    let Some(image) = std::env::var_os("TIDELOG_IMAGE") else {
        eprintln!(
            "SKIPPED: TIDELOG_IMAGE is not set, since no Docker engine answers here: the compose file was NOT tested"
        );
        return Ok(());
    };
    let compose = Compose::up(&image)?;
    let started = Instant::now();
    compose
        .wait_healthy(&["tidelog-1", "tidelog-2", "tidelog-3"], PATIENCE)
        .await?;
    println!(
        "healthy {:.1} s after the containers' start",
        started.elapsed().as_secs_f64()
    );

    let client = Client::builder(BOOTSTRAP)
        .connect()
        .await
        .context("connecting from the host")?;
    let topic = NewTopic::new(TOPIC).partitions(3).replication_factor(3);
    client.admin().create_topic(topic).await?;
    let producer = client.producer().build().await?;
    for number in 0..100 {
        producer.send(record(number)).await?;
    }

    compose.kill("tidelog-2")?;
    for number in 100..200 {
        producer
            .send(record(number))
            .await
            .context("producing with two of three")?;
    }
    let read = read_all(&client, 200).await?;
    assert_eq!(read, (0..200).collect::<Vec<u32>>());

    compose.start("tidelog-2")?;
    compose.wait_healthy(&["tidelog-2"], PATIENCE).await?;
    in_sync(&client, TOPIC, 3, PATIENCE).await?;
    producer.close(PATIENCE).await?;
    compose.down()
}

fn record(number: u32) -> Record {
    Record::to(TOPIC)
        .key(format!("customer-{}", number % 7))
        .value(number.to_string())
}

/// The numbers that a group reads, in order.
async fn read_all(client: &Client, enough: usize) -> Result<Vec<u32>> {
    let mut consumer = client
        .group("inventory")
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;
    let mut numbers = Vec::new();
    while numbers.len() < enough {
        let record = tokio::time::timeout(PATIENCE, consumer.recv())
            .await
            .with_context(|| format!("{} of {enough} came", numbers.len()))??;
        consumer.mark(&record);
        numbers.push(std::str::from_utf8(record.value.as_deref().context("a null value")?)?.parse()?);
    }
    consumer.close(PATIENCE).await?;
    numbers.sort_unstable();
    Ok(numbers)
}
