//! `tidelog group reset-offsets`

mod plan;
mod scope;
mod target;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{Admin, Client, ErrorCode, OffsetAt, TopicPartition};

use plan::{Known, New, plan};
use scope::Scope;
use target::{Target, TargetFlags};

use crate::args::ConnectFlags;
use crate::exit::{Exit, Failure};
use crate::output::{self, Columns, OutputFlag, or_dash};
use crate::suggest;

/// Flags of `tidelog group reset-offsets`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The group; with --topic it need not exist yet
    group: String,
    /// A topic, or some partitions of it as TOPIC:0,2; repeatable. By default every partition that
    /// the group committed
    #[arg(long, value_name = "TOPIC[:PARTITIONS]")]
    topic: Vec<Scope>,
    #[command(flatten)]
    to: TargetFlags,
    /// Do it. Without this the command only shows what it would do
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Shown {
    group: String,
    /// Whether it was done.
    executed: bool,
    partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
struct ShownPartition {
    topic: String,
    partition: u32,
    /// What was committed before.
    before: Option<u64>,
    /// Where the group goes on.
    committed: u64,
    end: u64,
    lag: u64,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let target = flags.to.target()?;
    let client = flags.connect.client().await?;
    let admin = client.admin().timeout(flags.connect.timeout());
    let members = members(&admin, flags).await?;
    if flags.execute && members > 0 {
        return Err(is_in_use(&flags.group, members).into());
    }
    let committed = committed(&admin, &flags.group).await?;
    let partitions = chosen(&client, flags, &committed).await?;
    let known = look_up(&admin, &partitions, &committed, target).await?;
    let new = plan(target, &known).map_err(|problem| Failure::new(Exit::Failed, problem))?;
    if flags.execute {
        let offsets = new.iter().map(|(partition, new)| (partition.clone(), new.offset));
        admin.commit_group_offsets(&flags.group, offsets).await?;
    }
    for note in new.values().filter_map(|new| new.note.as_deref()) {
        crate::tell!("{note}");
    }
    show(flags, &known, &new)?;
    if !flags.execute {
        crate::tell!("nothing was changed: add --execute to do it");
        if members > 0 {
            crate::tell!("group {} has {members} member(s): stop them first", flags.group);
        }
    }
    Ok(())
}

/// How many members the group has. One that does not exist may be prepared for its first member.
async fn members(admin: &Admin, flags: &Flags) -> Result<usize> {
    match admin.describe_group(&flags.group).await {
        Ok(group) => Ok(group.members.len()),
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) && !flags.topic.is_empty() => Ok(0),
        Err(error) => Err(suggest::group_error(admin, &flags.group, error).await),
    }
}

fn is_in_use(group: &str, members: usize) -> Failure {
    let message = format!(
        "group {group} has {members} member(s), who would go on where they are: stop them first, or wait until their sessions end"
    );
    Failure::new(Exit::Failed, message)
}

async fn committed(admin: &Admin, group: &str) -> Result<BTreeMap<TopicPartition, u64>> {
    let offsets = admin.group_offsets(group).await?;
    Ok(offsets
        .into_iter()
        .map(|committed| (committed.partition, committed.offset))
        .collect())
}

async fn chosen(
    client: &Client,
    flags: &Flags,
    committed: &BTreeMap<TopicPartition, u64>,
) -> Result<Vec<TopicPartition>> {
    let mut chosen = Vec::new();
    for scope in &flags.topic {
        let there = crate::waiting::for_topic(client, &scope.topic, flags.connect.timeout()).await?;
        chosen.extend(scope.of(there)?);
    }
    if flags.topic.is_empty() {
        chosen.extend(committed.keys().cloned());
    }
    chosen.sort_unstable();
    chosen.dedup();
    if chosen.is_empty() {
        let message = format!(
            "group {} committed nothing yet: name what to set with --topic",
            flags.group
        );
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    Ok(chosen)
}

async fn look_up(
    admin: &Admin,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, u64>,
    target: Target,
) -> Result<BTreeMap<TopicPartition, Known>> {
    let ask = |at| admin.list_offsets(partitions.iter().map(move |partition| (partition.clone(), at)));
    let starts = ask(OffsetAt::Earliest).await?;
    let by_time = match target {
        Target::Time(timestamp_ms) => ask(OffsetAt::Timestamp(timestamp_ms)).await?,
        _ => BTreeMap::new(),
    };
    let ends = ask(OffsetAt::Latest).await?;
    let known = |(partition, end): (TopicPartition, tidelog_client::PartitionOffset)| {
        let known = Known {
            committed: committed.get(&partition).copied(),
            start: starts.get(&partition).map_or(0, |start| start.offset),
            end: end.offset,
            by_time: by_time.get(&partition).map(|found| found.offset),
        };
        (partition, known)
    };
    Ok(ends.into_iter().map(known).collect())
}

fn show(
    flags: &Flags,
    known: &BTreeMap<TopicPartition, Known>,
    new: &BTreeMap<TopicPartition, New>,
) -> Result<()> {
    let partition = |(partition, known): (&TopicPartition, &Known)| {
        let committed = new.get(partition)?.offset;
        Some(ShownPartition {
            topic: partition.topic.to_string(),
            partition: partition.partition.0,
            before: known.committed,
            committed,
            end: known.end,
            lag: known.end.saturating_sub(committed),
        })
    };
    let shown = Shown {
        group: flags.group.clone(),
        executed: flags.execute,
        partitions: known.iter().filter_map(partition).collect(),
    };
    output::show(flags.output.output, &shown, |_| columns(&shown))
}

fn columns(shown: &Shown) -> Columns {
    let new = if shown.executed {
        "COMMITTED"
    } else {
        "WOULD-COMMIT"
    };
    let mut columns = Columns::new(&["TOPIC", "PARTITION", "BEFORE", new, "END", "LAG"]);
    for partition in &shown.partitions {
        columns.row([
            partition.topic.clone(),
            partition.partition.to_string(),
            or_dash(partition.before),
            partition.committed.to_string(),
            partition.end.to_string(),
            partition.lag.to_string(),
        ]);
    }
    columns
}
