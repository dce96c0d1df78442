//! The end of a run: everything is healed, lives again, is read to its end and compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidelog_client::{Client, OffsetAt};
use tidelog_history::What;
use tidelog_history::event::{Owed, ReadRecord};
use tidelog_types::{BrokerId, Offset};
use tokio_util::sync::CancellationToken;

use super::members::{GROUP, Members};
use super::nemesis::Nemesis;
use super::readers::Readers;
use super::recorder::Recorder;
use super::senders::{Recovery, Senders, number_of};
use super::{BROKERS, PARTITIONS, Report, TOPIC, Topic};
use crate::cluster::Broker;
use crate::scenario::in_sync;
use crate::{replicas, wait};

/// How long any one step may take. A member that died without a word holds its partitions for a
/// session of 45 s.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long the load goes on after healing, at the least: within this every partition must live
/// again (L31).
const LIVES_WITHIN: Duration = Duration::from_secs(30);

/// Everything that runs.
pub struct Running {
    /// Who strikes, with the brokers.
    pub nemesis: Nemesis,
    pub client: Client,
    /// The topic under load.
    pub topic: Topic,
    /// Where events go.
    pub recorder: Recorder,
    pub senders: Senders,
    pub readers: Readers,
    /// Members of the group.
    pub members: Members,
    /// Ends producers and readers.
    pub stop: CancellationToken,
}

/// Settles everything. What is wrong is an error that says where the brokers' logs are.
pub async fn settle(mut running: Running) -> Result<Report> {
    let settled = running.settle().await;
    let violated = running.recorder.violation();
    if let Some(reason) = violated {
        let folder = running.nemesis.keep();
        bail!("{reason}\nthe brokers' data and logs are in {}", folder.display());
    }
    settled.with_context(|| {
        let folder = running.nemesis.keep();
        format!(
            "settling failed; the brokers' data and logs are in {}",
            folder.display()
        )
    })
}

impl Running {
    async fn settle(&mut self) -> Result<Report> {
        self.nemesis.heal().await?;
        let recovery = Arc::clone(self.senders.recovery());
        recovery.begins();
        let owed = |partition| Owed {
            partition,
            reads: true,
            writes: true,
        };
        self.recorder.note(What::Healed {
            owed: self.topic.all_named().into_iter().map(owed).collect(),
        });
        self.lives(&recovery).await?;
        self.stop.cancel();
        self.senders.done().await?;
        self.readers.done().await?;
        in_sync(&self.client, TOPIC, BROKERS, PATIENCE).await?;

        let ends = self.read_to_the_ends().await?;
        wait::until("the group to be handed everything", PATIENCE, async || {
            self.members.have_everything(&ends)
        })
        .await?;
        self.members.leave().await?;
        Members::look_at_commits(&self.client, &self.topic, &self.recorder).await;
        self.recorder.note(What::GroupSettled {
            group: GROUP.into(),
            partitions: self.topic.all_named(),
        });
        self.recorder.note(What::Ended {
            up: (1..=BROKERS).filter_map(BrokerId::new).collect(),
        });
        self.recorder.finish();
        let batches_compared = self.compare_replicas().await?;
        let (acknowledged, unknown) = self.senders.counts();
        Ok(Report {
            faults: Vec::new(),
            events: 0,
            acknowledged,
            unknown,
            delivered: self.members.delivered(),
            slowest_recovery: recovery.slowest(),
            batches_compared,
        })
    }

    /// L31: every partition acknowledges again. The checker looks at reads and writes; this waits
    /// for them.
    async fn lives(&self, recovery: &Recovery) -> Result<()> {
        wait::until("every partition to acknowledge again", LIVES_WITHIN, async || {
            ensure!(recovery.is_over(), "not every partition did");
            Ok(())
        })
        .await
    }

    async fn read_to_the_ends(&self) -> Result<BTreeMap<u32, u64>> {
        let from_the_start = self
            .topic
            .partitions
            .iter()
            .cloned()
            .map(|partition| (partition, OffsetAt::Earliest));
        let mut consumer = self.client.consumer().assign(from_the_start).build().await?;
        let ends = consumer.end_offsets().await?;
        let mut records: BTreeMap<u32, Vec<ReadRecord>> =
            (0..PARTITIONS).map(|number| (number, Vec::new())).collect();
        while let Some(record) = tokio::time::timeout(PATIENCE, consumer.recv_until(&ends)).await?? {
            let read = ReadRecord {
                offset: Offset(record.offset),
                value: number_of(record.value.as_ref())?,
            };
            records.entry(record.partition).or_default().push(read);
        }
        let mut reached = BTreeMap::new();
        for (number, records) in records {
            let end = records.last().map_or(0, |last| last.offset.0 + 1);
            self.recorder.note(What::ReadToEnd {
                partition: self.topic.named(number),
                log_start: Offset::ZERO,
                end: Offset(end),
                records,
            });
            reached.insert(number, end);
        }
        Ok(reached)
    }

    /// P16, of everything: the logs on disk agree to the byte.
    async fn compare_replicas(&mut self) -> Result<usize> {
        let cluster = self.nemesis.cluster();
        for id in 1..=BROKERS {
            cluster.broker(id).stop().await?;
        }
        let dirs: Vec<_> = cluster.brokers().iter().map(Broker::data_dir).collect();
        replicas::compare(&dirs)
    }
}
