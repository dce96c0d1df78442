//! What the rest of the broker holds: the shards of the partitions that are led here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tidelog_group::leadership::{not_coordinator, still_loading};
use tidelog_group::{
    AssignmentVersion, Command, CommitFailure, Coordinator, Effect, GroupConfig, GroupDescription,
    GroupSummary, Join, MemberEpoch, MemberId, NamedOffset, OffsetToCommit, StreamId, Subscription, Topics,
};
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, Offset, PartitionError, PartitionIndex, TopicIdPartition, TopicName,
    coordinator_partition,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::OffsetsLog;
use super::shard::{
    Leadership, MAX_WAITING_EVENTS, MAX_WAITING_REQUESTS, Phase, Request, Shard, SharedPhase,
};
use crate::metrics::{GroupFigures, GroupProgress};

/// The coordinators of this broker. Cheap to clone.
pub struct Groups<L> {
    inner: Arc<Inner<L>>,
}

impl<L> Clone for Groups<L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<L> {
    log: Arc<L>,
    config: GroupConfig,
    topics: watch::Receiver<Arc<Topics>>,
    shards: RwLock<BTreeMap<PartitionIndex, ShardHandle>>,
    next_stream: AtomicU64,
    runtime: Handle,
    tasks: TaskTracker,
    /// The broker stops: every shard ends.
    cancel: CancellationToken,
}

#[derive(Clone)]
struct ShardHandle {
    epoch: LeaderEpoch,
    phase: Arc<SharedPhase>,
    requests: mpsc::Sender<Request>,
    /// This leadership is over.
    cancel: CancellationToken,
}

impl<L: OffsetsLog> Groups<L> {
    /// Without any shard yet. Must be called within a tokio runtime. `topics` must be at least as new as every leadership that
    /// [`Self::lead`] is told of.
    pub fn new(
        log: Arc<L>,
        config: GroupConfig,
        topics: watch::Receiver<Arc<Topics>>,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let inner = Inner {
            log,
            config,
            topics,
            shards: RwLock::default(),
            next_stream: AtomicU64::new(1),
            runtime: Handle::current(),
            tasks,
            cancel,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This broker leads a partition of `__consumer_offsets` since its log ended at `start_offset`. Quick, never blocks; an older
    /// epoch than the one known is ignored.
    pub fn lead(&self, partition: PartitionIndex, epoch: LeaderEpoch, start_offset: Offset) {
        let mut shards = self.inner.shards.write();
        if shards.get(&partition).is_some_and(|shard| shard.epoch >= epoch) {
            return;
        }
        if let Some(before) = shards.remove(&partition) {
            before.cancel.cancel();
        }
        let (sender, requests) = mpsc::channel(MAX_WAITING_REQUESTS);
        let handle = ShardHandle {
            epoch,
            phase: Arc::default(),
            requests: sender,
            cancel: self.inner.cancel.child_token(),
        };
        let shard = Shard {
            log: Arc::clone(&self.inner.log),
            leadership: Leadership {
                partition,
                epoch,
                start_offset,
            },
            config: self.inner.config.clone(),
            requests,
            topics: self.inner.topics.clone(),
            phase: Arc::clone(&handle.phase),
            cancel: handle.cancel.clone(),
        };
        self.inner.tasks.spawn_on(shard.run(), &self.inner.runtime);
        shards.insert(partition, handle);
    }

    /// This broker does not lead a partition any more. Quick, never blocks.
    pub fn resign(&self, partition: PartitionIndex) {
        if let Some(shard) = self.inner.shards.write().remove(&partition) {
            shard.cancel.cancel();
        }
    }

    /// How many groups' partitions are coordinated here and loaded.
    pub fn serving_count(&self) -> usize {
        self.inner
            .shards
            .read()
            .values()
            .filter(|shard| shard.phase.get() == Phase::Serving)
            .count()
    }

    /// Settings of every group.
    pub fn config(&self) -> &GroupConfig {
        &self.inner.config
    }

    /// The topics that groups are assigned.
    pub fn topics(&self) -> Arc<Topics> {
        Arc::clone(&self.inner.topics.borrow())
    }

    /// Opens a session: joins, or resumes. Its events say how that went.
    pub async fn join(&self, join: Join) -> Result<Session, PartitionError> {
        let shard = self.shard(&join.group)?;
        let stream = StreamId(self.inner.next_stream.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let request = Request::Join {
            stream,
            join: Box::new(join),
            events: sender,
        };
        shard
            .requests
            .send(request)
            .await
            .map_err(|_| not_coordinator())?;
        Ok(Session {
            stream,
            requests: shard.requests,
            events: Some(events),
        })
    }

    /// Commits offsets; answers when they are replicated, with the partitions that were refused. Where
    /// that takes longer than `within`, REQUEST_TIMED_OUT says that it may or may not have happened.
    pub async fn commit(
        &self,
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        offsets: Vec<OffsetToCommit>,
        within: Duration,
    ) -> Result<Vec<CommitFailure>, PartitionError> {
        let shard = self.shard(&group)?;
        let (done, answer) = oneshot::channel();
        let request = Request::Commit {
            group,
            member,
            offsets,
            done,
        };
        shard
            .requests
            .send(request)
            .await
            .map_err(|_| not_coordinator())?;
        replicated(answer, within).await
    }

    /// Deletes an empty group; answers when that is replicated, or after `within`, as a commit does.
    pub async fn delete(&self, group: GroupId, within: Duration) -> Result<(), PartitionError> {
        let shard = self.shard(&group)?;
        let (done, answer) = oneshot::channel();
        shard
            .requests
            .send(Request::Delete { group, done })
            .await
            .map_err(|_| not_coordinator())?;
        replicated(answer, within).await
    }

    /// Committed offsets; for a member fenced as a commit is.
    pub async fn offsets(
        &self,
        group: GroupId,
        member: Option<(MemberId, MemberEpoch)>,
        partitions: Option<Vec<TopicIdPartition>>,
    ) -> Result<Vec<NamedOffset>, PartitionError> {
        let shard = self.shard(&group)?;
        read(&shard, move |coordinator| {
            coordinator.offsets(&group, member.as_ref(), partitions.as_deref())
        })
        .await?
    }

    /// A group in full.
    pub async fn describe(&self, group: GroupId) -> Result<GroupDescription, PartitionError> {
        let shard = self.shard(&group)?;
        read(&shard, move |coordinator| coordinator.describe(&group)).await?
    }

    /// At most `max` groups of this broker whose ids follow `after`, by id. COORDINATOR_LOAD_IN_PROGRESS while any shard loads: a list
    /// that silently lacks some would be taken for complete.
    pub async fn list(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupSummary>, PartitionError> {
        let shards = self.inner.shards.read().clone();
        let mut groups = Vec::new();
        for (partition, shard) in shards {
            let after = after.clone();
            let listed = async {
                check_phase(&shard)?;
                read(&shard, move |coordinator| coordinator.list(after.as_ref(), max)).await
            };
            groups.extend(listed.await.map_err(|error| list_lacks(partition, &error))?);
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        groups.truncate(max);
        Ok(groups)
    }

    /// How far the groups of this broker are. Of partitions that are not loaded yet nothing is told.
    pub async fn figures(&self) -> GroupFigures {
        let shards: Vec<ShardHandle> = self.inner.shards.read().values().cloned().collect();
        let mut figures = GroupFigures::default();
        for shard in shards {
            let rest = figures.rest();
            if shard.phase.get() == Phase::Serving
                && let Ok(more) = read(&shard, move |coordinator| progress(rest, coordinator)).await
            {
                figures.add(more);
            }
        }
        figures
    }

    fn shard(&self, group: &GroupId) -> Result<ShardHandle, PartitionError> {
        let shard = self
            .inner
            .shards
            .read()
            .get(&coordinator_partition(group))
            .cloned();
        let shard = shard.ok_or_else(not_coordinator)?;
        check_phase(&shard)?;
        Ok(shard)
    }
}

/// A coordinator's groups, taken into figures. It serves nobody meanwhile, so that it looks only at what there is room for.
fn progress(mut figures: GroupFigures, coordinator: &Coordinator) -> GroupFigures {
    let state = coordinator.committed();
    for (id, group) in state.groups() {
        figures.take(state.offset_count(id), || GroupProgress {
            group: id.clone(),
            members: group.member_count(),
            offsets: coordinator
                .offsets(id, None, None)
                .unwrap_or_default()
                .into_iter()
                .map(|found| (found.partition, found.committed.offset))
                .collect(),
        });
    }
    figures
}

/// Nobody asked for one group, so the sentence cannot be about one.
fn list_lacks(partition: PartitionIndex, error: &PartitionError) -> PartitionError {
    let why = match error.code {
        ErrorCode::CoordinatorLoadInProgress => "this broker is still reading",
        _ => "this broker has just ceased to coordinate",
    };
    let message = format!(
        "the groups of {}-{partition}, which {why}, cannot be listed: ask again in a moment",
        TopicName::CONSUMER_OFFSETS
    );
    PartitionError::new(error.code, message)
}

fn check_phase(shard: &ShardHandle) -> Result<(), PartitionError> {
    match shard.phase.get() {
        Phase::Serving => Ok(()),
        Phase::Loading => Err(still_loading()),
        Phase::Ended => Err(not_coordinator()),
    }
}

async fn replicated<T>(
    answer: oneshot::Receiver<Result<T, PartitionError>>,
    within: Duration,
) -> Result<T, PartitionError> {
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(not_coordinator()),
        Err(_) => {
            let message = format!(
                "not replicated within {} ms; it may or may not have happened: ask again",
                within.as_millis()
            );
            Err(PartitionError::new(ErrorCode::RequestTimedOut, message))
        }
    }
}

async fn read<T: Send + 'static>(
    shard: &ShardHandle,
    read: impl FnOnce(&Coordinator) -> T + Send + 'static,
) -> Result<T, PartitionError> {
    let (done, answer) = oneshot::channel();
    let read = Box::new(move |coordinator: &Coordinator| drop(done.send(read(coordinator))));
    shard
        .requests
        .send(Request::Read(read))
        .await
        .map_err(|_| not_coordinator())?;
    answer.await.map_err(|_| not_coordinator())
}

/// One member's stream. Whoever holds it ends it with [`Session::disconnected`] when the stream breaks.
pub struct Session {
    stream: StreamId,
    requests: mpsc::Sender<Request>,
    events: Option<mpsc::Receiver<Effect>>,
}

impl Session {
    /// What the coordinator tells the member. To be taken once; the last event is an `End`, unless the stream breaks.
    pub fn take_events(&mut self) -> Option<mpsc::Receiver<Effect>> {
        self.events.take()
    }

    /// The member lives. `false` once the coordinator is gone, here as below.
    pub async fn heartbeat(&self, epoch: MemberEpoch) -> bool {
        self.send(Command::Heartbeat {
            stream: self.stream,
            epoch,
        })
        .await
    }

    /// The member gave up what an assignment took away.
    pub async fn revoked(
        &self,
        version: AssignmentVersion,
        owned: impl IntoIterator<Item = TopicIdPartition>,
    ) -> bool {
        let owned = owned.into_iter().collect();
        self.send(Command::Revoked {
            stream: self.stream,
            version,
            owned,
        })
        .await
    }

    /// The member wants to read something else.
    pub async fn subscribe(&self, subscription: Subscription) -> bool {
        self.send(Command::Subscribe {
            stream: self.stream,
            subscription,
        })
        .await
    }

    /// The member leaves; a static one may keep its partitions.
    pub async fn leave(&self, keep_instance: bool) -> bool {
        self.send(Command::Leave {
            stream: self.stream,
            keep_instance,
        })
        .await
    }

    /// The stream broke.
    pub async fn disconnected(self) {
        self.send(Command::Disconnected { stream: self.stream }).await;
    }

    async fn send(&self, command: Command) -> bool {
        self.requests.send(Request::Stream(command)).await.is_ok()
    }
}
