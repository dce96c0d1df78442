//! Brokers whose files are damaged while they are stopped: nobody is served wrong bytes, and the
//! operator's way back works as it is told. An offset keeps its one value (C2), replicas are the
//! same to the byte (P16), and a damaged disk comes back as another one (P18).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidelog_client::{Client, NewTopic, OffsetAt, Record};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::{replicas, wait};
use tidelog_types::{DirectoryId, ErrorCode};

const TOPIC: &str = "records";
const VALUE_BYTES: usize = 20_000;
const PATIENCE: Duration = Duration::from_mins(1);
/// What the error of a damaged directory tells the operator to do.
const REMEDY: &str = "move the directory aside and start with an empty one";

fn value(number: u64) -> Vec<u8> {
    let mut bytes = vec![(number % 251) as u8; VALUE_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

async fn connect(cluster: &Cluster) -> Result<Client> {
    let client = Client::builder(cluster.bootstrap()).client_id("damage");
    Ok(client.connect().await?)
}

/// Sends numbered records one after the other to partition 0, each acknowledged before the next.
async fn send(client: &Client, numbers: std::ops::Range<u64>) -> Result<()> {
    let producer = client.producer().build().await?;
    for number in numbers {
        let record = Record::to(TOPIC).partition(0).value(value(number));
        producer.send(record).await?;
    }
    Ok(producer.close(PATIENCE).await?)
}

/// Flips one bit in the middle of the largest file of a kind, or at another part of it.
fn flip(data_dir: &Path, end: &str, part: u64) -> Result<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(data_dir.join("db"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == end) {
            files.push((path.metadata()?.len(), path));
        }
    }
    let (length, path) = files
        .into_iter()
        .max()
        .with_context(|| format!("no .{end} file"))?;
    ensure!(length > VALUE_BYTES as u64, "{} is nearly empty", path.display());
    let mut bytes = std::fs::read(&path)?;
    bytes[(length / part) as usize] ^= 0x10;
    std::fs::write(&path, bytes)?;
    Ok(path)
}

async fn directory_of(client: &Client, id: u32) -> Result<DirectoryId> {
    let cluster = client.admin().describe_cluster().await?;
    let broker = cluster.brokers.iter().find(|broker| broker.broker_id == id);
    broker
        .and_then(|broker| broker.directory_id)
        .with_context(|| format!("broker {id} has no directory: {:?}", cluster.brokers))
}

async fn wait_isr(client: &Client, members: usize) -> Result<()> {
    wait::until("the in-sync replicas", PATIENCE, async || {
        let topic = client.admin().describe_topic(TOPIC).await?;
        let isr = &topic.partitions[0].isr;
        ensure!(isr.len() == members, "{isr:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_follower_refuses_to_start_and_is_replaced_as_its_error_says() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let client = connect(&cluster).await?;
    let topic = NewTopic::new(TOPIC).partitions(1).replication_factor(3);
    client.admin().create_topic(topic).await?;
    send(&client, 0..200).await?;
    wait_isr(&client, 3).await?;
    let leader = client.admin().describe_topic(TOPIC).await?.partitions[0].leader;
    let leader = leader.context("the partition has a leader")?;
    let follower = (1..=3).find(|id| *id != leader).context("another broker")?;
    let data_dir = cluster.broker(follower).data_dir().to_owned();
    let old_directory = directory_of(&client, follower).await?;

    // What stands in the WAL by now is noted as synced.
    let noted = std::fs::read(data_dir.join("mark"))?;
    let mut next = 200;
    wait::until("the sync mark", PATIENCE, async || {
        next += 1;
        send(&client, next - 1..next).await?;
        ensure!(std::fs::read(data_dir.join("mark"))? != noted);
        Ok(())
    })
    .await?;
    cluster.broker(follower).kill()?;
    let damaged_file = flip(&data_dir, "log", 4)?;
    let evidence = std::fs::read(&damaged_file)?;

    // It refuses, however often it is asked, and says what to do.
    for _ in 0..2 {
        let broker = cluster.broker(follower);
        broker.start()?;
        let code = broker.wait_ended(READY).await?;
        let said = broker.log_tail();
        ensure!(
            code == Some(1) && said.contains(REMEDY),
            "it ended with {code:?}: {said}"
        );
    }
    wait_isr(&client, 2).await?;

    // The others go on.
    send(&client, next..next + 50).await?;
    next += 50;

    // As it says: the directory is moved aside, an empty one takes its place.
    let aside = data_dir.with_extension("damaged");
    std::fs::rename(&data_dir, &aside)?;
    cluster.broker(follower).start()?;
    cluster.broker(follower).wait_ready(READY).await?;
    wait_isr(&client, 3).await?;
    ensure!(
        directory_of(&client, follower).await? != old_directory,
        "it serves under the identity of the damaged disk"
    );
    let moved = aside
        .join("db")
        .join(damaged_file.file_name().context("a file name")?);
    ensure!(std::fs::read(moved)? == evidence, "the evidence was changed");

    // It holds what its leader holds, to the byte; and serves it when it leads.
    for id in 1..=3 {
        cluster.broker(id).stop().await?;
    }
    let dirs: Vec<_> = cluster
        .brokers()
        .iter()
        .map(tidelog_tests::cluster::Broker::data_dir)
        .collect();
    ensure!(replicas::compare(&dirs)? > 0);
    let records = replicas::dump(&data_dir)?.values().map(Vec::len).sum::<usize>();
    ensure!(records as u64 >= next, "{records} batches of {next} records");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_read_meets_is_named_and_nothing_behind_it_is_handed_out() -> Result<()> {
    const RECORDS: u64 = 100;
    let mut cluster = Cluster::start(1).await?;
    let client = connect(&cluster).await?;
    let topic = NewTopic::new(TOPIC).partitions(1).replication_factor(1);
    client.admin().create_topic(topic).await?;
    send(&client, 0..RECORDS).await?;
    // In order: its last checkpoint is the end of the log, so that the start does not look at what
    // lies before.
    cluster.broker(1).stop().await?;
    let data_dir = cluster.broker(1).data_dir().to_owned();
    flip(&data_dir, "blob", 2)?;
    cluster.broker(1).start()?;
    cluster.broker(1).wait_ready(READY).await?;
    let client = connect(&cluster).await?;

    let reading = async {
        let mut consumer = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
        let mut read = 0;
        loop {
            match consumer.recv().await {
                Ok(record) => {
                    ensure!(record.offset == read, "offset {} after {read}", record.offset);
                    ensure!(
                        record.value.as_deref() == Some(&value(read)[..]),
                        "record {read} is another"
                    );
                    read += 1;
                    ensure!(read < RECORDS, "the damage is nowhere");
                }
                Err(error) => return Ok((read, error)),
            }
        }
    };
    let (read, error) = tokio::time::timeout(PATIENCE, reading)
        .await
        .context("no answer")??;
    ensure!(
        read > RECORDS / 4,
        "what stands before the damage is handed out: only {read}"
    );
    ensure!(error.code() == Some(ErrorCode::CorruptMessage), "{error}");
    let place = format!("at offset {read}");
    ensure!(
        error.to_string().contains(&place),
        "it does not say {place:?}: {error}"
    );

    // Asked from before it again, it says the same; the broker goes on, and writes.
    let mut consumer = client.consumer().partition(TOPIC, 0, read - 1).build().await?;
    ensure!(consumer.recv().await?.offset == read - 1);
    match tokio::time::timeout(PATIENCE, consumer.recv()).await? {
        Err(error) if error.code() == Some(ErrorCode::CorruptMessage) => {}
        other => bail!("{other:?}"),
    }
    send(&client, RECORDS..RECORDS + 1).await
}
