//! What the rest of the broker asks of groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_coordinator::{Machine as _, Refusal};
use tidelog_group::{
    AssignmentVersion, Command, CommitFailure, Coordinator, Effect, GroupConfig, GroupDescription,
    GroupSummary, Join, MemberEpoch, MemberId, NamedOffset, OffsetToCommit, StreamId, Subscription, Topics,
};
use tidelog_types::{
    ErrorCode, GroupId, PartitionError, PartitionIndex, TopicIdPartition, TopicName, coordinator_partition,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audience::Request;
use super::kind::GroupKind;
use crate::coordinator::{Runtime, ShardHandle, StateLog};
use crate::metrics::{GroupFigures, GroupProgress};

/// Most events that wait for one member's stream.
const MAX_WAITING_EVENTS: usize = 64;

/// The groups that this broker coordinates. Cheap to clone.
pub struct Groups<L> {
    runtime: Runtime<GroupKind, L>,
    next_stream: Arc<AtomicU64>,
}

impl<L> Clone for Groups<L> {
    fn clone(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            next_stream: Arc::clone(&self.next_stream),
        }
    }
}

impl<L: StateLog> Groups<L> {
    /// Without any group yet. Must be called within a tokio runtime. `topics` must be at least as
    /// new as every leadership that [`Self::runtime`] is told of.
    pub fn new(
        log: Arc<L>,
        config: GroupConfig,
        topics: watch::Receiver<Arc<Topics>>,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            runtime: Runtime::new(GroupKind { config }, log, topics, tasks, cancel),
            next_stream: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The coordinators, to tell of this broker's leaderships.
    pub fn runtime(&self) -> &Runtime<GroupKind, L> {
        &self.runtime
    }

    /// Settings of every group.
    pub fn config(&self) -> &GroupConfig {
        &self.runtime.kind().config
    }

    /// The topics that groups are assigned.
    pub fn topics(&self) -> Arc<Topics> {
        self.runtime.view()
    }

    /// Opens a member's stream: joins, or resumes. Its events say how that went.
    pub async fn join(&self, join: Join) -> Result<MemberStream, PartitionError> {
        let shard = self.shard(&join.group)?;
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let request = Request::Join {
            stream,
            join: Box::new(join),
            events: sender,
        };
        shard.ask(request).await?;
        Ok(MemberStream {
            stream,
            shard,
            events: Some(events),
        })
    }

    /// Commits offsets; answers when they are replicated, with the partitions that were refused.
    /// Where that takes longer than `within`, REQUEST_TIMED_OUT says that it may or may not have
    /// happened.
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
        shard.ask(request).await?;
        replicated(answer, within).await
    }

    /// Deletes an empty group; answers when that is replicated, or after `within`, as a commit
    /// does.
    pub async fn delete(&self, group: GroupId, within: Duration) -> Result<(), PartitionError> {
        let shard = self.shard(&group)?;
        let (done, answer) = oneshot::channel();
        shard.ask(Request::Delete { group, done }).await?;
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

    /// At most `max` groups of this broker whose ids follow `after`, by id.
    /// COORDINATOR_LOAD_IN_PROGRESS while any shard loads: a list that silently lacks some would be
    /// taken for complete.
    pub async fn list(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupSummary>, PartitionError> {
        let mut groups = Vec::new();
        for (partition, shard) in self.runtime.shards() {
            let after = after.clone();
            let listed = async {
                shard.check()?;
                read(&shard, move |coordinator| coordinator.list(after.as_ref(), max)).await
            };
            groups.extend(listed.await.map_err(|error| list_lacks(partition, &error))?);
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        groups.truncate(max);
        Ok(groups)
    }

    /// How far the groups of this broker are. Of partitions that are not loaded yet nothing is
    /// told.
    pub async fn figures(&self) -> GroupFigures {
        let mut figures = GroupFigures::default();
        for shard in self.runtime.shards().into_values() {
            let rest = figures.rest();
            if shard.check().is_ok()
                && let Ok(more) = read(&shard, move |coordinator| progress(rest, coordinator)).await
            {
                figures.add(more);
            }
        }
        figures
    }

    fn shard(&self, group: &GroupId) -> Result<ShardHandle<GroupKind>, PartitionError> {
        self.runtime.shard(coordinator_partition(group))
    }
}

/// A coordinator's groups, taken into figures. It serves nobody meanwhile, so that it looks only at
/// what there is room for.
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

fn not_here() -> PartitionError {
    Coordinator::refusal(Refusal::NotHere)
}

async fn replicated<T>(
    answer: oneshot::Receiver<Result<T, PartitionError>>,
    within: Duration,
) -> Result<T, PartitionError> {
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(not_here()),
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
    shard: &ShardHandle<GroupKind>,
    read: impl FnOnce(&Coordinator) -> T + Send + 'static,
) -> Result<T, PartitionError> {
    let (done, answer) = oneshot::channel();
    let read = Box::new(move |coordinator: &Coordinator| drop(done.send(read(coordinator))));
    shard.ask(Request::Read(read)).await?;
    answer.await.map_err(|_| not_here())
}

/// One member's stream, to be ended with [`MemberStream::disconnected`] when it breaks.
pub struct MemberStream {
    stream: StreamId,
    shard: ShardHandle<GroupKind>,
    events: Option<mpsc::Receiver<Effect>>,
}

impl MemberStream {
    /// What the coordinator tells the member. To be taken once; the last event is an `End`, unless
    /// the stream breaks.
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
        self.shard.ask(Request::Stream(command)).await.is_ok()
    }
}
