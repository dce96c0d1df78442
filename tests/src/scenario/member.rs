//! A member of a group that notes what it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tidelog_client::{Client, OffsetReset};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{RowHeader, SharedLedger};

/// How often a member commits what it processed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// How long leaving may take.
const CLOSE: Duration = Duration::from_secs(20);

/// A running member.
pub struct Member {
    /// Its name, for people.
    pub name: String,
    read: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

/// What a member did.
#[derive(Debug, Clone)]
pub struct MemberReport {
    pub name: String,
    /// Records handed to it.
    pub read: usize,
}

impl Member {
    /// Joins a group, and reads until it is told to leave.
    pub fn join(client: Client, group: &str, topic: &str, name: &str, ledger: SharedLedger) -> Self {
        let read = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let reading = Reading {
            client,
            group: group.to_owned(),
            topic: topic.to_owned(),
            ledger,
            read: Arc::clone(&read),
            stop: stop.clone(),
        };
        Self {
            name: name.to_owned(),
            read,
            stop,
            task: tokio::spawn(reading.run()),
        }
    }

    /// How many records it was handed so far.
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// Commits, leaves the group, and says what it did.
    pub async fn leave(self) -> Result<MemberReport> {
        self.stop.cancel();
        self.task
            .await?
            .with_context(|| format!("member {}", self.name))?;
        Ok(MemberReport {
            name: self.name,
            read: self.read.load(Ordering::Relaxed),
        })
    }
}

struct Reading {
    client: Client,
    group: String,
    topic: String,
    ledger: SharedLedger,
    read: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Reading {
    async fn run(self) -> Result<()> {
        let mut consumer = self
            .client
            .group(&self.group)
            .topics([self.topic.as_str()])
            .auto_offset_reset(OffsetReset::Earliest)
            .build()
            .await
            .context("joining the group")?;
        let mut commit = tokio::time::interval(COMMIT_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = commit.tick() => {
                    // A commit that fails is made good by the next one, or its records come again:
                    // at least once.
                    if let Err(error) = consumer.commit().await && !error.is_retriable() {
                        return Err(error).context("committing");
                    }
                }
                record = consumer.recv() => {
                    let record = record.context("reading")?;
                    let row = record.headers.last(RowHeader::NAME).flatten();
                    let row = RowHeader::parse(row.context("a record without its number")?)?;
                    self.ledger.lock().deliver(row, (record.partition, record.offset));
                    self.read.fetch_add(1, Ordering::Relaxed);
                    consumer.mark(&record);
                }
            }
        }
        consumer.close(CLOSE).await.context("leaving the group")
    }
}
