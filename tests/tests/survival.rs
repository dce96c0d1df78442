//! Brokers die by SIGKILL under load: nothing acknowledged is lost, nothing is stored twice, and
//! the replicas agree to the byte.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tidelog_client::{Client, NewTopic};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::ledger::Ledger;
use tidelog_tests::scenario::{Load, Member, SharedLedger, in_sync};
use tidelog_tests::{flights, replicas, wait};
use tokio::task::JoinHandle;

const TOPIC: &str = "flights";
/// How long a load may take with everything that happens to its brokers.
const PATIENCE: Duration = Duration::from_secs(90);

struct Run {
    cluster: Cluster,
    client: Client,
    ledger: SharedLedger,
    total: usize,
    loading: JoinHandle<Result<tidelog_tests::scenario::LoadReport>>,
}

impl Run {
    async fn begin(rounds: usize, pace: Duration) -> Result<Self> {
        let cluster = Cluster::start(3).await?;
        let client = Client::builder(cluster.bootstrap())
            .client_id("survival")
            .connect()
            .await?;
        client
            .admin()
            .create_topic(NewTopic::new(TOPIC).partitions(3).replication_factor(3))
            .await?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let load = Load {
            topic: TOPIC.to_owned(),
            flights: Arc::new(flights::read(&flights::week_file())?),
            rounds,
            pace,
            disturbance: Arc::default(),
        };
        let total = load.total();
        let loading = tokio::spawn(load.run(client.clone(), Arc::clone(&ledger)));
        Ok(Self {
            cluster,
            client,
            ledger,
            total,
            loading,
        })
    }

    async fn acknowledged(&self, enough: usize) -> Result<()> {
        wait::until("acknowledgements", PATIENCE, async || {
            let now = self.ledger.lock().rows_acknowledged();
            ensure!(now >= enough, "{now} of {enough}");
            Ok(())
        })
        .await
    }

    async fn leader_of_first(&self) -> Result<u32> {
        let topic = self.client.admin().describe_topic(TOPIC).await?;
        topic.partitions[0].leader.context("partition 0 has no leader")
    }

    async fn everybody_in_sync(&self) -> Result<()> {
        in_sync(&self.client, TOPIC, 3, PATIENCE).await
    }

    /// Waits for the load's end, reads everything, and holds it against what was acknowledged.
    async fn settle(mut self) -> Result<()> {
        let report = self.loading.await??;
        assert_eq!(report.produced, self.total);
        let reader = Member::join(
            self.client.clone(),
            "reader",
            TOPIC,
            "reader",
            Arc::clone(&self.ledger),
        );
        wait::until("everything to be read", PATIENCE, async || {
            let read = self.ledger.lock().rows_read();
            ensure!(read == self.total, "{read} of {}", self.total);
            Ok(())
        })
        .await?;
        reader.leave().await?;
        let sums = self.ledger.lock().sums();
        assert_eq!(
            (sums.acknowledged, sums.lost, sums.stored_twice),
            (self.total, 0, 0),
            "{sums:?}"
        );

        for id in 1..=3 {
            self.cluster.broker(id).stop().await?;
        }
        let dirs: Vec<_> = self
            .cluster
            .brokers()
            .iter()
            .map(tidelog_tests::cluster::Broker::data_dir)
            .collect();
        assert!(replicas::compare(&dirs)? > 0);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_and_a_follower_are_killed_under_load() -> Result<()> {
    let mut run = Run::begin(4, Duration::from_secs(8)).await?;
    run.acknowledged(run.total / 5).await?;
    let leader = run.leader_of_first().await?;
    run.cluster.broker(leader).kill()?;
    run.acknowledged(run.total / 2).await?;
    run.cluster.broker(leader).start()?;
    run.cluster.broker(leader).wait_ready(READY).await?;
    run.everybody_in_sync().await?;

    let follower = (1..=3).find(|id| *id != leader).context("another broker")?;
    run.cluster.broker(follower).kill()?;
    run.acknowledged(run.total * 4 / 5).await?;
    run.cluster.broker(follower).start()?;
    run.everybody_in_sync().await?;
    run.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_brokers_are_killed_at_once_under_load() -> Result<()> {
    let mut run = Run::begin(3, Duration::from_secs(6)).await?;
    run.acknowledged(run.total / 3).await?;
    run.cluster.kill_all()?;
    run.cluster.start_all()?;
    run.cluster.wait_ready(READY).await?;
    run.everybody_in_sync().await?;
    run.settle().await
}
