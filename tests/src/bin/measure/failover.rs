//! How long producers wait when a leader goes: from the fault until every partition that the broker
//! led has acknowledged a record that was sent after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustix::process::Signal;
use tidelog_client::{Client, NewTopic, Record};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::links::{Links, start_cluster};
use tidelog_tests::scenario::in_sync;
use tidelog_tests::wait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "failover";
const PARTITIONS: u32 = 6;
const BROKERS: u32 = 3;
/// Time between two records of a partition.
const PACE: Duration = Duration::from_millis(5);
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What happens to a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL of a broker that leads partitions, but not the metadata
    KillLeader,
    /// SIGKILL of the broker that leads the metadata, and partitions
    KillMetadataLeader,
    /// SIGSTOP
    Pause,
    /// Every connection between it and the other brokers is cut
    CutOff,
    /// SIGTERM
    Stop,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::KillLeader,
        Self::KillMetadataLeader,
        Self::Pause,
        Self::CutOff,
        Self::Stop,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "leader killed",
            Self::KillMetadataLeader => "metadata leader killed",
            Self::Pause => "leader paused",
            Self::CutOff => "leader cut off",
            Self::Stop => "leader stopped in order",
        }
    }
}

pub(crate) async fn measure(repetitions: usize, only: Option<Fault>) -> Result<()> {
    let mut bench = Bench::start().await?;
    for fault in Fault::ALL {
        if only.is_some_and(|only| only != fault) {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..repetitions {
            times.push(bench.repeat(fault).await.with_context(|| fault.name())?);
        }
        times.sort_unstable();
        println!(
            "{}: acknowledged again after p50 {} ms, worst {} ms (best {} ms, {} times)",
            fault.name(),
            times[times.len() / 2].as_millis(),
            times[times.len() - 1].as_millis(),
            times[0].as_millis(),
            times.len()
        );
    }
    bench.probes.stop().await
}

struct Bench {
    cluster: Cluster,
    links: Links,
    client: Client,
    probes: Probes,
}

impl Bench {
    async fn start() -> Result<Self> {
        let (cluster, links) = start_cluster(BROKERS, false).await?;
        let client = Client::builder(cluster.bootstrap())
            .client_id("failover")
            .connect()
            .await?;
        let topic = NewTopic::new(TOPIC)
            .partitions(PARTITIONS)
            .replication_factor(BROKERS);
        client.admin().create_topic(topic).await?;
        let probes = Probes::start(&client).await?;
        Ok(Self {
            cluster,
            links,
            client,
            probes,
        })
    }

    async fn repeat(&mut self, fault: Fault) -> Result<Duration> {
        let (victim, led) = self.choose(fault).await?;
        self.probes.all_acknowledge().await?;
        let began = Instant::now();
        self.strike(fault, victim)?;
        let waited = self
            .probes
            .acknowledged_since(&led, began)
            .await
            .with_context(|| format!("broker {victim}, which led {led:?}"))?;
        eprintln!(
            "{}: broker {victim}, {} partition(s), {} ms",
            fault.name(),
            led.len(),
            waited.as_millis()
        );
        self.heal(fault, victim).await?;
        Ok(waited)
    }

    /// A broker that fits the fault, once everything is in sync; with the partitions that it leads.
    async fn choose(&self, fault: Fault) -> Result<(u32, Vec<u32>)> {
        in_sync(&self.client, TOPIC, BROKERS, PATIENCE).await?;
        let admin = self.client.admin();
        wait::until("a leader that fits", PATIENCE, async || {
            let topic = admin.describe_topic(TOPIC).await?;
            let metadata_leader = admin.describe_cluster().await?.metadata_leader;
            let metadata_leader = metadata_leader.context("no metadata leader")?;
            let fits = |broker: u32| match fault {
                Fault::KillMetadataLeader => broker == metadata_leader,
                Fault::KillLeader => broker != metadata_leader,
                Fault::Pause | Fault::CutOff | Fault::Stop => true,
            };
            let mut led: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for partition in &topic.partitions {
                if let Some(leader) = partition.leader.filter(|leader| fits(*leader)) {
                    led.entry(leader).or_default().push(partition.partition);
                }
            }
            let mut leaders: Vec<_> = led.into_iter().collect();
            ensure!(!leaders.is_empty(), "no broker that fits leads a partition");
            Ok(leaders.swap_remove(rand::random_range(0..leaders.len())))
        })
        .await
    }

    fn strike(&mut self, fault: Fault, victim: u32) -> Result<()> {
        match fault {
            Fault::KillLeader | Fault::KillMetadataLeader => {
                self.links.close(victim);
                self.cluster.broker(victim).kill()
            }
            Fault::Pause => self.cluster.broker(victim).signal(Signal::STOP),
            Fault::CutOff => {
                let others = (1..=BROKERS).filter(|id| *id != victim);
                self.links.cut(others.flat_map(|id| [(id, victim), (victim, id)]));
                Ok(())
            }
            Fault::Stop => self.cluster.broker(victim).signal(Signal::TERM),
        }
    }

    async fn heal(&mut self, fault: Fault, victim: u32) -> Result<()> {
        self.links.mend();
        let broker = self.cluster.broker(victim);
        match fault {
            Fault::Pause => broker.signal(Signal::CONT)?,
            Fault::Stop => broker.stopped().await?,
            Fault::KillLeader | Fault::KillMetadataLeader | Fault::CutOff => {}
        }
        self.links.open(victim)?;
        self.cluster.start_all()?;
        self.links.know(&self.cluster);
        self.cluster.wait_ready(READY).await
    }
}

/// A record every few milliseconds to every partition.
struct Probes {
    acknowledged: Arc<Mutex<BTreeMap<u32, Instant>>>,
    tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
}

impl Probes {
    async fn start(client: &Client) -> Result<Self> {
        let mut probes = Self {
            acknowledged: Arc::default(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        for partition in 0..PARTITIONS {
            let producer = client.producer().build().await.context("building a producer")?;
            let (acknowledged, stop) = (Arc::clone(&probes.acknowledged), probes.stop.clone());
            probes.tasks.spawn(async move {
                let mut pace = tokio::time::interval(PACE);
                while !stop.is_cancelled() {
                    pace.tick().await;
                    let record = Record::to(TOPIC).partition(partition).value("probe");
                    let sent_at = Instant::now();
                    let delivery = producer.enqueue(record).await?;
                    let acknowledged = Arc::clone(&acknowledged);
                    tokio::spawn(async move {
                        if delivery.await.is_ok() {
                            let mut newest = acknowledged.lock();
                            let newest = newest.entry(partition).or_insert(sent_at);
                            *newest = (*newest).max(sent_at);
                        }
                    });
                }
                Ok(producer.close(READY).await?)
            });
        }
        Ok(probes)
    }

    /// Waits until every partition acknowledges.
    async fn all_acknowledge(&self) -> Result<()> {
        let all: Vec<u32> = (0..PARTITIONS).collect();
        self.acknowledged_since(&all, Instant::now()).await.map(drop)
    }

    /// Waits until each of these partitions has acknowledged a record sent after `since`. Says how
    /// long that took.
    async fn acknowledged_since(&self, partitions: &[u32], since: Instant) -> Result<Duration> {
        let deadline = since + PATIENCE;
        loop {
            let open = {
                let acknowledged = self.acknowledged.lock();
                let fresh = |partition: &&u32| acknowledged.get(*partition).is_none_or(|at| *at <= since);
                partitions.iter().filter(fresh).count()
            };
            if open == 0 {
                return Ok(since.elapsed());
            }
            ensure!(
                Instant::now() < deadline,
                "{open} partition(s) do not acknowledge"
            );
            // Finer than what is measured.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
