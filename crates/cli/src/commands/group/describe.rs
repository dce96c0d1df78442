//! `tidelog group describe`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{GroupCoordinator, GroupDescription, TopicPartition};

use super::ends::{concerned, ends};
use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag, or_dash};
use crate::suggest;

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
    /// Null while nobody coordinates it.
    coordinator: Option<ShownCoordinator>,
    assignor: String,
    epoch: u32,
    members: Vec<ShownMember>,
    offsets: Vec<ShownOffset>,
}

#[derive(Debug, Serialize)]
struct ShownCoordinator {
    id: u32,
    address: String,
}

#[derive(Debug, Serialize)]
struct ShownMember {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    epoch: u32,
    /// What it subscribed to.
    topics: Vec<String>,
    topic_regex: Option<String>,
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
    let group = match admin.describe_group(&flags.group).await {
        Ok(group) => group,
        Err(error) => return Err(suggest::group_error(&admin, &flags.group, error).await),
    };
    let (ends, coordinator) = tokio::join!(
        ends(&admin, concerned(&group)),
        admin.group_coordinator(&flags.group)
    );
    // It has just answered: if it moved since, there is none to name.
    let shown = ShownGroup::new(group, coordinator.ok(), &ends);
    output::show_all(flags.output.output, &shown, |wide| {
        vec![summary(&shown), members(&shown, wide), offsets(&shown)]
    })
}

impl ShownGroup {
    fn new(
        group: GroupDescription,
        coordinator: Option<GroupCoordinator>,
        ends: &BTreeMap<TopicPartition, u64>,
    ) -> Self {
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
            topics: member.topics,
            topic_regex: member.topic_regex,
            partitions: member.assigned.into_iter().map(partition).collect(),
        });
        Self {
            members: members.collect(),
            group: group.group_id,
            state: group.state,
            coordinator: coordinator.map(|broker| ShownCoordinator {
                id: broker.broker_id,
                address: broker.address,
            }),
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

fn summary(group: &ShownGroup) -> Columns {
    let coordinator = group
        .coordinator
        .as_ref()
        .map(|broker| format!("{} ({})", broker.id, broker.address));
    let mut columns = Columns::new(&["GROUP", "STATE", "COORDINATOR", "ASSIGNOR", "EPOCH", "MEMBERS"]);
    columns.row([
        group.group.clone(),
        group.state.clone(),
        or_dash(coordinator),
        group.assignor.clone(),
        group.epoch.to_string(),
        group.members.len().to_string(),
    ]);
    columns
}

fn members(group: &ShownGroup, wide: bool) -> Columns {
    let names = [
        "MEMBER",
        "CLIENT",
        "PARTITIONS",
        "EPOCH",
        "HOST",
        "INSTANCE",
        "SUBSCRIPTION",
    ];
    let mut columns = Columns::new(&names[..if wide { 7 } else { 3 }]);
    for member in &group.members {
        let mut row = vec![
            member.member_id.clone(),
            member.client_id.clone(),
            member.partitions.len().to_string(),
        ];
        if wide {
            row.push(member.epoch.to_string());
            row.push(member.host.clone());
            row.push(or_dash(member.instance_id.as_ref()));
            row.push(member.subscription());
        }
        columns.row(row);
    }
    columns
}

impl ShownMember {
    /// Names, and a pattern between slashes.
    fn subscription(&self) -> String {
        let pattern = self.topic_regex.iter().map(|regex| format!("/{regex}/"));
        let all: Vec<String> = self.topics.iter().cloned().chain(pattern).collect();
        or_dash((!all.is_empty()).then(|| all.join(",")))
    }
}

fn offsets(group: &ShownGroup) -> Columns {
    let mut columns = Columns::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    for offset in &group.offsets {
        let owner = group.owner(offset);
        columns.row([
            offset.topic.clone(),
            offset.partition.to_string(),
            or_dash(offset.committed),
            or_dash(offset.end),
            or_dash(offset.lag),
            or_dash(owner.map(|member| &member.member_id)),
        ]);
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
                topic_id: None,
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
        let shown = serde_json::to_value(ShownGroup::new(group(), None, &ends)).unwrap();
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
        let shown = ShownGroup::new(group(), None, &BTreeMap::new());
        assert_eq!((shown.offsets[0].end, shown.offsets[0].lag), (None, None));
        let text = offsets(&shown).text();
        assert!(text.lines().nth(1).unwrap().contains('-'), "{text}");
    }

    #[test]
    fn a_member_that_owns_nothing_is_shown_all_the_same() {
        let mut idle = group();
        idle.members[0].assigned.clear();
        idle.members[0].topic_regex = Some("fl.*".to_owned());
        idle.offsets.clear();
        let coordinator = GroupCoordinator {
            broker_id: 2,
            address: "127.0.0.1:7271".to_owned(),
        };
        let shown = ShownGroup::new(idle, Some(coordinator), &BTreeMap::new());
        let line = |columns: &Columns| {
            let text = columns.text();
            let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
            words.join(" ")
        };
        assert_eq!(line(&summary(&shown)), "g Stable 2 (127.0.0.1:7271) uniform 2 1");
        assert_eq!(line(&members(&shown, false)), "m c 0");
        assert_eq!(line(&members(&shown, true)), "m c 0 2 127.0.0.1 - flights,/fl.*/");
        assert_eq!(offsets(&shown).text().lines().count(), 1);
    }
}
