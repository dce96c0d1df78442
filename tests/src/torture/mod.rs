//! A cluster of real processes under a load and a nemesis, judged by the checker of
//! `tidelog-history`.
//!
//! 1. Three brokers start behind [`crate::links`]: proxies through which brokers reach each other,
//!    so that each way between two of them can be cut.
//! 2. [`senders`], [`readers`] and [`members`] of a group work, and tell every send,
//!    acknowledgement, record, assignment and commit to the [`recorder`], which shows each event to
//!    the checker at once.
//! 3. The [`nemesis`] kills, pauses, cuts off and stops brokers and fills the disk of one of them,
//!    one fault after another.
//! 4. [`settle`] heals everything, waits until the cluster lives, reads every partition to its end,
//!    lets the group finish, and compares the replicas byte by byte.
//!
//! What no client can see (ISR, high watermarks, epochs) is the simulation's matter.

pub mod members;
pub mod nemesis;
pub mod readers;
pub mod recorder;
pub mod senders;
pub mod settle;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tidelog_client::{Client, NewTopic, TopicPartition};
use tidelog_types::{PartitionIndex, TopicIdPartition};
use tokio_util::sync::CancellationToken;

use crate::links::start_prepared;
use members::Members;
use nemesis::Nemesis;
use readers::Readers;
use recorder::Recorder;
use senders::Senders;

/// The topic under load.
pub const TOPIC: &str = "torture";
/// How many partitions it has.
pub const PARTITIONS: u32 = 4;
/// How many brokers there are.
pub const BROKERS: u32 = 3;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long faults go on.
    pub faults_for: Duration,
    /// What the nemesis' choices and the load's are drawn from. The processes' own timing is not: a
    /// seed chooses the faults, and does not replay a run.
    pub seed: u64,
    /// Whether the brokers' data and logs are left where they are.
    pub keep: bool,
}

/// The topic under load, by name and by id.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its partitions as clients name them.
    pub partitions: Vec<TopicPartition>,
    id: tidelog_types::TopicId,
}

impl Topic {
    /// A partition as histories name it.
    pub fn named(&self, partition: u32) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: self.id,
            partition: PartitionIndex(partition),
        }
    }

    /// All of them as histories name them.
    pub fn all_named(&self) -> Vec<TopicIdPartition> {
        (0..PARTITIONS).map(|number| self.named(number)).collect()
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Faults by kind.
    pub faults: Vec<(&'static str, usize)>,
    /// Events that the checker saw.
    pub events: usize,
    pub acknowledged: usize,
    /// Records whose fate their sender does not know.
    pub unknown: usize,
    /// Records handed to the group.
    pub delivered: usize,
    /// The longest that a partition took to acknowledge a record sent after a fault was healed.
    pub slowest_recovery: Duration,
    /// Batches of which the replicas' bytes were compared.
    pub batches_compared: usize,
}

/// Runs the whole. A violated invariant is an error with the events around it.
pub async fn run(plan: Plan) -> Result<Report> {
    let (cluster, links, mut disk) = start_prepared(BROKERS, plan.keep, nemesis::give_a_small_disk).await?;
    if plan.keep {
        disk.keep();
    }
    let client = Client::builder(cluster.bootstrap())
        .client_id("torture")
        .connect()
        .await?;
    let topic = create_topic(&client).await?;
    let recorder = Recorder::new();
    let stop = CancellationToken::new();
    let mut random = StdRng::seed_from_u64(plan.seed);

    let senders = Senders::start(&client, &topic, &recorder, &stop);
    let readers = Readers::start(&client, &topic, &recorder, plan.seed, &stop);
    let mut members = Members::start(&client, &topic, &recorder);
    let mut nemesis = Nemesis::new(cluster, links, disk, Arc::clone(senders.recovery()));
    let end = Instant::now() + plan.faults_for;
    while Instant::now() < end {
        tokio::select! {
            reason = recorder.violated() => {
                let folder = nemesis.keep();
                anyhow::bail!("{reason}\nthe brokers' data and logs are in {}", folder.display());
            }
            done = nemesis.strike(&mut random) => done?,
        }
        members.change(&mut random).await?;
    }
    let faults = nemesis.counts();
    let settled = settle::settle(settle::Running {
        nemesis,
        client,
        topic,
        recorder: recorder.clone(),
        senders,
        readers,
        members,
        stop,
    })
    .await?;
    Ok(Report {
        faults,
        events: recorder.count(),
        ..settled
    })
}

async fn create_topic(client: &Client) -> Result<Topic> {
    let new = NewTopic::new(TOPIC)
        .partitions(PARTITIONS)
        .replication_factor(BROKERS);
    let created = client
        .admin()
        .create_topic(new)
        .await
        .context("creating the topic")?;
    Ok(Topic {
        partitions: client.partitions(TOPIC).await?,
        id: created.topic_id.context("a created topic has an id")?,
    })
}
