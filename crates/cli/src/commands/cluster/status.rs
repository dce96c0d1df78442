//! `tidelog cluster status`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use futures::StreamExt;
use indicatif::{BinaryBytes, HumanDuration};
use serde::Serialize;
use tidelog_client::{Admin, BrokerDescription, BrokerFigures, ClusterDescription};

use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag, OutputFormat, join, or_dash};
use crate::standing::refuse_stale;

/// How long one broker may take to tell of itself: there is something to show without it.
const FIGURES_TIMEOUT: Duration = Duration::from_secs(1);
/// How many brokers are asked at a time.
const MAX_QUESTIONS: usize = 16;

/// Flags of `tidelog cluster status`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    output: OutputFlag,
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
    /// Voters that have not registered yet.
    missing_voters: Vec<u32>,
    /// The broker that told all this, whether it may be out of date, and why it says that it is not
    /// ready.
    answered_by: Option<u32>,
    stale: bool,
    contact_ms_ago: Option<u64>,
    unready_reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownBroker {
    id: u32,
    /// As the cluster knows; where nobody knows the present, whether it answers.
    alive: bool,
    address: String,
    voter: bool,
    epoch: u64,
    directory_id: Option<String>,
    leaders: u32,
    replicas: u32,
    // What only the broker itself can tell; null if it does not answer.
    version: Option<String>,
    uptime_ms: Option<u64>,
    disk_used_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
}

type Figures = BTreeMap<u32, BrokerFigures>;

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let cluster = admin.describe_cluster().await?;
    let figures = figures(&admin, &cluster).await;
    let answered_by = cluster.answered_by.clone();
    let shown = ShownCluster::new(cluster, &figures);
    output::show(flags.output.output, &shown, |wide| brokers(&shown, wide))?;
    if flags.output.output != OutputFormat::Json {
        crate::tell!("{}", shown.summary());
    }
    Ok(refuse_stale(answered_by.as_ref())?)
}

/// What each broker tells of itself, of those that answer.
async fn figures(admin: &Admin, cluster: &ClusterDescription) -> Figures {
    let admin = admin.clone().timeout(FIGURES_TIMEOUT);
    let there = cluster
        .brokers
        .iter()
        .filter(|broker| broker.alive && !broker.address.is_empty());
    let asked = there.map(|broker| {
        let (admin, broker) = (admin.clone(), broker.clone());
        async move {
            let asked = admin.describe_broker(&broker.address);
            let told = tokio::time::timeout(FIGURES_TIMEOUT, asked).await.ok()?.ok()?;
            // Another broker may serve at that address by now.
            (told.broker_id == broker.broker_id).then_some((told.broker_id, told))
        }
    });
    futures::stream::iter(asked)
        .buffer_unordered(MAX_QUESTIONS)
        .filter_map(futures::future::ready)
        .collect()
        .await
}

impl ShownCluster {
    fn new(cluster: ClusterDescription, figures: &Figures) -> Self {
        let standing = cluster.answered_by;
        let stale = standing.as_ref().is_some_and(|standing| standing.stale);
        let brokers = cluster.brokers.into_iter();
        Self {
            cluster_id: cluster.cluster_id.map(|id| id.to_string()),
            metadata_leader: cluster.metadata_leader.filter(|_| !stale),
            metadata_term: cluster.metadata_term,
            metadata_index: cluster.metadata_index,
            brokers: brokers
                .map(|broker| ShownBroker::new(broker, figures, stale))
                .collect(),
            under_replicated: cluster.under_replicated,
            under_min_isr: cluster.under_min_isr,
            offline: cluster.offline,
            missing_voters: cluster.missing_voters,
            answered_by: standing.as_ref().map(|standing| standing.broker_id),
            stale,
            contact_ms_ago: standing
                .as_ref()
                .and_then(|standing| standing.since_contact)
                .map(|since| since.as_millis() as u64),
            unready_reasons: standing
                .map(|standing| standing.unready_reasons)
                .unwrap_or_default(),
        }
    }

    fn summary(&self) -> String {
        let missing = match self.missing_voters.as_slice() {
            [] => String::new(),
            voters => format!("; not registered yet: {}", join(voters)),
        };
        format!(
            "cluster {}: metadata leader {}; partitions under-replicated {}, under min ISR {}, offline {}{missing}",
            or_dash(self.cluster_id.as_ref()),
            or_dash(self.metadata_leader),
            self.under_replicated,
            self.under_min_isr,
            self.offline
        )
    }

    fn state_of(&self, broker: &ShownBroker) -> &'static str {
        match (self.stale, broker.alive, self.metadata_leader == Some(broker.id)) {
            (true, true, _) => "answers",
            (true, false, _) => "no answer",
            (false, true, true) => "alive, leads metadata",
            (false, true, false) => "alive",
            (false, false, _) => "dead",
        }
    }
}

impl ShownBroker {
    fn new(broker: BrokerDescription, figures: &Figures, stale: bool) -> Self {
        let figures = figures.get(&broker.broker_id);
        let used = |figures: &BrokerFigures| figures.disk_total_bytes.saturating_sub(figures.disk_free_bytes);
        Self {
            id: broker.broker_id,
            alive: broker.alive && (!stale || figures.is_some()),
            address: broker.address,
            voter: broker.voter,
            epoch: broker.broker_epoch,
            directory_id: broker.directory_id.map(|id| id.to_string()),
            leaders: broker.leaders,
            replicas: broker.replicas,
            version: figures.map(|figures| figures.version.clone()),
            uptime_ms: figures.map(|figures| figures.uptime.as_millis() as u64),
            disk_used_bytes: figures.map(used),
            disk_free_bytes: figures.map(|figures| figures.disk_free_bytes),
        }
    }
}

fn brokers(cluster: &ShownCluster, wide: bool) -> Columns {
    let names = [
        "BROKER",
        "STATE",
        "ADDRESS",
        "LEADERS",
        "REPLICAS",
        "DISK-USED",
        "DISK-FREE",
        "UPTIME",
        "VERSION",
        "VOTER",
        "EPOCH",
        "DIRECTORY-ID",
    ];
    let mut columns = Columns::new(&names[..if wide { 12 } else { 9 }]);
    for broker in &cluster.brokers {
        let uptime = broker.uptime_ms.map(Duration::from_millis);
        let mut row = vec![
            broker.id.to_string(),
            cluster.state_of(broker).to_owned(),
            broker.address.clone(),
            broker.leaders.to_string(),
            broker.replicas.to_string(),
            or_dash(broker.disk_used_bytes.map(BinaryBytes)),
            or_dash(broker.disk_free_bytes.map(BinaryBytes)),
            or_dash(uptime.map(|uptime| format!("{:#}", HumanDuration(uptime)))),
            or_dash(broker.version.as_ref()),
        ];
        if wide {
            row.push(broker.voter.to_string());
            row.push(broker.epoch.to_string());
            row.push(or_dash(broker.directory_id.as_ref()));
        }
        columns.row(row);
    }
    columns
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::standing::tests::standing;

    pub(in super::super) fn cluster() -> ClusterDescription {
        let broker = |id| BrokerDescription {
            broker_id: id,
            alive: true,
            address: format!("127.0.0.1:7{id}71"),
            directory_id: None,
            broker_epoch: 4,
            voter: true,
            leaders: 2,
            replicas: 6,
        };
        ClusterDescription {
            cluster_id: None,
            metadata_leader: Some(2),
            metadata_term: 1,
            metadata_index: 9,
            brokers: vec![broker(1), broker(2)],
            under_replicated: 0,
            under_min_isr: 0,
            offline: 0,
            answered_by: Some(standing(false, Some(Duration::ZERO))),
            missing_voters: Vec::new(),
        }
    }

    fn figures() -> Figures {
        let figures = BrokerFigures {
            broker_id: 1,
            version: "0.1.0 (1a2b3c4d5e6f)".to_owned(),
            uptime: Duration::from_hours(3),
            disk_total_bytes: 3 << 30,
            disk_free_bytes: 1 << 30,
            standing: None,
        };
        BTreeMap::from([(1, figures)])
    }

    fn rows(cluster: &ShownCluster) -> Vec<String> {
        let text = brokers(cluster, false).text();
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn the_status_has_the_promised_names() {
        let shown = serde_json::to_value(ShownCluster::new(cluster(), &figures())).unwrap();
        assert_eq!(shown["brokers"][0]["id"], 1);
        assert_eq!(shown["brokers"][0]["alive"], true);
        assert_eq!(shown["brokers"][0]["address"], "127.0.0.1:7171");
        assert_eq!(shown["brokers"][0]["disk_used_bytes"], 2_u64 << 30);
        assert_eq!(shown["brokers"][1]["uptime_ms"], serde_json::Value::Null);
        assert_eq!(
            (&shown["stale"], &shown["answered_by"]),
            (&false.into(), &3.into())
        );
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
    fn what_a_broker_does_not_answer_is_a_dash() {
        let mut cluster = cluster();
        cluster.missing_voters = vec![3];
        let shown = ShownCluster::new(cluster, &figures());
        assert!(
            shown.summary().ends_with("not registered yet: 3"),
            "{}",
            shown.summary()
        );
        let rows = rows(&shown);
        assert_eq!(
            rows[1],
            "1 alive 127.0.0.1:7171 2 6 2.00 GiB 1.00 GiB 3h 0.1.0 (1a2b3c4d5e6f)"
        );
        assert_eq!(rows[2], "2 alive, leads metadata 127.0.0.1:7271 2 6 - - - -");
    }

    #[test]
    fn where_nobody_knows_the_present_nobody_is_called_alive_for_having_been() {
        let mut old = cluster();
        old.answered_by = Some(standing(true, Some(Duration::from_secs(9))));
        let shown = ShownCluster::new(old, &figures());
        let rows = rows(&shown);
        assert!(
            rows[1].contains("answers") && rows[2].contains("no answer"),
            "{rows:?}"
        );
        assert!(shown.brokers[0].alive && !shown.brokers[1].alive);
        assert_eq!(shown.metadata_leader, None);
    }
}
