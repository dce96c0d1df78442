//! Members of a group: they join, leave and die, and tell what they own, are handed and commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use tidelog_client::{
    Client, Committer, Consumer, HookFuture, OffsetReset, RebalanceListener, TopicPartition,
};
use tidelog_history::What;
use tidelog_history::event::{CommitResult, Name, Request};
use tidelog_types::Offset;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::{TOPIC, Topic};

/// The id of the group.
pub const GROUP: &str = "torture";
/// Most members at a time, and least.
const MEMBERS: std::ops::RangeInclusive<usize> = 1..=4;
/// How often a member commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(700);
/// How long leaving may take.
const CLOSE: Duration = Duration::from_mins(1);
/// How likely a change among the members is, each time it is asked for.
const CHANGE: f64 = 0.4;
/// How likely a member that goes does so without a word. Its partitions wait for its session's end,
/// so not too often.
const DEATH: f64 = 0.2;

/// Which offsets a group was handed: all of them, in the end.
#[derive(Debug, Default)]
struct Delivered(BTreeMap<u32, Vec<bool>>);

impl Delivered {
    fn note(&mut self, partition: u32, offset: u64) {
        let seen = self.0.entry(partition).or_default();
        let at = offset as usize;
        if seen.len() <= at {
            seen.resize(at + 1, false);
        }
        seen[at] = true;
    }

    fn missing(&self, partition: u32, end: u64) -> usize {
        let seen = self.0.get(&partition).map_or(&[][..], Vec::as_slice);
        let below = seen.iter().take(end as usize).filter(|seen| **seen).count();
        end as usize - below
    }
}

/// The group's members.
pub struct Members {
    shared: Arc<Shared>,
    running: Vec<Member>,
    next: usize,
}

struct Shared {
    client: Client,
    topic: Topic,
    recorder: Recorder,
    delivered: Mutex<Delivered>,
}

struct Member {
    /// Told to leave.
    leave: CancellationToken,
    task: JoinHandle<Result<()>>,
    ended: What,
}

impl Members {
    /// Begins with one.
    pub fn start(client: &Client, topic: &Topic, recorder: &Recorder) -> Self {
        let shared = Arc::new(Shared {
            client: client.clone(),
            topic: topic.clone(),
            recorder: recorder.clone(),
            delivered: Mutex::default(),
        });
        let mut members = Self {
            shared,
            running: Vec::new(),
            next: 1,
        };
        members.join();
        members
    }

    /// Now and then one joins, leaves or dies. One that ended by itself is an error.
    pub async fn change(&mut self, random: &mut StdRng) -> Result<()> {
        if let Some(at) = self.running.iter().position(|member| member.task.is_finished()) {
            self.running.swap_remove(at).task.await??;
        }
        if !random.random_bool(CHANGE) {
            return Ok(());
        }
        let grow = self.running.len() <= *MEMBERS.start() || random.random_bool(0.5);
        if grow && self.running.len() < *MEMBERS.end() {
            self.join();
        } else if self.running.len() > *MEMBERS.start() {
            let going = self
                .running
                .swap_remove(random.random_range(0..self.running.len()));
            if random.random_bool(DEATH) {
                going.task.abort();
                let _ = going.task.await;
                self.shared.recorder.note(going.ended);
            } else {
                going.leave.cancel();
            }
        }
        Ok(())
    }

    /// How many records the group was handed, each counted once.
    pub fn delivered(&self) -> usize {
        let delivered = self.shared.delivered.lock();
        delivered.0.values().flatten().filter(|seen| **seen).count()
    }

    /// Fails while the group was not handed everything below these ends.
    pub fn have_everything(&self, ends: &BTreeMap<u32, u64>) -> Result<()> {
        for member in &self.running {
            ensure!(!member.task.is_finished(), "a member ended by itself");
        }
        let delivered = self.shared.delivered.lock();
        for (partition, end) in ends {
            let missing = delivered.missing(*partition, *end);
            ensure!(
                missing == 0,
                "{missing} of {end} records of partition {partition} were not handed out"
            );
        }
        Ok(())
    }

    /// Lets every member leave the group.
    pub async fn leave(&mut self) -> Result<()> {
        for member in self.running.drain(..) {
            member.leave.cancel();
            member.task.await??;
        }
        Ok(())
    }

    /// What is committed, as the history wants it.
    pub async fn look_at_commits(client: &Client, topic: &Topic, recorder: &Recorder) {
        let asked: BTreeMap<u32, Request> = topic
            .partitions
            .iter()
            .map(|partition| {
                let number = partition.partition.0;
                let ask = |request| What::OffsetAsked {
                    request,
                    group: GROUP.into(),
                    partition: topic.named(number),
                };
                (number, recorder.ask(ask))
            })
            .collect();
        // No answer is no event.
        let Ok(offsets) = client.admin().group_offsets(GROUP).await else {
            return;
        };
        for (number, request) in asked {
            let committed = offsets
                .iter()
                .find(|committed| committed.partition.partition.0 == number)
                .map(|committed| Offset(committed.offset));
            recorder.note(What::OffsetAnswered {
                request,
                offset: committed,
            });
        }
    }

    fn join(&mut self) {
        let name: Name = format!("member-{}", self.next).into();
        self.next += 1;
        let leave = CancellationToken::new();
        let ended = What::MemberEnded {
            group: GROUP.into(),
            member: name.clone(),
        };
        let task = tokio::spawn(read(Arc::clone(&self.shared), name, leave.clone()));
        self.running.push(Member { leave, task, ended });
    }
}

/// Where a member is: what it was handed of each partition it owns, up to where.
type Positions = Arc<Mutex<BTreeMap<TopicPartition, u64>>>;

async fn read(shared: Arc<Shared>, name: Name, leave: CancellationToken) -> Result<()> {
    let positions = Positions::default();
    let hooks = Hooks {
        shared: Arc::clone(&shared),
        member: name.clone(),
        positions: Arc::clone(&positions),
    };
    let mut consumer = shared
        .client
        .group(GROUP)
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest)
        .rebalance_listener(hooks)
        .build()
        .await
        .context("joining the group")?;
    let mut commits = tokio::time::interval(COMMIT_INTERVAL);
    loop {
        tokio::select! {
            () = leave.cancelled() => break,
            _ = commits.tick() => commit_all(&shared, &consumer, &positions).await?,
            record = consumer.recv() => {
                let record = record.context("a member's reading")?;
                let partition = record.topic_partition();
                shared.delivered.lock().note(record.partition, record.offset);
                shared.recorder.note(What::Delivered {
                    group: GROUP.into(),
                    partition: shared.topic.named(record.partition),
                    offset: Offset(record.offset),
                });
                // Of a partition that was given up meanwhile nothing is committed.
                if let Some(position) = positions.lock().get_mut(&partition) {
                    *position = record.offset + 1;
                }
            }
        }
    }
    let closed = consumer.close(CLOSE).await;
    shared.recorder.note(What::MemberEnded {
        group: GROUP.into(),
        member: name,
    });
    match closed {
        Err(error) if !error.is_retriable() => Err(error).context("leaving the group"),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn commit_all(shared: &Shared, consumer: &Consumer, positions: &Positions) -> Result<()> {
    let offsets = read_up_to(&positions.lock());
    commit(shared, offsets, async |offsets| {
        consumer.commit_offsets(offsets).await
    })
    .await;
    Members::look_at_commits(&shared.client, &shared.topic, &shared.recorder).await;
    Ok(())
}

fn read_up_to(positions: &BTreeMap<TopicPartition, u64>) -> Vec<(TopicPartition, u64)> {
    let read = positions.iter().filter(|(_, position)| **position > 0);
    read.map(|(partition, position)| (partition.clone(), *position))
        .collect()
}

/// Commits, and tells of it partition by partition. One that failed may have been done for some of
/// them.
async fn commit(
    shared: &Shared,
    offsets: Vec<(TopicPartition, u64)>,
    how: impl AsyncFnOnce(Vec<(TopicPartition, u64)>) -> tidelog_client::Result<()>,
) {
    if offsets.is_empty() {
        return;
    }
    let began: Vec<Request> = offsets
        .iter()
        .map(|(partition, offset)| {
            shared.recorder.ask(|request| What::CommitBegan {
                request,
                group: GROUP.into(),
                partition: shared.topic.named(partition.partition.0),
                offset: Some(Offset(*offset)),
            })
        })
        .collect();
    let result = match how(offsets).await {
        Ok(()) => CommitResult::Acknowledged,
        Err(_) => CommitResult::Unknown,
    };
    for request in began {
        shared.recorder.note(What::CommitEnded { request, result });
    }
}

struct Hooks {
    shared: Arc<Shared>,
    member: Name,
    positions: Positions,
}

impl Hooks {
    fn named(&self, partitions: &[TopicPartition]) -> Vec<tidelog_types::TopicIdPartition> {
        partitions
            .iter()
            .map(|partition| self.shared.topic.named(partition.partition.0))
            .collect()
    }

    fn gave_up(&self, partitions: &[TopicPartition]) {
        let mut positions = self.positions.lock();
        for partition in partitions {
            positions.remove(partition);
        }
        drop(positions);
        self.shared.recorder.note(What::GaveUp {
            group: GROUP.into(),
            member: self.member.clone(),
            partitions: self.named(partitions),
        });
    }
}

impl RebalanceListener for Hooks {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        let mut positions = self.positions.lock();
        for partition in partitions {
            positions.insert(partition.clone(), 0);
        }
        drop(positions);
        self.shared.recorder.note(What::Assigned {
            group: GROUP.into(),
            member: self.member.clone(),
            partitions: self.named(partitions),
        });
        Box::pin(std::future::ready(()))
    }

    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], committer: &'a Committer) -> HookFuture<'a> {
        Box::pin(async move {
            let mut offsets = read_up_to(&self.positions.lock());
            offsets.retain(|(partition, _)| partitions.contains(partition));
            commit(&self.shared, offsets, async |offsets| {
                committer.commit_offsets(offsets).await
            })
            .await;
            self.gave_up(partitions);
        })
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        self.gave_up(partitions);
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_below_the_end() {
        let mut delivered = Delivered::default();
        delivered.note(0, 0);
        delivered.note(0, 3);
        delivered.note(0, 3);
        assert_eq!(delivered.missing(0, 4), 2);
        assert_eq!(delivered.missing(0, 1), 0);
        assert_eq!(delivered.missing(1, 2), 2);
    }
}
