//! A third member joins two that read all the time: how long until it is handed its first record,
//! and how long the partitions that stay where they are deliver nothing meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tidelog_client::{Client, Consumer, NewTopic, Record};
use tidelog_tests::cluster::Cluster;
use tidelog_tests::wait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "rebalance";
const GROUP: &str = "rebalance";
const BROKERS: u32 = 3;
const PARTITIONS: u32 = 6;
/// Between two records of a partition.
const PACE: Duration = Duration::from_millis(5);
/// How often a member commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long everybody reads on after the newcomer's first record, for gaps that come later.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// When records were handed out, a partition each.
type Deliveries = Arc<Mutex<BTreeMap<u32, Vec<Instant>>>>;

struct Member {
    deliveries: Deliveries,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Member {
    async fn join(cluster: &Cluster, number: usize) -> Result<Self> {
        let client = Client::builder(cluster.bootstrap())
            .client_id(format!("member-{number}"))
            .connect()
            .await?;
        let deliveries = Deliveries::default();
        let stop = CancellationToken::new();
        let consumer = client.group(GROUP).topics([TOPIC]).build().await?;
        let task = tokio::spawn(read(consumer, Arc::clone(&deliveries), stop.clone()));
        Ok(Self {
            deliveries,
            stop,
            task,
        })
    }

    fn since(&self, began: Instant) -> BTreeSet<u32> {
        let deliveries = self.deliveries.lock();
        let fresh = deliveries
            .iter()
            .filter(|(_, times)| times.last().is_some_and(|last| *last >= began));
        fresh.map(|(partition, _)| *partition).collect()
    }

    fn first(&self) -> Option<Instant> {
        self.deliveries
            .lock()
            .values()
            .filter_map(|times| times.first().copied())
            .min()
    }

    /// The longest time between two records of one of these partitions, from a moment on.
    fn longest_gap(&self, partitions: &BTreeSet<u32>, from: Instant) -> Duration {
        let deliveries = self.deliveries.lock();
        let gap = |times: &Vec<Instant>| {
            let pairs = times.windows(2).filter(|pair| pair[1] >= from);
            pairs
                .map(|pair| pair[1].duration_since(pair[0]))
                .max()
                .unwrap_or_default()
        };
        let gaps = deliveries
            .iter()
            .filter(|(partition, _)| partitions.contains(partition));
        gaps.map(|(_, times)| gap(times)).max().unwrap_or_default()
    }

    async fn leave(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?
    }
}

async fn read(mut consumer: Consumer, deliveries: Deliveries, stop: CancellationToken) -> Result<()> {
    let mut commits = tokio::time::interval(COMMIT_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = commits.tick() => consumer.commit().await.context("committing")?,
            record = consumer.recv() => {
                let record = record.context("reading")?;
                deliveries.lock().entry(record.partition).or_default().push(Instant::now());
                consumer.mark(&record);
            }
        }
    }
    consumer.close(PATIENCE).await.context("leaving")
}

/// Sends a record to every partition at each tick, until told to stop.
async fn produce(client: Client, stop: CancellationToken) -> Result<()> {
    let producer = client.producer().build().await?;
    let mut ticks = tokio::time::interval(PACE);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for partition in 0..PARTITIONS {
            drop(
                producer
                    .enqueue(Record::to(TOPIC).partition(partition).value("tick"))
                    .await?,
            );
        }
    }
    Ok(producer.close(PATIENCE).await?)
}

pub(crate) async fn measure(repetitions: usize) -> Result<()> {
    let cluster = Cluster::start(BROKERS).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let topic = NewTopic::new(TOPIC)
        .partitions(PARTITIONS)
        .replication_factor(BROKERS);
    client.admin().create_topic(topic).await?;
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(client, stop.clone()));
    let settled = [Member::join(&cluster, 1).await?, Member::join(&cluster, 2).await?];
    let (mut joins, mut gaps) = (Vec::new(), Vec::new());
    for number in 0..repetitions {
        let (join, gap) = join_once(&cluster, &settled, number + 3).await?;
        eprintln!(
            "join {}: first record after {} ms, longest gap elsewhere {} ms",
            number + 1,
            join.as_millis(),
            gap.as_millis()
        );
        joins.push(join);
        gaps.push(gap);
    }
    stop.cancel();
    producing.await??;
    for member in settled {
        member.leave().await?;
    }
    print("join to the first record on the new owner", &mut joins);
    print("longest gap in partitions that did not move", &mut gaps);
    Ok(())
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    println!(
        "{what}: p50 {} ms, worst {} ms ({} times)",
        times[times.len() / 2].as_millis(),
        times[times.len() - 1].as_millis(),
        times.len()
    );
}

/// One join and leave: how long the newcomer waited, and the longest gap in what stayed where it
/// was.
async fn join_once(cluster: &Cluster, settled: &[Member], number: usize) -> Result<(Duration, Duration)> {
    let quiet = Instant::now();
    wait::until("two members to share all partitions", PATIENCE, async || {
        let shares = settled
            .iter()
            .map(|member| member.since(quiet).len())
            .collect::<Vec<_>>();
        ensure!(shares == [PARTITIONS as usize / 2; 2], "{shares:?}");
        Ok(())
    })
    .await?;
    let began = Instant::now();
    let newcomer = Member::join(cluster, number).await?;
    let first = wait::until("the newcomer's first record", PATIENCE, async || {
        newcomer.first().context("none yet")
    })
    .await?;
    let arrived = Instant::now();
    wait::until("records after the join", PATIENCE, async || {
        ensure!(arrived.elapsed() >= AFTERWARDS, "a moment still");
        Ok(())
    })
    .await?;
    let moved = newcomer.since(began);
    let gap = settled.iter().map(|member| {
        let stayed = member.since(arrived).difference(&moved).copied().collect();
        member.longest_gap(&stayed, began)
    });
    let gap = gap.max().unwrap_or_default();
    newcomer.leave().await?;
    for member in settled {
        // Later joins are not to be charged with what was before them.
        member.deliveries.lock().clear();
    }
    Ok((first.duration_since(began), gap))
}
