//! `tidelog bench consume`

use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use tidelog_client::{OffsetAt, StartAt};

use super::CommonFlags;
use super::figures::Figures;
use crate::interrupt;

/// Flags of `tidelog bench consume`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    common: CommonFlags,
    /// Stop after so many records, if the topic's end as it is now comes later
    #[arg(short = 'n', long, value_name = "N")]
    records: Option<u64>,
}

pub(super) async fn run(flags: &Flags) -> Result<()> {
    let signalled = interrupt::listen()?;
    let common = &flags.common;
    let client = common.connect.client().await?;
    let partitions = client.partitions(&common.topic).await?;
    let at = |at| partitions.iter().cloned().map(move |partition| (partition, at));
    let starts = client.admin().list_offsets(at(OffsetAt::Earliest)).await?;
    let ends = client.admin().list_offsets(at(OffsetAt::Latest)).await?;
    let offsets = |found: &std::collections::BTreeMap<_, tidelog_client::PartitionOffset>| {
        found.values().map(|found| found.offset).sum::<u64>()
    };
    // Transaction markers and compaction would leave gaps; there are neither in a topic of this command's making.
    let wanted = (offsets(&ends) - offsets(&starts)).min(flags.records.unwrap_or(u64::MAX));

    let from = StartAt::from(OffsetAt::Earliest);
    let assigned = partitions.into_iter().map(|partition| (partition, from));
    let mut consumer = client.consumer().assign(assigned).build().await?;
    let began = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while records < wanted {
        let record = tokio::select! {
            biased;
            record = consumer.recv() => record?,
            () = signalled.cancelled() => break,
        };
        records += 1;
        bytes += record.value.as_ref().map_or(0, Bytes::len) as u64;
    }
    Figures::new(records, 0, bytes, began.elapsed()).show(common)
}
