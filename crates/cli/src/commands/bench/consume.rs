//! `tidelog bench consume`

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use tidelog_client::{Consumer, OffsetAt, PartitionOffset, StartAt};
use tokio_util::sync::CancellationToken;

use super::CommonFlags;
use super::figures::Figures;
use super::progress::Progress;
use crate::waiting;

/// Flags of `tidelog bench consume`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: CommonFlags,
    /// Stop after so many records, if the topic's end as it is now comes later
    #[arg(short = 'n', long, value_name = "N")]
    records: Option<u64>,
}

pub(super) async fn run(flags: &Flags, signalled: &CancellationToken) -> Result<()> {
    let common = &flags.common;
    let (mut consumer, wanted) = super::prepared(signalled, prepare(flags)).await?;
    let progress = Progress::start("read", None, Some(wanted));
    let began = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while records < wanted {
        let record = tokio::select! {
            biased;
            record = consumer.recv() => record?,
            () = signalled.cancelled() => break,
        };
        records += 1;
        progress.set(records);
        bytes += record.value.as_ref().map_or(0, Bytes::len) as u64;
    }
    let elapsed = began.elapsed();
    progress.end();
    Figures::new(records, 0, bytes, elapsed).show(common)?;
    super::ended(signalled, 0)
}

/// A consumer at the beginning, and how many records it is to read.
async fn prepare(flags: &Flags) -> Result<(Consumer, u64)> {
    let common = &flags.common;
    let client = common.connect.client().await?;
    let timeout = common.connect.timeout();
    let partitions = waiting::for_topic(&client, &common.topic, timeout).await?;
    let admin = client.admin().timeout(timeout);
    let at = |at| partitions.iter().cloned().map(move |partition| (partition, at));
    let starts = admin.list_offsets(at(OffsetAt::Earliest)).await?;
    let ends = admin.list_offsets(at(OffsetAt::Latest)).await?;
    let offsets =
        |found: &BTreeMap<_, PartitionOffset>| found.values().map(|found| found.offset).sum::<u64>();
    // Transaction markers and compaction would leave gaps; there are neither in a topic of this
    // command's making.
    let wanted = (offsets(&ends) - offsets(&starts)).min(flags.records.unwrap_or(u64::MAX));
    let from = StartAt::from(OffsetAt::Earliest);
    let assigned = partitions.into_iter().map(|partition| (partition, from));
    let consumer = client.consumer().assign(assigned).build().await?;
    Ok((consumer, wanted))
}
