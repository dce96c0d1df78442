//! `tidelog cluster health`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use tidelog_client::ClusterDescription;

use crate::args::ConnectFlags;
use crate::exit::{Exit, Failure};
use crate::output::{self, OutputFlag, OutputFormat};
use crate::probe;
use crate::standing::stale;

/// How long the health check waits for each step; the containers' check gives it two seconds in
/// all.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Flags of `tidelog cluster health`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Ask only this host's broker, by its HTTP listener
    #[arg(long)]
    pub(super) local: bool,
    /// Where this host's broker answers HTTP
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7173",
        requires = "local"
    )]
    http: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    healthy: bool,
    troubles: &'a [String],
}

/// What a broker's HTTP listener says.
#[derive(Debug, Deserialize)]
struct Readiness {
    reasons: Vec<String>,
}

/// Asks the cluster.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let troubles = troubles(&admin.describe_cluster().await?);
    let healthy = troubles.is_empty();
    let shown = Shown {
        healthy,
        troubles: &troubles,
    };
    match flags.output.output {
        OutputFormat::Json => output::json_line(&shown)?,
        _ if healthy => output::line("healthy")?,
        _ => {}
    }
    if healthy {
        return Ok(());
    }
    let text = format!(
        "the cluster is unhealthy: {}; see `tidelog cluster status`",
        troubles.join(", ")
    );
    Err(Failure::new(Exit::Unhealthy, text).into())
}

/// Asks this host's broker.
pub(super) fn local(flags: &Flags) -> Result<()> {
    let answer = probe::get(&flags.http, "/readyz", PROBE_TIMEOUT)?;
    let healthy = answer.status == 200;
    if flags.output.output == OutputFormat::Json {
        let readiness: Option<Readiness> = serde_json::from_str(&answer.body).ok();
        let troubles = readiness.map_or_else(Vec::new, |readiness| readiness.reasons);
        output::json_line(&Shown {
            healthy,
            troubles: &troubles,
        })?;
    } else {
        output::line(answer.body.trim())?;
    }
    if healthy {
        return Ok(());
    }
    let text = format!(
        "the broker at {} is not ready (HTTP {}); wait, or look into its log",
        flags.http, answer.status
    );
    Err(Failure::new(Exit::Unhealthy, text).into())
}

/// Why the cluster is not healthy.
fn troubles(cluster: &ClusterDescription) -> Vec<String> {
    if let Some(why) = stale(cluster.answered_by.as_ref()) {
        // Whatever else is known is of the past.
        return vec![why];
    }
    let mut troubles = Vec::new();
    if cluster.metadata_leader.is_none() {
        troubles.push("nobody leads the metadata".to_owned());
    }
    for broker in cluster.brokers.iter().filter(|broker| !broker.alive) {
        troubles.push(format!("broker {} is dead", broker.broker_id));
    }
    for voter in &cluster.missing_voters {
        troubles.push(format!("broker {voter} has not registered yet"));
    }
    let counts = [
        ("offline", cluster.offline),
        ("under min.insync.replicas", cluster.under_min_isr),
        ("under-replicated", cluster.under_replicated),
    ];
    for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        troubles.push(format!("{count} partition(s) {what}"));
    }
    troubles
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::cluster;
    use super::*;
    use crate::standing::tests::standing;

    #[test]
    fn every_trouble_is_named() {
        assert!(troubles(&cluster()).is_empty());
        let mut sick = cluster();
        sick.metadata_leader = None;
        sick.brokers[1].alive = false;
        sick.under_replicated = 3;
        sick.missing_voters = vec![3];
        assert_eq!(
            troubles(&sick),
            [
                "nobody leads the metadata",
                "broker 2 is dead",
                "broker 3 has not registered yet",
                "3 partition(s) under-replicated"
            ]
        );
    }

    #[test]
    fn of_a_cluster_that_nobody_knows_the_present_of_that_is_the_trouble() {
        let mut unknown = cluster();
        unknown.answered_by = Some(standing(true, Some(Duration::from_secs(9))));
        let troubles = troubles(&unknown);
        assert_eq!(troubles.len(), 1);
        assert!(troubles[0].contains("for 9 s"), "{troubles:?}");
    }
}
