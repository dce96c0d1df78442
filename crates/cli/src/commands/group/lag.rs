//! `tidelog group lag`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{Admin, ErrorCode, GroupDescription, TopicPartition};

use super::describe::{ShownOffset, progress};
use super::ends::{concerned, ends};
use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag, or_dash};
use crate::standing::refuse_stale;
use crate::suggest;

/// Flags of `tidelog group lag`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The groups; all of them if none is named
    groups: Vec<String>,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// A group as programs get it.
#[derive(Debug, Serialize)]
struct ShownLag {
    group: String,
    state: String,
    /// Of all partitions whose lag is known.
    lag: u64,
    partitions: Vec<ShownOffset>,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let groups = described(&admin, &flags.groups).await?;
    // Groups share topics: each partition is asked once.
    let partitions: BTreeSet<TopicPartition> = groups.iter().flat_map(concerned).collect();
    let ends = ends(&admin, partitions).await;
    let shown: Vec<ShownLag> = groups.iter().map(|group| ShownLag::new(group, &ends)).collect();
    output::show(flags.output.output, &shown, |wide| {
        if wide {
            by_partition(&shown)
        } else {
            by_topic(&shown)
        }
    })
}

async fn described(admin: &Admin, names: &[String]) -> Result<Vec<GroupDescription>> {
    let all = names.is_empty();
    let names = if all {
        let listed = admin.list_groups().await?;
        refuse_stale(listed.answered_by.as_ref())?;
        listed.groups.into_iter().map(|group| group.group_id).collect()
    } else {
        names.to_vec()
    };
    let mut groups = Vec::with_capacity(names.len());
    for name in names {
        match admin.describe_group(&name).await {
            Ok(group) => groups.push(group),
            // It was deleted since it was listed.
            Err(error) if all && error.code() == Some(ErrorCode::GroupIdNotFound) => {}
            Err(error) => return Err(suggest::group_error(admin, &name, error).await),
        }
    }
    Ok(groups)
}

impl ShownLag {
    fn new(group: &GroupDescription, ends: &BTreeMap<TopicPartition, u64>) -> Self {
        let partitions = progress(group, ends);
        Self {
            group: group.group_id.clone(),
            state: group.state.clone(),
            lag: partitions.iter().filter_map(|partition| partition.lag).sum(),
            partitions,
        }
    }
}

/// A line a topic: how many partitions there are, how many of them nothing is known of, and the lag
/// of the others.
fn by_topic(groups: &[ShownLag]) -> Columns {
    let mut columns = Columns::new(&["GROUP", "STATE", "TOPIC", "PARTITIONS", "UNKNOWN", "LAG"]);
    for group in groups {
        let mut topics: BTreeMap<&str, (usize, usize, u64)> = BTreeMap::new();
        for partition in &group.partitions {
            let (count, unknown, lag) = topics.entry(&partition.topic).or_default();
            *count += 1;
            *unknown += usize::from(partition.lag.is_none());
            *lag += partition.lag.unwrap_or(0);
        }
        for (topic, (count, unknown, lag)) in topics {
            columns.row([
                group.group.clone(),
                group.state.clone(),
                topic.to_owned(),
                count.to_string(),
                unknown.to_string(),
                lag.to_string(),
            ]);
        }
    }
    columns
}

fn by_partition(groups: &[ShownLag]) -> Columns {
    let mut columns = Columns::new(&["GROUP", "STATE", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
    for group in groups {
        for partition in &group.partitions {
            columns.row([
                group.group.clone(),
                group.state.clone(),
                partition.topic.clone(),
                partition.partition.to_string(),
                or_dash(partition.committed),
                or_dash(partition.end),
                or_dash(partition.lag),
            ]);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(topic: &str, partition: u32, lag: Option<u64>) -> ShownOffset {
        ShownOffset {
            topic: topic.to_owned(),
            partition,
            committed: lag.map(|lag| 100 - lag),
            end: Some(100),
            lag,
        }
    }

    #[test]
    fn a_topic_s_line_sums_its_partitions_and_counts_the_unknown() {
        let group = ShownLag {
            group: "g".to_owned(),
            state: "Stable".to_owned(),
            lag: 12,
            partitions: vec![
                offset("a", 0, Some(5)),
                offset("a", 1, None),
                offset("a", 2, Some(7)),
                offset("b", 0, Some(0)),
            ],
        };
        let text = by_topic(std::slice::from_ref(&group)).text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows,
            [
                ["g", "Stable", "a", "3", "1", "12"],
                ["g", "Stable", "b", "1", "0", "0"]
            ]
        );
        let text = by_partition(&[group]).text();
        assert!(
            text.lines().any(|line| line
                .split_whitespace()
                .eq(["g", "Stable", "a", "1", "-", "100", "-"])),
            "{text}"
        );
    }
}
