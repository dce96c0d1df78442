//! `tidelog topic`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use tidelog_client::{
    ConfigChange, ErrorCode, NewTopic, PartitionDescription, TopicDescription, TopicListing,
};

use super::{Effect, until_answered};
use crate::args::{ConnectFlags, OutputFlag};
use crate::output::{self, Columns, join, or_dash};

/// `tidelog topic …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a topic; done when every partition has a leader
    Create(CreateFlags),
    /// List topics
    List(ListFlags),
    /// Show a topic's partitions: leaders, replicas, offsets
    Describe(DescribeFlags),
    /// Change a topic's configs while it is in use
    Alter(AlterFlags),
    /// Delete topics and every record in them
    Delete(DeleteFlags),
}

/// Flags of `tidelog topic create`.
#[derive(Debug, Args)]
pub(crate) struct CreateFlags {
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
    connect: ConnectFlags,
}

/// Flags of `tidelog topic list`.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// The cluster's own topics too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Flags of `tidelog topic describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeFlags {
    /// The topic
    name: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Flags of `tidelog topic alter`.
#[derive(Debug, Args)]
pub(crate) struct AlterFlags {
    /// The topic
    name: String,
    /// A config to set, by Kafka's name, e.g. min.insync.replicas=2; repeatable
    #[arg(
        short,
        long,
        value_name = "NAME=VALUE",
        value_parser = name_and_value,
        required_unless_present = "delete_config"
    )]
    config: Vec<(String, String)>,
    /// A config to go back to its default; repeatable
    #[arg(long, value_name = "NAME")]
    delete_config: Vec<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Flags of `tidelog topic delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteFlags {
    /// The topics
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// A topic as programs get it.
#[derive(Debug, Serialize)]
struct ShownTopic {
    name: String,
    topic_id: String,
    internal: bool,
    configs: BTreeMap<String, String>,
    partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
struct ShownPartition {
    partition: u32,
    leader: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_known_leader: Option<u32>,
    leader_epoch: u32,
    replicas: Vec<u32>,
    isr: Vec<u32>,
    elr: Vec<u32>,
    hw: Option<u64>,
    start: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownListing {
    name: String,
    topic_id: String,
    partitions: u32,
    replication_factor: u32,
    internal: bool,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    let effect = match command {
        Command::List(_) | Command::Describe(_) => Effect::Reads,
        Command::Create(_) | Command::Alter(_) | Command::Delete(_) => Effect::Changes,
    };
    until_answered(effect, async {
        match command {
            Command::Create(flags) => create(flags).await,
            Command::List(flags) => list(flags).await,
            Command::Describe(flags) => describe(flags).await,
            Command::Alter(flags) => alter(flags).await,
            Command::Delete(flags) => delete(flags).await,
        }
    })
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))
}

async fn create(flags: &CreateFlags) -> Result<()> {
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
    let admin = flags.connect.admin().await?;
    match admin.create_topic(topic).await {
        Ok(created) => {
            crate::tell!(
                "topic {} {}: {} partition(s), {} replica(s) each",
                flags.name,
                if flags.dry_run {
                    "could be created"
                } else {
                    "created"
                },
                created.partitions,
                created.replication_factor
            );
            Ok(())
        }
        Err(error) if flags.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            crate::tell!("topic {} exists already", flags.name);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(flags: &ListFlags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let topics = admin.list_topics(flags.internal).await?;
    let shown: Vec<ShownListing> = topics.into_iter().map(ShownListing::from).collect();
    output::show(flags.output.output, &shown, |wide| {
        let names = ["NAME", "PARTITIONS", "REPLICAS", "TOPIC-ID"];
        let mut columns = Columns::new(&names[..if wide { 4 } else { 3 }]);
        for topic in &shown {
            let mut row = vec![
                topic.name.clone(),
                topic.partitions.to_string(),
                topic.replication_factor.to_string(),
            ];
            if wide {
                row.push(topic.topic_id.clone());
            }
            columns.row(row);
        }
        columns
    })
}

async fn describe(flags: &DescribeFlags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let shown = ShownTopic::from(admin.describe_topic(&flags.name).await?);
    output::show(flags.output.output, &shown, |_| partitions(&shown))
}

fn partitions(topic: &ShownTopic) -> Columns {
    let mut columns = Columns::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "ELR",
        "START",
        "END",
    ]);
    for partition in &topic.partitions {
        columns.row([
            partition.partition.to_string(),
            or_dash(partition.leader),
            partition.leader_epoch.to_string(),
            join(&partition.replicas),
            join(&partition.isr),
            join(&partition.elr),
            or_dash(partition.start),
            or_dash(partition.hw),
        ]);
    }
    columns
}

async fn alter(flags: &AlterFlags) -> Result<()> {
    let mut change = ConfigChange::default().validate_only(flags.dry_run);
    for (name, value) in &flags.config {
        change = change.set(name, value);
    }
    for name in &flags.delete_config {
        change = change.remove(name);
    }
    let admin = flags.connect.admin().await?;
    admin.alter_topic_configs(&flags.name, change).await?;
    let what = if flags.dry_run {
        "could be altered"
    } else {
        "altered"
    };
    crate::tell!("topic {} {what}", flags.name);
    Ok(())
}

async fn delete(flags: &DeleteFlags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    for name in &flags.names {
        admin.delete_topic(name).await?;
        crate::tell!("topic {name} deleted");
    }
    Ok(())
}

impl From<TopicListing> for ShownListing {
    fn from(topic: TopicListing) -> Self {
        Self {
            name: topic.name,
            topic_id: topic.topic_id.to_string(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            internal: topic.internal,
        }
    }
}

impl From<TopicDescription> for ShownTopic {
    fn from(topic: TopicDescription) -> Self {
        Self {
            name: topic.name,
            topic_id: topic.topic_id.to_string(),
            internal: topic.internal,
            configs: topic.configs,
            partitions: topic.partitions.into_iter().map(ShownPartition::from).collect(),
        }
    }
}

impl From<PartitionDescription> for ShownPartition {
    fn from(partition: PartitionDescription) -> Self {
        Self {
            partition: partition.partition,
            leader: partition.leader,
            last_known_leader: partition.last_known_leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas,
            isr: partition.isr,
            elr: partition.elr,
            hw: partition.high_watermark,
            start: partition.log_start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_shown_with_the_promised_names() {
        let shown = ShownPartition::from(PartitionDescription {
            partition: 2,
            leader: None,
            last_known_leader: None,
            leader_epoch: 4,
            partition_epoch: 9,
            replicas: vec![1, 2, 3],
            isr: vec![],
            elr: vec![3],
            high_watermark: Some(7),
            log_start: None,
        });
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"partition":2,"leader":null,"leader_epoch":4,"replicas":[1,2,3],"isr":[],"elr":[3],"hw":7,"start":null}"#
        );
    }

    #[test]
    fn a_config_is_a_name_and_a_value() {
        assert_eq!(
            name_and_value("a.b=c=d").unwrap(),
            ("a.b".to_owned(), "c=d".to_owned())
        );
        assert!(name_and_value("retention.ms").is_err() && name_and_value("=1").is_err());
    }
}
