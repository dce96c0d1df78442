//! `tidelog topic create`

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{Admin, CreatedTopic, Error, ErrorCode, NewTopic};

use super::name_and_value;
use crate::args::ConnectFlags;
use crate::exit::Failure;
use crate::output::OutputFlag;
use crate::{output, suggest, tell};

/// How soon it is tried again while brokers are missing.
const RETRY: Duration = Duration::from_millis(100);
/// After so long it is said what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(1);

/// Flags of `tidelog topic create`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// 1 to 249 of a-z A-Z 0-9 . _ -
    name: String,
    /// How many partitions; by default what the brokers are configured with (3)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// How many replicas of each; by default 3, or as many as there are brokers
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    replication_factor: Option<u32>,
    /// A topic config by Kafka's name, e.g. max.message.bytes=4194304; repeatable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    config: Vec<(String, String)>,
    /// Succeed if there is a topic of that name already
    #[arg(long)]
    if_not_exists: bool,
    /// Check everything, create nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    /// Null unless it was created.
    topic_id: Option<String>,
    /// False if it was there already, and after a dry run.
    created: bool,
    partitions: Option<u32>,
    replication_factor: Option<u32>,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    if let Some(flag) = flags.config.iter().find_map(|(name, value)| flag_of(name, value)) {
        return Err(flag.into());
    }
    let admin = flags.connect.admin().await?;
    let created = match create(flags, &admin).await {
        Ok(created) => Some(created),
        Err(error) if flags.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => None,
        Err(error) => {
            let names = flags.config.iter().map(|(name, _)| name.as_str());
            return Err(suggest::config_error(names, error));
        }
    };
    output::done(
        flags.output.output,
        &shown(flags, created.as_ref()),
        &said(flags, created.as_ref()),
    )
}

/// Creates it. Where too few brokers are there for its replicas, those that are missing are waited
/// for: a cluster that was just started has them in a moment.
async fn create(flags: &Flags, admin: &Admin) -> Result<CreatedTopic, Error> {
    let (began, within) = (Instant::now(), flags.connect.timeout());
    let (mut told, mut all_were_there) = (false, false);
    loop {
        let error = match admin.create_topic(new_topic(flags)).await {
            Err(error) if error.code() == Some(ErrorCode::InvalidReplicationFactor) => error,
            other => return other,
        };
        // The last of them may have come since the refusal.
        if all_were_there || flags.dry_run || began.elapsed() >= within {
            return Err(error);
        }
        all_were_there = !some_are_missing(admin).await;
        if began.elapsed() >= SAY_AFTER && !std::mem::replace(&mut told, true) {
            tell!("tidelog: waiting up to {} s: {error}", within.as_secs());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether a broker of the cluster is not there: one that never came, or one that is gone.
async fn some_are_missing(admin: &Admin) -> bool {
    let described = admin.describe_cluster().await;
    described.is_ok_and(|cluster| {
        !cluster.missing_voters.is_empty() || cluster.brokers.iter().any(|broker| !broker.alive)
    })
}

fn new_topic(flags: &Flags) -> NewTopic {
    let mut topic = NewTopic::new(&flags.name)
        .validate_only(flags.dry_run)
        .timeout(flags.connect.timeout());
    if let Some(partitions) = flags.partitions {
        topic = topic.partitions(partitions);
    }
    if let Some(replicas) = flags.replication_factor {
        topic = topic.replication_factor(replicas);
    }
    for (name, value) in &flags.config {
        topic = topic.config(name, value);
    }
    topic
}

/// What is a flag of this command and was written as a config.
fn flag_of(name: &str, value: &str) -> Option<Failure> {
    let flag = match name {
        "partitions" | "num.partitions" => "--partitions",
        "replication.factor" | "default.replication.factor" => "--replication-factor",
        _ => return None,
    };
    Some(Failure::usage(format!(
        "{name} is not a topic config: write {flag} {value}"
    )))
}

fn shown(flags: &Flags, created: Option<&CreatedTopic>) -> Shown {
    let topic_id = created.and_then(|created| created.topic_id);
    Shown {
        name: flags.name.clone(),
        topic_id: topic_id.map(|id| id.to_string()),
        created: topic_id.is_some(),
        partitions: created.map(|created| created.partitions),
        replication_factor: created.map(|created| created.replication_factor),
    }
}

fn said(flags: &Flags, created: Option<&CreatedTopic>) -> String {
    let name = &flags.name;
    match created {
        None => format!("topic {name} exists already"),
        Some(created) => format!(
            "topic {name} {}: {} partition(s), {} replica(s) each",
            if flags.dry_run {
                "could be created"
            } else {
                "created"
            },
            created.partitions,
            created.replication_factor
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_flag_is_named_as_one() {
        let refusal = flag_of("partitions", "12").unwrap();
        assert_eq!(refusal.exit, crate::exit::Exit::Usage);
        assert!(refusal.message.contains("--partitions 12"), "{refusal}");
        assert!(flag_of("replication.factor", "3").is_some() && flag_of("max.message.bytes", "1").is_none());
    }
}
