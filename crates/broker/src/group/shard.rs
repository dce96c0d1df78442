//! One coordinator at work: the task that owns it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder, ExponentialBuilder};
use tidelog_group::leadership::{may_pass, not_coordinator, refused};
use tidelog_group::{
    Command, CommitFailure, Coordinator, Decision, Effect, GroupConfig, Join, MemberEpoch, MemberId, Now,
    OffsetToCommit, Record, Reply, RequestId, StreamId, Topics,
};
use tidelog_record::{Batch, BatchBuilder, Compression, NewRecord};
use tidelog_types::{ErrorCode, GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::codec;
use super::load::load;
use super::log::OffsetsLog;

/// Most events that wait for one session stream. A member that does not read them is cut off, and resumes.
pub(super) const MAX_WAITING_EVENTS: usize = 64;
/// Most requests that wait for one shard.
pub(super) const MAX_WAITING_REQUESTS: usize = 1024;
/// Most requests taken before the high watermark and the timer are looked at again.
const REQUESTS_AT_ONCE: usize = 256;
/// Shortest and longest time between attempts to load. Mostly the broker was elected a moment before it may serve.
const LOAD_RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Most that goes into one batch of records, bytes. Only deleting or expiring a huge group needs several, and those may
/// be cut anywhere.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What a shard is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) partition: PartitionIndex,
    pub(super) epoch: LeaderEpoch,
    /// Where the log ended when the leadership began.
    pub(super) start_offset: Offset,
}

/// How far a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Loading,
    Serving,
    Ended,
}

/// A shard's phase, for those who ask before they queue.
#[derive(Debug, Default)]
pub(super) struct SharedPhase(AtomicU8);

impl SharedPhase {
    pub(super) fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Serving,
            _ => Phase::Ended,
        }
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }
}

pub(super) type Committed = Result<Vec<CommitFailure>, PartitionError>;

/// What a shard is asked.
pub(super) enum Request {
    /// A new stream.
    Join {
        stream: StreamId,
        join: Box<Join>,
        events: mpsc::Sender<Effect>,
    },
    /// A message of a stream, or its end.
    Stream(Command),
    /// Commit offsets.
    Commit {
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        offsets: Vec<OffsetToCommit>,
        done: oneshot::Sender<Committed>,
    },
    /// Delete a group.
    Delete {
        group: GroupId,
        done: oneshot::Sender<Result<(), PartitionError>>,
    },
    /// Read what is committed.
    Read(Box<dyn FnOnce(&Coordinator) + Send>),
}

enum Waiter {
    Commit(oneshot::Sender<Committed>),
    Delete(oneshot::Sender<Result<(), PartitionError>>),
}

/// What a shard's task is made of.
pub(super) struct Shard<L> {
    pub(super) log: Arc<L>,
    pub(super) leadership: Leadership,
    pub(super) config: GroupConfig,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) topics: watch::Receiver<Arc<Topics>>,
    pub(super) phase: Arc<SharedPhase>,
    /// The leadership is over, or the broker stops.
    pub(super) cancel: CancellationToken,
}

impl<L: OffsetsLog> Shard<L> {
    /// Loads, serves, and ends with the leadership.
    ///
    /// A failure that may pass leads back to loading and ends nothing: a broker that was just elected may not serve yet, or
    /// not for a moment, and nobody tells it of the same epoch twice.
    pub(super) async fn run(mut self) {
        let cancel = self.cancel.clone();
        loop {
            let started = Instant::now();
            let coordinator = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                loaded = self.load() => match loaded {
                    Ok(coordinator) => coordinator,
                    Err(error) => {
                        let Leadership { partition, epoch, .. } = self.leadership;
                        tracing::error!(%partition, %epoch, %error, "cannot load the groups of this partition");
                        break;
                    }
                },
            };
            if self.serve(coordinator, started).await == Next::End {
                break;
            }
        }
        self.phase.set(Phase::Ended);
    }

    /// A coordinator with everything that is committed. Tried until it succeeds or fails for good.
    async fn load(&mut self) -> Result<Coordinator, PartitionError> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(LOAD_RETRY.0)
            .with_max_delay(LOAD_RETRY.1)
            .without_max_times()
            .build();
        loop {
            let topics = Arc::clone(&self.topics.borrow_and_update());
            let mut coordinator = Coordinator::new(self.config.clone(), topics);
            let error = match load(&*self.log, &self.leadership, &mut coordinator).await {
                Ok(()) => return Ok(coordinator),
                Err(error) => error,
            };
            if !may_pass(&error) {
                return Err(error);
            }
            let delay = delays.next().unwrap_or(LOAD_RETRY.1);
            let Leadership { partition, epoch, .. } = self.leadership;
            if delay < LOAD_RETRY.1 {
                tracing::debug!(%partition, %epoch, %error, "cannot load the groups yet");
            } else {
                tracing::warn!(%partition, %epoch, %error, "still cannot load the groups of this partition");
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn serve(&mut self, mut coordinator: Coordinator, started: Instant) -> Next {
        let Leadership { partition, epoch, .. } = self.leadership;
        let clock = Clock { started };
        coordinator.start(self.leadership.start_offset, clock.now());
        let groups = coordinator.committed().group_count();
        tracing::info!(%partition, %epoch, groups, elapsed_ms = started.elapsed().as_millis() as u64, "coordinating");
        self.phase.set(Phase::Serving);

        let mut worker = Worker {
            log: &*self.log,
            leadership: self.leadership,
            coordinator,
            clock,
            high_watermark: self.leadership.start_offset,
            log_end: self.leadership.start_offset,
            streams: HashMap::new(),
            waiters: HashMap::new(),
            next_request: 0,
        };
        let ended = worker
            .serve(&mut self.requests, &mut self.topics, &self.cancel)
            .await;
        // What was appended in this epoch is to be replayed as well, and replicated first.
        self.leadership.start_offset = worker.log_end;
        let next = if !self.cancel.is_cancelled() && ended.log.as_ref().is_some_and(may_pass) {
            self.phase.set(Phase::Loading);
            Next::Load
        } else {
            self.phase.set(Phase::Ended);
            self.requests.close();
            Next::End
        };
        let why = ended.told;
        tracing::info!(%partition, %epoch, %why, ?next, "coordinating no more");
        worker.end(&why, &mut self.requests);
        next
    }
}

/// What a shard does when it served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Load,
    End,
}

/// Why a shard serves no more.
struct Ended {
    /// What its members are told.
    told: PartitionError,
    /// What the log refused, if that is why.
    log: Option<PartitionError>,
}

impl Ended {
    fn resigned() -> Self {
        Self {
            told: not_coordinator(),
            log: None,
        }
    }

    fn refused(error: PartitionError) -> Self {
        Self {
            told: refused(error.clone()),
            log: Some(error),
        }
    }
}

struct Appended {
    record_count: usize,
    end: Option<Offset>,
    refusal: Option<PartitionError>,
}

struct Worker<'a, L> {
    log: &'a L,
    leadership: Leadership,
    coordinator: Coordinator,
    clock: Clock,
    high_watermark: Offset,
    /// Where the last append ended.
    log_end: Offset,
    streams: HashMap<StreamId, mpsc::Sender<Effect>>,
    waiters: HashMap<RequestId, Waiter>,
    next_request: u64,
}

impl<L: OffsetsLog> Worker<'_, L> {
    /// Until the leadership is over, or the log refuses; answers which.
    async fn serve(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        topics: &mut watch::Receiver<Arc<Topics>>,
        cancel: &CancellationToken,
    ) -> Ended {
        let Leadership { partition, epoch, .. } = self.leadership;
        loop {
            let deadline = self.clock.instant(self.coordinator.next_deadline());
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ended::resigned(),
                moved = self.log.high_watermark_above(partition, epoch, self.high_watermark),
                    if self.coordinator.pending_count() > 0 =>
                {
                    match moved {
                        Ok(high_watermark) => self.advance(high_watermark),
                        Err(error) => return Ended::refused(error),
                    }
                }
                request = requests.recv() => {
                    let mut next = request;
                    if next.is_none() {
                        return Ended::resigned();
                    }
                    for _ in 0..REQUESTS_AT_ONCE {
                        let Some(request) = next.take().or_else(|| requests.try_recv().ok()) else { break };
                        // Each: the one before may have waited long for room in the log.
                        if let Err(error) = self.log.check(partition, epoch) {
                            return Ended::refused(error);
                        }
                        self.take(request).await;
                    }
                }
                changed = topics.changed() => {
                    if changed.is_err() {
                        return Ended::resigned();
                    }
                    let view = Arc::clone(&topics.borrow_and_update());
                    self.coordinator.set_topics(view);
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.run_due().await;
        }
    }

    async fn take(&mut self, request: Request) {
        let command = match request {
            Request::Read(read) => return read(&self.coordinator),
            Request::Join { stream, join, events } => {
                self.streams.insert(stream, events);
                Command::Join { stream, join }
            }
            Request::Stream(command) => {
                if let Command::Disconnected { stream } = &command {
                    self.streams.remove(stream);
                }
                command
            }
            Request::Commit {
                group,
                member,
                offsets,
                done,
            } => {
                let request = self.wait(Waiter::Commit(done));
                Command::Commit {
                    request,
                    group,
                    member,
                    offsets,
                }
            }
            Request::Delete { group, done } => {
                let request = self.wait(Waiter::Delete(done));
                Command::Delete { request, group }
            }
        };
        if let Err(error) = self.run(&command).await {
            self.refuse(&command, error).await;
        }
    }

    fn wait(&mut self, waiter: Waiter) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.waiters.insert(request, waiter);
        request
    }

    /// Decides, appends, applies. An error means that nothing was told and that the command may be given again.
    async fn run(&mut self, command: &Command) -> Result<(), PartitionError> {
        let now = self.clock.now();
        let mut decision = self.coordinator.decide(command, now);
        let appended = self.append(&decision).await?;
        if appended.refusal.is_some() {
            decision = decision.first_records(appended.record_count);
        }
        self.coordinator.apply(decision, appended.end, now);
        self.advance(self.high_watermark);
        appended.refusal.map_or(Ok(()), Err)
    }

    /// Appends a decision's records. An error means that none was; a refusal of a later batch stands beside what was appended.
    async fn append(&mut self, decision: &Decision) -> Result<Appended, PartitionError> {
        let Leadership { partition, epoch, .. } = self.leadership;
        let mut appended = Appended {
            record_count: 0,
            end: None,
            refusal: None,
        };
        for batch in batches(&decision.records, self.clock.now().wall_ms)? {
            let record_count = batch.info().offset_count() as usize;
            match self.log.append(partition, epoch, batch).await.map_err(refused) {
                Ok(end) => {
                    appended.record_count += record_count;
                    appended.end = Some(end);
                    self.log_end = end;
                }
                Err(error) if appended.end.is_none() => return Err(error),
                Err(error) => {
                    appended.refusal = Some(error);
                    break;
                }
            }
        }
        Ok(appended)
    }

    async fn run_due(&mut self) {
        while let Some(command) = self.coordinator.due(self.clock.now()) {
            if let Err(error) = self.run(&command).await {
                tracing::warn!(partition = %self.leadership.partition, %error, "will try again");
                self.coordinator.postpone(&command, self.clock.now());
            }
        }
    }

    fn advance(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        let mut slow = Vec::new();
        for effect in self.coordinator.advance(self.high_watermark) {
            slow.extend(self.perform(effect));
        }
        for stream in slow {
            tracing::warn!(%stream, "a session stream does not read its events and is cut off");
            self.streams.remove(&stream);
            let now = self.clock.now();
            let decision = self.coordinator.decide(&Command::Disconnected { stream }, now);
            self.coordinator.apply(decision, None, now);
        }
    }

    /// Tells the world; names a stream that cannot be told.
    fn perform(&mut self, effect: Effect) -> Option<StreamId> {
        let stream = match effect {
            Effect::Reply { request, reply } => {
                // Whoever gave up waiting is not told.
                match (self.waiters.remove(&request), reply) {
                    (Some(Waiter::Commit(done)), Reply::Committed(result)) => drop(done.send(result)),
                    (Some(Waiter::Delete(done)), Reply::Deleted(result)) => drop(done.send(result)),
                    _ => {}
                }
                return None;
            }
            Effect::End { stream, .. } => {
                if let Some(events) = self.streams.remove(&stream) {
                    let _ = events.try_send(effect);
                }
                return None;
            }
            Effect::Joined { stream, .. }
            | Effect::Assign { stream, .. }
            | Effect::HeartbeatAnswer { stream, .. } => stream,
        };
        let told = self.streams.get(&stream)?.try_send(effect);
        told.is_err().then_some(stream)
    }

    /// A command whose records were not taken: nothing of it happened, and whoever sent it may try again.
    async fn refuse(&mut self, command: &Command, error: PartitionError) {
        match command {
            Command::Commit { request, .. } => {
                if let Some(Waiter::Commit(done)) = self.waiters.remove(request) {
                    let _ = done.send(Err(error));
                }
            }
            Command::Delete { request, .. } => {
                if let Some(Waiter::Delete(done)) = self.waiters.remove(request) {
                    let _ = done.send(Err(error));
                }
            }
            Command::Join { stream, .. }
            | Command::Heartbeat { stream, .. }
            | Command::Revoked { stream, .. }
            | Command::Subscribe { stream, .. }
            | Command::Leave { stream, .. }
            | Command::Disconnected { stream } => {
                // The member resumes with what it owns, which says again what was lost here.
                let stream = *stream;
                let _ = self.perform(Effect::End {
                    stream,
                    error: Some(error),
                });
                let _ = Box::pin(self.run(&Command::Disconnected { stream })).await;
            }
            Command::Expire { .. } | Command::TopicsChanged { .. } | Command::ExpireOffsets { .. } => {}
        }
    }

    /// It serves no more: everybody is told, and may find what it asked for done or not.
    fn end(mut self, why: &PartitionError, requests: &mut mpsc::Receiver<Request>) {
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Join { stream, events, .. } => {
                    self.streams.insert(stream, events);
                }
                Request::Commit { done, .. } => drop(done.send(Err(why.clone()))),
                Request::Delete { done, .. } => drop(done.send(Err(why.clone()))),
                // Reading and streams' messages are answered by what is dropped.
                Request::Read(_) | Request::Stream(_) => {}
            }
        }
        for (stream, events) in self.streams.drain() {
            let _ = events.try_send(Effect::End {
                stream,
                error: Some(why.clone()),
            });
        }
        for waiter in self.waiters.into_values() {
            match waiter {
                Waiter::Commit(done) => drop(done.send(Err(why.clone()))),
                Waiter::Delete(done) => drop(done.send(Err(why.clone()))),
            }
        }
    }
}

/// Records as batches: one, unless there are very many.
fn batches(records: &[Record], timestamp_ms: i64) -> Result<Vec<Batch>, PartitionError> {
    let too_large = |error: tidelog_record::BuildError| {
        PartitionError::new(
            ErrorCode::InvalidRequest,
            format!("the group's state does not fit a batch: {error}"),
        )
    };
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let (key, value) = codec::encode(record);
        let record = NewRecord::new(timestamp_ms, Some(&key), value.as_deref());
        if !builder.would_fit(&record, BATCH_BYTES) {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(Compression::None));
            batches.push(full.build(None).map_err(too_large)?);
        }
        builder.append(record).map_err(too_large)?;
    }
    if !builder.is_empty() {
        batches.push(builder.build(None).map_err(too_large)?);
    }
    Ok(batches)
}

/// Both clocks of a coordinator.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
}

impl Clock {
    fn now(self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: self.started.elapsed(),
            wall_ms: since_1970.as_millis() as i64,
        }
    }

    fn instant(self, at: Duration) -> Instant {
        self.started + at
    }
}
