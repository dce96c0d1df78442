//! `tidelog topic describe`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use indicatif::BinaryBytes;
use serde::Serialize;
use tidelog_client::{ConfigSource, PartitionDescription, TopicConfig, TopicDescription};

use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag, join, or_dash};
use crate::standing::refuse_stale;
use crate::suggest;

/// Flags of `tidelog topic describe`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topic
    name: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// A topic as programs get it.
#[derive(Debug, Serialize)]
struct ShownTopic {
    name: String,
    topic_id: String,
    internal: bool,
    /// What was set for it.
    configs: BTreeMap<String, String>,
    effective_configs: Vec<ShownConfig>,
    /// Over all partitions whose leaders answered.
    records: u64,
    /// Over all partitions whose leaders told it.
    size_bytes: u64,
    partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
struct ShownConfig {
    name: String,
    value: String,
    source: &'static str,
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
    /// How many offsets are readable; null if the leader did not answer.
    records: Option<u64>,
    /// The leader's log; null if the leader did not tell.
    size_bytes: Option<u64>,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let topic = match admin.describe_topic(&flags.name).await {
        Ok(topic) => topic,
        Err(error) => return Err(suggest::topic_error(&admin, &flags.name, error).await),
    };
    let answered_by = topic.answered_by.clone();
    let shown = ShownTopic::from(topic);
    output::show_all(flags.output.output, &shown, |_| {
        vec![summary(&shown), configs(&shown), partitions(&shown)]
    })?;
    Ok(refuse_stale(answered_by.as_ref())?)
}

fn summary(topic: &ShownTopic) -> Columns {
    let mut columns = Columns::new(&["NAME", "TOPIC-ID", "PARTITIONS", "REPLICAS", "RECORDS", "SIZE"]);
    let replicas = topic
        .partitions
        .iter()
        .map(|partition| partition.replicas.len())
        .max();
    columns.row([
        topic.name.clone(),
        topic.topic_id.clone(),
        topic.partitions.len().to_string(),
        or_dash(replicas),
        topic.records.to_string(),
        BinaryBytes(topic.size_bytes).to_string(),
    ]);
    columns
}

fn configs(topic: &ShownTopic) -> Columns {
    let mut columns = Columns::new(&["CONFIG", "VALUE", "SOURCE"]);
    for config in &topic.effective_configs {
        columns.row([
            config.name.clone(),
            config.value.clone(),
            config.source.to_owned(),
        ]);
    }
    columns
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
        "RECORDS",
        "SIZE",
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
            or_dash(partition.records),
            or_dash(partition.size_bytes.map(BinaryBytes)),
        ]);
    }
    columns
}

impl From<TopicDescription> for ShownTopic {
    fn from(topic: TopicDescription) -> Self {
        let partitions: Vec<_> = topic.partitions.into_iter().map(ShownPartition::from).collect();
        Self {
            name: topic.name,
            topic_id: topic.topic_id.to_string(),
            internal: topic.internal,
            configs: topic.configs,
            effective_configs: topic
                .effective_configs
                .into_iter()
                .map(ShownConfig::from)
                .collect(),
            records: partitions.iter().filter_map(|partition| partition.records).sum(),
            size_bytes: partitions
                .iter()
                .filter_map(|partition| partition.size_bytes)
                .sum(),
            partitions,
        }
    }
}

impl From<TopicConfig> for ShownConfig {
    fn from(config: TopicConfig) -> Self {
        Self {
            name: config.name,
            value: config.value,
            source: match config.source {
                ConfigSource::Topic => "topic",
                _ => "default",
            },
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
            records: partition
                .high_watermark
                .zip(partition.log_start)
                .map(|(end, start)| end.saturating_sub(start)),
            size_bytes: partition.size_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_client::TopicId;

    use super::*;

    fn partition(number: u32, size_bytes: Option<u64>) -> PartitionDescription {
        PartitionDescription {
            partition: number,
            leader: None,
            last_known_leader: None,
            leader_epoch: 4,
            partition_epoch: 9,
            replicas: vec![1, 2, 3],
            isr: vec![],
            elr: vec![3],
            high_watermark: Some(7),
            log_start: None,
            size_bytes,
        }
    }

    #[test]
    fn a_partition_is_shown_with_the_promised_names() {
        let shown = ShownPartition::from(partition(2, Some(1_536)));
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            r#"{"partition":2,"leader":null,"leader_epoch":4,"replicas":[1,2,3],"isr":[],"elr":[3],"hw":7,"start":null,"records":null,"size_bytes":1536}"#
        );
    }

    #[test]
    fn the_size_of_a_topic_is_that_of_the_partitions_that_are_known() {
        let told = [Some(1_536), None, Some(1_048_576)];
        let topic = ShownTopic::from(TopicDescription {
            name: "orders".to_owned(),
            topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
            internal: false,
            configs: BTreeMap::new(),
            effective_configs: Vec::new(),
            partitions: (0..)
                .zip(told)
                .map(|(number, size)| partition(number, size))
                .collect(),
            answered_by: None,
        });
        assert_eq!(topic.size_bytes, 1_050_112);
        assert!(summary(&topic).text().ends_with("1.00 MiB"));
        let table = partitions(&topic).text();
        for (line, size) in table.lines().skip(1).zip(["1.50 KiB", "-", "1.00 MiB"]) {
            assert!(line.ends_with(&format!("  {size}")), "{table}");
        }
    }
}
