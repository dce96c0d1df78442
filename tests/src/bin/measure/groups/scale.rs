//! A thousand groups of ten members on one broker: each member holds its stream, heartbeats as it
//! is told, and commits every five seconds.
//!
//! Members speak the protocol without the client library: they read nothing, so that what is
//! measured is the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rand::RngExt;
use tidelog_client::{Client, ErrorCode, NewTopic};
use tidelog_proto::v1;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_proto::v1::session_event::Event;
use tidelog_proto::v1::session_request::Request;
use tidelog_tests::cluster::Cluster;
use tidelog_tests::wait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use super::super::process::{cpu_time, pss_bytes};

const TOPIC: &str = "scale";
const MEMBERS: u32 = 10;
/// Connections that the members share: a broker takes some thousand streams on each.
const CONNECTIONS: usize = 8;
/// How often a member commits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long all may take to join and settle.
const JOINED_WITHIN: Duration = Duration::from_mins(5);
/// How many members join at a time.
const JOINING: usize = 64;

/// What all members count together.
struct Tally {
    commits: Mutex<Histogram<u64>>,
    /// Members with an assignment of their share.
    settled: AtomicU64,
    heartbeats: AtomicU64,
    /// Commits that a rebalance made stale, and were sent again.
    stale: AtomicU64,
    lost: AtomicU64,
    /// Commits count from here on.
    is_measuring: CancellationToken,
    stop: CancellationToken,
}

pub(crate) async fn measure(groups: u32, seconds: u64) -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(MEMBERS))
        .await?;
    let tally = Arc::new(Tally {
        commits: Mutex::new(Histogram::new(3)?),
        settled: AtomicU64::new(0),
        heartbeats: AtomicU64::new(0),
        stale: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        is_measuring: CancellationToken::new(),
        stop: CancellationToken::new(),
    });
    let began = Instant::now();
    let mut members = start(&cluster, groups, &tally).await?;
    let all = u64::from(groups * MEMBERS);
    wait::until("every member's share", JOINED_WITHIN, async || {
        let settled = tally.settled.load(Ordering::Relaxed);
        ensure!(settled == all, "{settled} of {all}");
        Ok(())
    })
    .await?;
    println!(
        "{all} members of {groups} groups own their share after {:.1} s",
        began.elapsed().as_secs_f64()
    );

    let (cpu, began) = (cpu_time(&cluster)?, Instant::now());
    let heartbeats = tally.heartbeats.load(Ordering::Relaxed);
    tally.is_measuring.cancel();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let elapsed = began.elapsed();
    let cpu = cpu_time(&cluster)?.saturating_sub(cpu);
    let heartbeats = tally.heartbeats.load(Ordering::Relaxed) - heartbeats;
    tally.stop.cancel();
    while let Some(ended) = members.join_next().await {
        ended??;
    }
    report(&tally, elapsed, cpu, heartbeats, pss_bytes(&cluster)?);
    Ok(())
}

fn report(tally: &Tally, elapsed: Duration, cpu: Duration, heartbeats: u64, memory: u64) {
    let commits = tally.commits.lock();
    let ms = |quantile| commits.value_at_quantile(quantile) as f64 / 1000.0;
    let seconds = elapsed.as_secs_f64();
    println!(
        "over {seconds:.0} s: {:.0} commits/s, {:.0} heartbeats/s; commit p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms; {} stale",
        commits.len() as f64 / seconds,
        heartbeats as f64 / seconds,
        ms(0.5),
        ms(0.99),
        ms(1.0),
        tally.stale.load(Ordering::Relaxed),
    );
    println!(
        "sessions lost {}; the broker took {:.0} % of a core and {} MiB",
        tally.lost.load(Ordering::Relaxed),
        100.0 * cpu.as_secs_f64() / seconds,
        memory / (1024 * 1024)
    );
}

async fn start(cluster: &Cluster, groups: u32, tally: &Arc<Tally>) -> Result<JoinSet<Result<()>>> {
    let address = format!("http://{}", cluster.brokers()[0].client_address());
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Channel::from_shared(address.clone())?.connect().await?);
    }
    let joining = Arc::new(tokio::sync::Semaphore::new(JOINING));
    let mut members = JoinSet::new();
    for group in 0..groups {
        for number in 0..MEMBERS {
            let channel = channels[(group * MEMBERS + number) as usize % CONNECTIONS].clone();
            let permit = Arc::clone(&joining).acquire_owned().await?;
            let mut member = Member::join(channel, format!("group-{group}"), Arc::clone(tally)).await?;
            members.spawn(async move {
                let outcome = member.live(permit).await;
                if outcome.is_err() {
                    member.tally.lost.fetch_add(1, Ordering::Relaxed);
                }
                outcome.with_context(|| format!("member {number} of group {group}"))
            });
        }
    }
    Ok(members)
}

struct Member {
    group: String,
    groups: GroupsClient<Channel>,
    say: mpsc::Sender<v1::SessionRequest>,
    events: Streaming<v1::SessionEvent>,
    tally: Arc<Tally>,
    id: String,
    epoch: u32,
    heartbeat: Duration,
    owned: Vec<v1::TopicPartitions>,
    is_settled: bool,
    offset: u64,
}

impl Member {
    async fn join(channel: Channel, group: String, tally: Arc<Tally>) -> Result<Self> {
        let mut groups = GroupsClient::new(channel);
        let (say, said) = mpsc::channel(16);
        let join = v1::Join {
            group_id: group.clone(),
            subscription: Some(v1::Subscribe {
                topics: vec![TOPIC.to_owned()],
                ..v1::Subscribe::default()
            }),
            client_id: "scale".to_owned(),
            ..v1::Join::default()
        };
        say.send(request(Request::Join(join))).await?;
        let mut events = groups.session(ReceiverStream::new(said)).await?.into_inner();
        let first = events.message().await?.and_then(|event| event.event);
        let Some(Event::Joined(joined)) = first else {
            bail!("not taken in: {first:?}");
        };
        Ok(Self {
            group,
            groups,
            say,
            events,
            tally,
            id: joined.member_id,
            epoch: joined.member_epoch,
            heartbeat: Duration::from_millis(joined.heartbeat_interval_ms.into()),
            owned: Vec::new(),
            is_settled: false,
            offset: 0,
        })
    }

    /// Until all stop. An error is the end of the session.
    async fn live(&mut self, permit: tokio::sync::OwnedSemaphorePermit) -> Result<()> {
        let mut permit = Some(permit);
        let mut heartbeats = spread(self.heartbeat);
        let mut commits = spread(COMMIT_INTERVAL);
        let stop = self.tally.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                event = self.events.message() => {
                    let event = event?.and_then(|event| event.event).context("the stream ended")?;
                    self.hear(event).await?;
                    permit = None;
                }
                _ = heartbeats.tick() => {
                    let heartbeat = v1::Heartbeat { member_epoch: self.epoch };
                    self.say.send(request(Request::Heartbeat(heartbeat))).await?;
                }
                _ = commits.tick(), if permit.is_none() => self.commit().await?,
            }
        }
    }

    async fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Assignment(assignment) => {
                self.epoch = assignment.member_epoch;
                let count = |owned: &[v1::TopicPartitions]| {
                    owned.iter().map(|topic| topic.partitions.len()).sum::<usize>()
                };
                let keeps_all = |topic: &v1::TopicPartitions| {
                    let now = assignment
                        .partitions
                        .iter()
                        .find(|now| now.topic_id == topic.topic_id);
                    topic
                        .partitions
                        .iter()
                        .all(|p| now.is_some_and(|now| now.partitions.contains(p)))
                };
                let takes_away = !self.owned.iter().all(keeps_all);
                self.owned = assignment.partitions;
                if takes_away {
                    let revoked = v1::Revoked {
                        member_epoch: self.epoch,
                        assignment_version: assignment.version,
                        owned: self.owned.clone(),
                    };
                    self.say.send(request(Request::Revoked(revoked))).await?;
                }
                // Ten members of ten partitions: one each, in the end.
                let is_settled = count(&self.owned) == 1;
                match (is_settled, self.is_settled) {
                    (true, false) => _ = self.tally.settled.fetch_add(1, Ordering::Relaxed),
                    (false, true) => _ = self.tally.settled.fetch_sub(1, Ordering::Relaxed),
                    _ => {}
                }
                self.is_settled = is_settled;
            }
            Event::Heartbeat(answer) => {
                self.epoch = self.epoch.max(answer.member_epoch);
                self.tally.heartbeats.fetch_add(1, Ordering::Relaxed);
            }
            Event::Ended(error) => bail!("the coordinator ended the session: {error:?}"),
            Event::Joined(_) => bail!("joined twice"),
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.offset += 1;
        let offset = |topic: &v1::TopicPartitions, partition: &u32| v1::OffsetToCommit {
            topic: topic.topic.clone(),
            partition: *partition,
            offset: self.offset,
            leader_epoch: None,
            metadata: String::new(),
            topic_id: Some(topic.topic_id.clone()),
        };
        let offsets: Vec<_> = self
            .owned
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(move |partition| offset(topic, partition))
            })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let request = v1::CommitRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            offsets,
        };
        let began = Instant::now();
        let answer = self.groups.commit(request).await?.into_inner();
        match answer.error {
            None => {
                ensure!(answer.failures.is_empty(), "{:?}", answer.failures);
                if self.tally.is_measuring.is_cancelled() {
                    let us = began.elapsed().as_micros() as u64;
                    self.tally.commits.lock().record(us.max(1))?;
                }
            }
            // A rebalance came in between: the new epoch is on its way.
            Some(error) if ErrorCode::from_number(error.code).is_some_and(ErrorCode::is_retriable) => {
                self.tally.stale.fetch_add(1, Ordering::Relaxed);
            }
            Some(error) => bail!("a commit was refused: {error:?}"),
        }
        Ok(())
    }
}

fn request(request: Request) -> v1::SessionRequest {
    v1::SessionRequest {
        request: Some(request),
    }
}

/// Ticks at an interval, from a random moment within the first on.
fn spread(interval: Duration) -> tokio::time::Interval {
    let first = rand::rng().random_range(Duration::ZERO..interval);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}
