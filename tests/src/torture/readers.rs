//! Readers without a group: they ask where the log ends, begin anywhere, read on for a while, and
//! begin anew elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidelog_client::{Client, OffsetAt};
use tidelog_history::What;
use tidelog_history::event::{ReadRecord, Reader};
use tidelog_types::{LeaderEpoch, Offset};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::senders::{EPOCH, number_of};
use super::{PARTITIONS, Topic};

/// How many readers there are at a time.
const READERS: u32 = 2;
/// How long one reads before it begins anew.
const LIFE: std::ops::Range<u64> = 2..15;

/// The readers at work.
pub struct Readers {
    tasks: JoinSet<Result<()>>,
}

impl Readers {
    /// Starts them; they read until `stop`.
    pub fn start(
        client: &Client,
        topic: &Topic,
        recorder: &Recorder,
        seed: u64,
        stop: &CancellationToken,
    ) -> Self {
        let mut tasks = JoinSet::new();
        for number in 0..READERS {
            let reading = Reading {
                client: client.clone(),
                topic: topic.clone(),
                recorder: recorder.clone(),
                random: StdRng::seed_from_u64(seed.wrapping_add(u64::from(number))),
                furthest: BTreeMap::new(),
            };
            tasks.spawn(reading.run(number, stop.clone()));
        }
        Self { tasks }
    }

    /// Waits for their end, after they were told to stop.
    pub async fn done(&mut self) -> Result<()> {
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

struct Reading {
    client: Client,
    topic: Topic,
    recorder: Recorder,
    random: StdRng,
    /// How far each partition was read.
    furthest: BTreeMap<u32, u64>,
}

impl Reading {
    async fn run(mut self, number: u32, stop: CancellationToken) -> Result<()> {
        for life in 0.. {
            if stop.is_cancelled() {
                break;
            }
            let reader = Reader(number + life * READERS);
            let time = Duration::from_secs(self.random.random_range(LIFE));
            let working = async {
                self.ask_ends().await;
                self.read(reader).await
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(time) => {}
                read = working => read?,
            }
        }
        Ok(())
    }

    /// Asks where the partitions end. The client carries the newest epoch that it knows, and all
    /// senders are of the same client: whatever was acknowledged before, in any epoch, must be
    /// before the end. No answer within the client's timeout is none.
    async fn ask_ends(&self) {
        for partition in &self.topic.partitions {
            let request = self.recorder.ask(|request| What::EndAsked {
                request,
                partition: self.topic.named(partition.partition.0),
                leader_epoch: Some(EPOCH),
            });
            let admin = self.client.admin();
            let Ok(ends) = admin.list_offsets([(partition.clone(), OffsetAt::Latest)]).await else {
                continue;
            };
            let end = ends[partition];
            self.recorder.note(What::EndAnswered {
                request,
                offset: Offset(end.offset),
                leader_epoch: LeaderEpoch(end.leader_epoch),
            });
        }
    }

    /// Reads from somewhere on, until an error. That a leader is away is no error of a consumer: it
    /// waits.
    async fn read(&mut self, reader: Reader) -> Result<()> {
        let mut next = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let furthest = self.furthest.get(&partition).copied().unwrap_or(0);
            next.insert(partition, self.random.random_range(0..=furthest));
        }
        let assigned: Vec<_> = self
            .topic
            .partitions
            .iter()
            .map(|partition| (partition.clone(), next[&partition.partition.0]))
            .collect();
        let mut consumer = self.client.consumer().assign(assigned).build().await?;
        loop {
            let record = consumer.recv().await?;
            let (partition, offset) = (record.partition, record.offset);
            let value = number_of(record.value.as_ref())?;
            let from = next.insert(partition, offset + 1).unwrap_or(offset);
            self.recorder.note(What::Read {
                reader,
                partition: self.topic.named(partition),
                from: Offset(from),
                next: Offset(offset + 1),
                records: vec![ReadRecord {
                    offset: Offset(offset),
                    value,
                }],
                log_start: Offset::ZERO,
            });
            let furthest = self.furthest.entry(partition).or_default();
            *furthest = (*furthest).max(offset);
        }
    }
}
