//! Where reading begins: in a group where it committed, else where the command line says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tidelog_client::{Client, OffsetAt, OffsetReset, StartAt, TopicPartition};

use super::ends::committed;
use super::from::From;
use crate::exit::Failure;
use crate::tell;

/// The first and the next offset of each partition.
type Bounds = BTreeMap<TopicPartition, (u64, u64)>;

/// Where a member goes on where its group has committed nothing. Without `--from` there must be no
/// such place that matters.
pub(super) async fn of_group(
    client: &Client,
    group: &str,
    partitions: &[TopicPartition],
    timeout: Duration,
) -> Result<OffsetReset> {
    let committed = committed(client, group, timeout).await?;
    let open: Vec<_> = partitions
        .iter()
        .filter(|partition| !committed.contains_key(partition))
        .cloned()
        .collect();
    let bounds = bounds(client, &open, timeout).await?;
    match bounds.iter().find(|(_, (start, end))| start < end) {
        None => Ok(OffsetReset::Earliest),
        Some((partition, _)) => {
            let text = format!(
                "group {group} has committed nothing for {partition}, which holds records: say where to begin there, \
                 --from beginning or --from latest"
            );
            Err(Failure::usage(text).into())
        }
    }
}

/// Where each partition begins without a group. An offset that a partition does not hold is moved
/// to the nearest that it does, and said.
pub(super) async fn of_partitions(
    client: &Client,
    partitions: &[TopicPartition],
    from: From,
    timeout: Duration,
) -> Result<Vec<(TopicPartition, StartAt)>> {
    let From::Offset(wanted) = from else {
        let start = |partition: &TopicPartition| (partition.clone(), from.start());
        return Ok(partitions.iter().map(start).collect());
    };
    let bounds = bounds(client, partitions, timeout).await?;
    let start = |(partition, (start, end)): (TopicPartition, (u64, u64))| {
        if wanted > end {
            tell!(
                "tidelog: {partition} ends at offset {end}, so nothing is at {wanted}: it is read from {end} on"
            );
        } else if wanted < start {
            tell!(
                "tidelog: {partition} begins at offset {start}, so nothing is at {wanted}: it is read from {start} on"
            );
        }
        (partition, StartAt::Offset(wanted.clamp(start, end)))
    };
    Ok(bounds.into_iter().map(start).collect())
}

async fn bounds(client: &Client, partitions: &[TopicPartition], timeout: Duration) -> Result<Bounds> {
    let admin = client.admin().timeout(timeout);
    let at = |at| partitions.iter().cloned().map(move |partition| (partition, at));
    let starts = admin.list_offsets(at(OffsetAt::Earliest)).await?;
    let ends = admin.list_offsets(at(OffsetAt::Latest)).await?;
    let bound = |(partition, end): (TopicPartition, tidelog_client::PartitionOffset)| {
        let start = starts.get(&partition).map_or(0, |start| start.offset);
        (partition, (start, end.offset))
    };
    Ok(ends.into_iter().map(bound).collect())
}
