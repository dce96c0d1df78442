//! Brokers whose disks fill up: produces are refused by name, everything else goes on, and deleting
//! a topic is all it takes to recover. Nothing acknowledged is lost on the way (C1), and what was
//! read stays readable (C9).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tidelog_client::{Client, NewTopic, OffsetAt, OffsetReset, Producer, Record};
use tidelog_tests::cluster::{Broker, Cluster, READY};
use tidelog_tests::small_disk::SmallDisk;
use tidelog_tests::wait;

const KEPT: &str = "kept";
const DELETED: &str = "deleted";
/// Of a record's value. Large enough for blob files, small enough for many to share a batch.
const VALUE_BYTES: usize = 16 * 1024;
/// Records that are sent and not answered, at most: more than a disk of the tests has as its
/// reserve.
const IN_FLIGHT: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(90);

/// A value that only its number makes, and that does not compress.
fn value(number: u64) -> Bytes {
    let mut noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(VALUE_BYTES);
    bytes.extend_from_slice(&number.to_be_bytes());
    while bytes.len() < VALUE_BYTES {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        bytes.extend_from_slice(&noise.to_be_bytes());
    }
    bytes.into()
}

/// Where every acknowledged record stands, by topic and place.
type Acknowledged = HashMap<(String, u32, u64), u64>;

struct Filling {
    cluster: Cluster,
    client: Client,
    // After the cluster: a broker that still runs keeps its disk busy.
    disks: Vec<SmallDisk>,
    acknowledged: Acknowledged,
    next: u64,
}

impl Filling {
    /// A cluster of three on disks of these sizes, with two topics. Without a reserve that is told,
    /// a twentieth of the disk is one.
    async fn begin(sizes_mib: [u32; 3], reserve: Option<&str>) -> Result<Self> {
        let mut cluster = Cluster::prepare(3, false, &[])?;
        let disks = cluster
            .brokers()
            .iter()
            .zip(sizes_mib)
            .map(|(broker, size_mib)| SmallDisk::mount(broker.data_dir(), size_mib))
            .collect::<Result<Vec<_>>>()?;
        for id in 1..=3 {
            let broker = cluster.broker(id);
            broker.set_env("TIDELOG__REPLICATION__LAG_TIME_MAX_MS", "2000");
            broker.set_env("TIDELOG__BROKER__MEMORY_BUDGET", "64MiB");
            if let Some(reserve) = reserve {
                broker.set_env("TIDELOG__BROKER__RESERVE", reserve);
            }
        }
        cluster.start_all()?;
        cluster.wait_ready(READY).await?;
        let client = Client::builder(cluster.bootstrap())
            .client_id("filling")
            .connect()
            .await?;
        for topic in [KEPT, DELETED] {
            let topic = NewTopic::new(topic).partitions(3).replication_factor(3);
            client.admin().create_topic(topic).await?;
        }
        Ok(Self {
            cluster,
            client,
            disks,
            acknowledged: Acknowledged::new(),
            next: 0,
        })
    }

    async fn producer(&self) -> Result<Producer> {
        // Short enough for a refusal to come out soon, long enough for a follower to leave the ISR
        // meanwhile.
        let producer = self
            .client
            .producer()
            .delivery_timeout(Duration::from_secs(8))
            .request_timeout(Duration::from_secs(5));
        Ok(producer.build().await?)
    }

    /// Sends to both topics in turn, as fast as it goes, until a record is not taken or `enough`
    /// are. Every answer is awaited.
    async fn fill(&mut self, partitions: &[u32], enough: usize) -> Result<Option<String>> {
        let producer = self.producer().await?;
        let mut in_flight = FuturesUnordered::new();
        let (mut refused, mut sent) = (None, 0);
        loop {
            while refused.is_none() && sent < enough && in_flight.len() < IN_FLIGHT {
                let number = self.next;
                self.next += 1;
                sent += 1;
                let topic = if number.is_multiple_of(3) { KEPT } else { DELETED };
                let partition = partitions[(number / 3) as usize % partitions.len()];
                let record = Record::to(topic).partition(partition).value(value(number));
                let delivery = producer.enqueue(record).await?;
                in_flight.push(async move { (topic, number, delivery.await) });
            }
            match in_flight.next().await {
                Some((topic, number, Ok(place))) => {
                    let place = (topic.to_owned(), place.partition, place.offset);
                    self.acknowledged.insert(place, number);
                }
                Some((_, _, Err(error))) => {
                    refused.get_or_insert_with(|| error.to_string());
                }
                None => return Ok(refused),
            }
        }
    }

    /// Fills until a record is refused for want of room.
    async fn fill_up(&mut self, partitions: &[u32]) -> Result<()> {
        let refused = self.fill(partitions, usize::MAX).await?;
        let refused = refused.context("records without end are taken")?;
        ensure!(refused.contains("DISK_FULL"), "not refused by name: {refused}");
        let acknowledged = self.acknowledged.len();
        eprintln!(
            "{acknowledged} records of {VALUE_BYTES} bytes were taken, {:?} bytes are free: {refused}",
            self.free()
        );
        ensure!(
            acknowledged * VALUE_BYTES > 150 << 20,
            "the disks were not full at all: {acknowledged} records"
        );
        Ok(())
    }

    /// Reads a topic to its end: every acknowledged record is where it was acknowledged, with its
    /// value.
    async fn check(&self, topic: &str) -> Result<()> {
        let reading = async {
            let mut consumer = self
                .client
                .consumer()
                .topic(topic, OffsetAt::Earliest)
                .build()
                .await?;
            let ends = consumer.end_offsets().await?;
            let mut found = 0;
            while let Some(record) = consumer.recv_until(&ends).await? {
                let place = (topic.to_owned(), record.partition, record.offset);
                let Some(&number) = self.acknowledged.get(&place) else {
                    continue;
                };
                ensure!(record.value == Some(value(number)), "{place:?} has another value");
                found += 1;
            }
            let expected = self.acknowledged.keys().filter(|place| place.0 == topic).count();
            ensure!(
                found == expected,
                "{found} of {expected} records of {topic} were read"
            );
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .context("reading takes too long")?
    }

    /// A member of a group reads some and commits, which writes a little.
    async fn a_group_reads_and_commits(&self, group: &str) -> Result<()> {
        let reading = async {
            let mut member = self
                .client
                .group(group)
                .topics([KEPT])
                .auto_offset_reset(OffsetReset::Earliest)
                .build()
                .await?;
            for _ in 0..100 {
                let record = member.recv().await?;
                member.mark(&record);
            }
            member.commit().await?;
            member.close(Duration::from_secs(5)).await?;
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .context("the group takes too long")?
    }

    /// Waits until records are taken again.
    async fn wait_taken(&mut self, partitions: &[u32]) -> Result<()> {
        for _ in 0..20 {
            if self.fill(partitions, 3 * partitions.len()).await?.is_none() {
                return Ok(());
            }
        }
        bail!("nothing is taken, with {:?} bytes free", self.free())
    }

    fn free(&self) -> Vec<u64> {
        self.disks
            .iter()
            .filter_map(|disk| disk.free_bytes().ok())
            .collect()
    }

    /// The ends of the brokers' logs.
    fn logs(&self) -> String {
        let tails = self.cluster.brokers().iter().map(Broker::log_tail);
        tails.collect::<Vec<_>>().join("\n")
    }

    fn everybody_runs(&mut self) -> Result<()> {
        for id in 1..=3 {
            let broker = self.cluster.broker(id);
            ensure!(broker.is_running()?, "broker {id} ended: {}", broker.log_tail());
        }
        Ok(())
    }

    async fn isr_of_all(&self, member: u32, is_in: bool) -> Result<()> {
        wait::until("the ISR to follow", PATIENCE, async || {
            let topic = self.client.admin().describe_topic(KEPT).await?;
            let other = topic
                .partitions
                .iter()
                .find(|partition| partition.isr.contains(&member) != is_in);
            ensure!(other.is_none(), "{other:?}");
            Ok(())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_produces_and_recovers_when_a_topic_is_deleted() -> Result<()> {
    let mut filling = Filling::begin([300, 300, 300], None).await?;
    let all = [0, 1, 2];
    filling.fill_up(&all).await?;

    // Reads and admin go on.
    filling.everybody_runs()?;
    for topic in [KEPT, DELETED] {
        filling.check(topic).await?;
    }
    // More was on its way to followers than half of this reserve: groups may be refused as well,
    // and are told why.
    if let Err(error) = filling.a_group_reads_and_commits("while-full").await {
        let refused = format!("{error:#}");
        ensure!(refused.contains("DISK_FULL"), "not refused by name: {refused}");
    }
    let more = NewTopic::new("more").partitions(1).replication_factor(3);
    filling.client.admin().create_topic(more).await?;

    // A broker that dies at this moment comes back: replaying its WAL has the room that it needs.
    filling.cluster.broker(2).kill()?;
    filling.cluster.broker(2).start()?;
    filling.cluster.broker(2).wait_ready(READY).await?;
    filling.isr_of_all(2, true).await?;
    filling.check(KEPT).await?;

    filling.client.admin().delete_topic(DELETED).await?;
    filling.acknowledged.retain(|place, _| place.0 == KEPT);
    wait::until("space to be freed", PATIENCE, async || {
        let free = filling.free();
        ensure!(free.iter().all(|free| *free > 60 << 20), "{free:?}");
        Ok(())
    })
    .await?;
    let again = NewTopic::new(DELETED).partitions(3).replication_factor(3);
    filling.client.admin().create_topic(again).await?;
    filling.wait_taken(&all).await?;
    filling.a_group_reads_and_commits("while-full").await?;
    filling.everybody_runs()?;
    for topic in [KEPT, DELETED] {
        filling.check(topic).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_go_on_while_clients_are_refused() -> Result<()> {
    // Half of it is twice what is in flight: what followers still fetch when leaders refuse does
    // not reach it.
    let mut filling = Filling::begin([450, 450, 450], Some("128MiB")).await?;
    filling.fill_up(&[0, 1, 2]).await?;
    let grouped = filling.a_group_reads_and_commits("while-full").await;
    let told = || {
        let free = filling.free();
        format!("with {free:?} bytes free; the brokers say:\n{}", filling.logs())
    };
    grouped.with_context(told)?;
    filling.everybody_runs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_full_disk_leaves_the_isr_and_returns() -> Result<()> {
    let mut filling = Filling::begin([500, 500, 250], None).await?;
    // Only what the two larger brokers lead: the small one has the reserve of a follower alone.
    let topic = filling.client.admin().describe_topic(KEPT).await?;
    let other = filling.client.admin().describe_topic(DELETED).await?;
    let led_elsewhere: Vec<u32> = (0..3)
        .filter(|index| {
            [&topic, &other].iter().all(|topic| {
                topic.partitions[*index as usize]
                    .leader
                    .is_some_and(|leader| leader != 3)
            })
        })
        .collect();
    ensure!(!led_elsewhere.is_empty(), "{topic:?} {other:?}");

    // 240 MB: more than the small disk holds, less than the others do.
    let refused = filling.fill(&led_elsewhere, 15_000).await?;
    ensure!(refused.is_none(), "the others have room: {refused:?}");
    eprintln!("bytes free: {:?}", filling.free());
    filling.everybody_runs()?;
    let topic = filling.client.admin().describe_topic(KEPT).await?;
    for index in &led_elsewhere {
        let partition = &topic.partitions[*index as usize];
        ensure!(
            !partition.isr.contains(&3),
            "it cannot hold all of this: {partition:?}"
        );
    }
    filling.check(KEPT).await?;

    filling.client.admin().delete_topic(DELETED).await?;
    filling.acknowledged.retain(|place, _| place.0 == KEPT);
    filling.isr_of_all(3, true).await?;
    filling.everybody_runs()?;
    filling.check(KEPT).await
}
