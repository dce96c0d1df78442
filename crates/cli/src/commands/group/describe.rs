//! `tidelog group describe`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{GroupDescription, TopicPartition};

use super::ends::{concerned, ends};
use crate::args::{ConnectFlags, OutputFlag};
use crate::output::{self, Columns, or_dash};

/// Flags of `tidelog group describe`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The group
    group: String,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// A group as programs get it.
#[derive(Debug, Serialize)]
struct ShownGroup {
    group: String,
    state: String,
    assignor: String,
    epoch: u32,
    members: Vec<ShownMember>,
    offsets: Vec<ShownOffset>,
}

#[derive(Debug, Serialize)]
struct ShownMember {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    epoch: u32,
    partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
struct ShownPartition {
    topic: String,
    partition: u32,
}

/// How far a group is with a partition.
#[derive(Debug, Serialize)]
pub(super) struct ShownOffset {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) committed: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) lag: Option<u64>,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let group = admin.describe_group(&flags.group).await?;
    let ends = ends(&admin, concerned(&group)).await;
    let shown = ShownGroup::new(group, &ends);
    output::show(flags.output.output, &shown, |wide| offsets(&shown, wide))
}

impl ShownGroup {
    fn new(group: GroupDescription, ends: &BTreeMap<TopicPartition, u64>) -> Self {
        let offsets = progress(&group, ends);
        let partition = |partition: TopicPartition| ShownPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
        };
        let members = group.members.into_iter().map(|member| ShownMember {
            member_id: member.member_id,
            instance_id: member.instance_id,
            client_id: member.client_id,
            host: member.client_host,
            epoch: member.member_epoch,
            partitions: member.assigned.into_iter().map(partition).collect(),
        });
        Self {
            members: members.collect(),
            group: group.group_id,
            state: group.state,
            assignor: group.assignor,
            epoch: group.group_epoch,
            offsets,
        }
    }

    fn owner(&self, offset: &ShownOffset) -> Option<&ShownMember> {
        let owns =
            |owned: &ShownPartition| owned.topic == offset.topic && owned.partition == offset.partition;
        self.members
            .iter()
            .find(|member| member.partitions.iter().any(owns))
    }
}

/// How far a group is with everything that it committed or owns.
pub(super) fn progress(group: &GroupDescription, ends: &BTreeMap<TopicPartition, u64>) -> Vec<ShownOffset> {
    let committed: BTreeMap<&TopicPartition, u64> = group
        .offsets
        .iter()
        .map(|offset| (&offset.partition, offset.offset))
        .collect();
    let offset = |partition: TopicPartition| {
        let committed = committed.get(&partition).copied();
        let end = ends.get(&partition).copied();
        ShownOffset {
            committed,
            end,
            // Retention may have passed the group by: what is gone is no lag.
            lag: committed
                .zip(end)
                .map(|(committed, end)| end.saturating_sub(committed)),
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
        }
    };
    concerned(group).into_iter().map(offset).collect()
}

fn offsets(group: &ShownGroup, wide: bool) -> Columns {
    let names = [
        "TOPIC",
        "PARTITION",
        "COMMITTED",
        "END",
        "LAG",
        "MEMBER",
        "CLIENT",
        "HOST",
        "EPOCH",
    ];
    let mut columns = Columns::new(&names[..if wide { 9 } else { 6 }]);
    for offset in &group.offsets {
        let owner = group.owner(offset);
        let mut row = vec![
            offset.topic.clone(),
            offset.partition.to_string(),
            or_dash(offset.committed),
            or_dash(offset.end),
            or_dash(offset.lag),
            or_dash(owner.map(|member| &member.member_id)),
        ];
        if wide {
            row.push(or_dash(owner.map(|member| &member.client_id)));
            row.push(or_dash(owner.map(|member| &member.host)));
            row.push(or_dash(owner.map(|member| member.epoch)));
        }
        columns.row(row);
    }
    columns
}

#[cfg(test)]
mod tests {
    use tidelog_client::{CommittedOffset, GroupMember};

    use super::*;

    fn partition(number: u32) -> TopicPartition {
        TopicPartition {
            topic: "flights".parse().unwrap(),
            partition: tidelog_types::PartitionIndex(number),
        }
    }

    fn group() -> GroupDescription {
        GroupDescription {
            group_id: "g".to_owned(),
            state: "Stable".to_owned(),
            assignor: "uniform".to_owned(),
            group_epoch: 2,
            members: vec![GroupMember {
                member_id: "m".to_owned(),
                instance_id: None,
                client_id: "c".to_owned(),
                client_host: "127.0.0.1".to_owned(),
                member_epoch: 2,
                assigned: vec![partition(0), partition(1)],
                target: vec![],
                topics: vec!["flights".to_owned()],
                topic_regex: None,
            }],
            offsets: vec![CommittedOffset {
                partition: partition(0),
                offset: 5,
                leader_epoch: None,
                metadata: String::new(),
                committed_ms: 0,
            }],
        }
    }

    #[test]
    fn lag_is_what_stands_between_committed_and_end() {
        let ends = BTreeMap::from([(partition(0), 8), (partition(1), 3)]);
        let shown = serde_json::to_value(ShownGroup::new(group(), &ends)).unwrap();
        assert_eq!(
            shown["offsets"],
            serde_json::json!([
                { "topic": "flights", "partition": 0, "committed": 5, "end": 8, "lag": 3 },
                { "topic": "flights", "partition": 1, "committed": null, "end": 3, "lag": null },
            ])
        );
        assert_eq!(shown["members"][0]["member_id"], "m");
        assert_eq!(shown["members"][0]["partitions"][1]["partition"], 1);
    }

    #[test]
    fn a_partition_that_cannot_be_asked_has_no_end() {
        let shown = ShownGroup::new(group(), &BTreeMap::new());
        assert_eq!((shown.offsets[0].end, shown.offsets[0].lag), (None, None));
        let text = offsets(&shown, true).text();
        assert!(text.contains('-') && text.contains("127.0.0.1"), "{text}");
    }
}
