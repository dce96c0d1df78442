//! `tidelog topic list`

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::TopicListing;

use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag};
use crate::standing::refuse_stale;

/// Flags of `tidelog topic list`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The cluster's own topics too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

#[derive(Debug, Serialize)]
struct ShownListing {
    name: String,
    topic_id: String,
    partitions: u32,
    replication_factor: u32,
    internal: bool,
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let listed = admin.list_topics(flags.internal).await?;
    let shown: Vec<ShownListing> = listed.topics.into_iter().map(ShownListing::from).collect();
    output::show(flags.output.output, &shown, |wide| columns(&shown, wide))?;
    Ok(refuse_stale(listed.answered_by.as_ref())?)
}

fn columns(topics: &[ShownListing], wide: bool) -> Columns {
    let names = ["NAME", "PARTITIONS", "REPLICAS", "TOPIC-ID"];
    let mut columns = Columns::new(&names[..if wide { 4 } else { 3 }]);
    for topic in topics {
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
