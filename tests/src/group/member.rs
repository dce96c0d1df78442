//! A member's program: reads, commits now and then, and writes everything down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tidelog_client::{
    Client, Committer, Consumer, HookFuture, OffsetReset, RebalanceListener, TopicPartition,
};
use tokio::signal::unix::{SignalKind, signal};

use super::told::{Diary, Happened};
use crate::scenario::RowHeader;

/// How often a member commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);
/// How long leaving may take.
const CLOSE: Duration = Duration::from_secs(30);

/// What a member is told when it starts.
#[derive(Debug, Clone, clap::Args)]
pub struct Order {
    /// Brokers to begin with.
    #[arg(long)]
    pub bootstrap: String,
    #[arg(long)]
    pub group: String,
    #[arg(long)]
    pub topic: String,
    /// Where to write everything down.
    #[arg(long)]
    pub diary: PathBuf,
    /// Its name for people, by which tests find it among the members.
    #[arg(long)]
    pub name: String,
}

/// The offset to go on from, by partition owned: what was handed out.
type Positions = Arc<Mutex<BTreeMap<TopicPartition, u64>>>;

/// Reads until SIGTERM.
pub async fn run(order: Order) -> Result<()> {
    let diary = Arc::new(Diary::begin(&order.diary)?);
    let positions = Positions::default();
    let client = Client::builder([order.bootstrap.as_str()])
        .client_id(&order.name)
        .connect()
        .await?;
    let hooks = Hooks {
        diary: Arc::clone(&diary),
        positions: Arc::clone(&positions),
    };
    let mut consumer = client
        .group(&order.group)
        .topics([order.topic.as_str()])
        .auto_offset_reset(OffsetReset::Earliest)
        .rebalance_listener(hooks)
        .build()
        .await
        .context("joining the group")?;
    diary.note(Happened::Joined);
    let mut stop = signal(SignalKind::terminate())?;
    let mut commits = tokio::time::interval(COMMIT_INTERVAL);
    loop {
        tokio::select! {
            _ = stop.recv() => break,
            _ = commits.tick() => commit(&diary, &consumer, &positions).await,
            record = consumer.recv() => {
                let record = record.context("reading")?;
                let row = record.headers.last(RowHeader::NAME).flatten();
                let row = RowHeader::parse(row.context("a record without its number")?)?;
                diary.note(Happened::Delivered {
                    partition: record.partition,
                    offset: record.offset,
                    row,
                });
                // Of a partition that was given up meanwhile nothing is committed.
                if let Some(position) = positions.lock().get_mut(&record.topic_partition()) {
                    *position = record.offset + 1;
                }
            }
        }
    }
    consumer.close(CLOSE).await.context("leaving the group")?;
    diary.note(Happened::Left);
    Ok(())
}

async fn commit(diary: &Diary, consumer: &Consumer, positions: &Positions) {
    let offsets = processed(&positions.lock(), |_| true);
    if !offsets.is_empty() {
        let result = consumer.commit_offsets(offsets.clone()).await;
        note(diary, offsets, result);
    }
}

fn processed(
    positions: &BTreeMap<TopicPartition, u64>,
    of: impl Fn(&TopicPartition) -> bool,
) -> Vec<(TopicPartition, u64)> {
    let known = positions
        .iter()
        .filter(|(partition, position)| **position > 0 && of(partition));
    known
        .map(|(partition, position)| (partition.clone(), *position))
        .collect()
}

fn note(diary: &Diary, offsets: Vec<(TopicPartition, u64)>, result: tidelog_client::Result<()>) {
    let plain = offsets
        .into_iter()
        .map(|(partition, offset)| (partition.partition.0, offset));
    diary.note(match result {
        Ok(()) => Happened::Committed(plain.collect()),
        Err(error) => Happened::NotCommitted(error.to_string()),
    });
}

struct Hooks {
    diary: Arc<Diary>,
    positions: Positions,
}

fn numbers(partitions: &[TopicPartition]) -> Vec<u32> {
    partitions.iter().map(|partition| partition.partition.0).collect()
}

impl RebalanceListener for Hooks {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        let mut positions = self.positions.lock();
        positions.extend(partitions.iter().map(|partition| (partition.clone(), 0)));
        drop(positions);
        self.diary.note(Happened::Assigned(numbers(partitions)));
        Box::pin(std::future::ready(()))
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], committer: &'a Committer) -> HookFuture<'a> {
        Box::pin(async move {
            let offsets = processed(&self.positions.lock(), |partition| partitions.contains(partition));
            if !offsets.is_empty() {
                let result = committer.commit_offsets(offsets.clone()).await;
                note(&self.diary, offsets, result);
            }
            self.positions
                .lock()
                .retain(|partition, _| !partitions.contains(partition));
            self.diary.note(Happened::Revoked(numbers(partitions)));
        })
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.positions
            .lock()
            .retain(|partition, _| !partitions.contains(partition));
        self.diary.note(Happened::Lost(numbers(partitions)));
        Box::pin(std::future::ready(()))
    }
}
