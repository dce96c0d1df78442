//! `tidelog cluster`

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use tidelog_client::{BrokerDescription, ClusterDescription};

use super::{Effect, until_answered};
use crate::args::{ConnectFlags, OutputFlag};
use crate::exit::{Exit, Failure};
use crate::output::{self, Columns, or_dash};
use crate::probe;

/// How long the health check waits for each step; the containers' check gives it two seconds in all.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// `tidelog cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Brokers, the metadata leader, partitions in trouble
    Status(StatusFlags),
    /// Whether the cluster, or this host's broker, serves as it should: exit code 5 if not
    Health(HealthFlags),
}

/// Flags of `tidelog cluster status`.
#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Flags of `tidelog cluster health`.
#[derive(Debug, Args)]
pub(crate) struct HealthFlags {
    /// Ask only this host's broker, by its HTTP listener
    #[arg(long)]
    local: bool,
    /// Where this host's broker answers HTTP
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7173",
        requires = "local"
    )]
    http: String,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// The cluster as programs get it.
#[derive(Debug, Serialize)]
struct ShownCluster {
    cluster_id: Option<String>,
    metadata_leader: Option<u32>,
    metadata_term: u64,
    metadata_index: u64,
    brokers: Vec<ShownBroker>,
    under_replicated: u32,
    under_min_isr: u32,
    offline: u32,
}

#[derive(Debug, Serialize)]
struct ShownBroker {
    id: u32,
    alive: bool,
    address: String,
    voter: bool,
    epoch: u64,
    directory_id: Option<String>,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Status(flags) => until_answered(Effect::Reads, status(flags)),
        Command::Health(flags) if flags.local => local_health(&flags.http),
        Command::Health(flags) => until_answered(Effect::Reads, health(flags)),
    }
}

async fn ask(connect: &ConnectFlags) -> Result<ShownCluster> {
    let admin = connect.admin().await?;
    Ok(admin.describe_cluster().await?.into())
}

async fn status(flags: &StatusFlags) -> Result<()> {
    let cluster = ask(&flags.connect).await?;
    output::show(flags.output.output, &cluster, |wide| brokers(&cluster, wide))?;
    if !matches!(flags.output.output, crate::args::OutputFormat::Json) {
        crate::tell!(
            "cluster {}: metadata leader {}; partitions under-replicated {}, under min ISR {}, offline {}",
            or_dash(cluster.cluster_id.as_ref()),
            or_dash(cluster.metadata_leader),
            cluster.under_replicated,
            cluster.under_min_isr,
            cluster.offline
        );
    }
    Ok(())
}

fn brokers(cluster: &ShownCluster, wide: bool) -> Columns {
    let names = ["BROKER", "STATE", "ADDRESS", "VOTER", "EPOCH", "DIRECTORY-ID"];
    let mut columns = Columns::new(&names[..if wide { 6 } else { 3 }]);
    for broker in &cluster.brokers {
        let state = match (broker.alive, cluster.metadata_leader == Some(broker.id)) {
            (true, true) => "alive, leads metadata",
            (true, false) => "alive",
            (false, _) => "dead",
        };
        let mut row = vec![broker.id.to_string(), state.to_owned(), broker.address.clone()];
        if wide {
            row.push(broker.voter.to_string());
            row.push(broker.epoch.to_string());
            row.push(or_dash(broker.directory_id.as_ref()));
        }
        columns.row(row);
    }
    columns
}

async fn health(flags: &HealthFlags) -> Result<()> {
    let cluster = ask(&flags.connect).await?;
    let troubles = cluster.troubles();
    if troubles.is_empty() {
        return output::line("healthy");
    }
    let text = format!(
        "the cluster is unhealthy: {}; see `tidelog cluster status`",
        troubles.join(", ")
    );
    Err(Failure::new(Exit::Unhealthy, text).into())
}

impl ShownCluster {
    /// Why it is not healthy.
    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.metadata_leader.is_none() {
            troubles.push("nobody leads the metadata".to_owned());
        }
        for broker in self.brokers.iter().filter(|broker| !broker.alive) {
            troubles.push(format!("broker {} is dead", broker.id));
        }
        let counts = [
            ("offline", self.offline),
            ("under min.insync.replicas", self.under_min_isr),
            ("under-replicated", self.under_replicated),
        ];
        for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            troubles.push(format!("{count} partition(s) {what}"));
        }
        troubles
    }
}

fn local_health(address: &str) -> Result<()> {
    let answer = probe::get(address, "/readyz", PROBE_TIMEOUT)?;
    output::line(answer.body.trim())?;
    if answer.status == 200 {
        return Ok(());
    }
    let text = format!(
        "the broker at {address} is not ready (HTTP {}); wait, or look into its log",
        answer.status
    );
    Err(Failure::new(Exit::Unhealthy, text).into())
}

impl From<ClusterDescription> for ShownCluster {
    fn from(cluster: ClusterDescription) -> Self {
        Self {
            cluster_id: cluster.cluster_id.map(|id| id.to_string()),
            metadata_leader: cluster.metadata_leader,
            metadata_term: cluster.metadata_term,
            metadata_index: cluster.metadata_index,
            brokers: cluster.brokers.into_iter().map(ShownBroker::from).collect(),
            under_replicated: cluster.under_replicated,
            under_min_isr: cluster.under_min_isr,
            offline: cluster.offline,
        }
    }
}

impl From<BrokerDescription> for ShownBroker {
    fn from(broker: BrokerDescription) -> Self {
        Self {
            id: broker.broker_id,
            alive: broker.alive,
            address: broker.address,
            voter: broker.voter,
            epoch: broker.broker_epoch,
            directory_id: broker.directory_id.map(|id| id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ShownCluster {
        let broker = |id| ShownBroker {
            id,
            alive: true,
            address: format!("127.0.0.1:7{id}71"),
            voter: true,
            epoch: 4,
            directory_id: None,
        };
        ShownCluster {
            cluster_id: Some("c".to_owned()),
            metadata_leader: Some(2),
            metadata_term: 1,
            metadata_index: 9,
            brokers: vec![broker(1), broker(2)],
            under_replicated: 0,
            under_min_isr: 0,
            offline: 0,
        }
    }

    #[test]
    fn the_status_has_the_promised_names() {
        let shown = serde_json::to_value(cluster()).unwrap();
        assert_eq!(shown["brokers"][0]["id"], 1);
        assert_eq!(shown["brokers"][0]["alive"], true);
        assert_eq!(shown["brokers"][0]["address"], "127.0.0.1:7171");
        assert_eq!(
            (
                &shown["metadata_leader"],
                &shown["under_replicated"],
                &shown["offline"]
            ),
            (&2.into(), &0.into(), &0.into())
        );
    }

    #[test]
    fn every_trouble_is_named() {
        assert!(cluster().troubles().is_empty());
        let mut sick = cluster();
        sick.metadata_leader = None;
        sick.brokers[1].alive = false;
        sick.under_replicated = 3;
        assert_eq!(
            sick.troubles(),
            [
                "nobody leads the metadata",
                "broker 2 is dead",
                "3 partition(s) under-replicated"
            ]
        );
    }

    #[test]
    fn the_metadata_leader_is_marked() {
        let text = brokers(&cluster(), false).text();
        assert!(text.lines().nth(2).unwrap().contains("leads metadata"), "{text}");
    }
}
