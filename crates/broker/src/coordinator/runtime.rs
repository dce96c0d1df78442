//! The shards of the partitions that are led here, as others hold them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidelog_cluster::image::ClusterImage;
use tidelog_coordinator::{Leadership, Machine, Refusal};
use tidelog_types::{LeaderEpoch, Offset, PartitionError, PartitionIndex};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kind::{Audience, Kind};
use super::log::StateLog;
use super::shard::{Phase, Shard, SharedPhase};
use crate::partition::{Role, RoleChange};

/// Most requests that wait for one shard.
const MAX_WAITING_REQUESTS: usize = 1024;

type Request<K> = <<K as Kind>::Audience as Audience<<K as Kind>::Machine>>::Request;

/// The coordinators of one kind on this broker. Cheap to clone.
pub struct Runtime<K: Kind, L> {
    inner: Arc<Inner<K, L>>,
}

impl<K: Kind, L> Clone for Runtime<K, L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<K: Kind, L> {
    kind: Arc<K>,
    log: Arc<L>,
    view: watch::Receiver<Arc<K::View>>,
    shards: RwLock<BTreeMap<PartitionIndex, ShardHandle<K>>>,
    runtime: Handle,
    tasks: TaskTracker,
    /// The broker stops: every shard ends.
    cancel: CancellationToken,
}

/// One shard, to ask. Cheap to clone.
pub struct ShardHandle<K: Kind> {
    epoch: LeaderEpoch,
    phase: Arc<SharedPhase>,
    requests: mpsc::Sender<Request<K>>,
    /// This leadership is over.
    cancel: CancellationToken,
}

impl<K: Kind> Clone for ShardHandle<K> {
    fn clone(&self) -> Self {
        Self {
            epoch: self.epoch,
            phase: Arc::clone(&self.phase),
            requests: self.requests.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

impl<K: Kind, L: StateLog> Runtime<K, L> {
    /// Without any shard yet. Must be called within a tokio runtime. The view must be at least as
    /// new as every leadership that [`Self::lead`] is told of.
    pub fn new(
        kind: K,
        log: Arc<L>,
        view: watch::Receiver<Arc<K::View>>,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let inner = Inner {
            kind: Arc::new(kind),
            log,
            view,
            shards: RwLock::default(),
            runtime: Handle::current(),
            tasks,
            cancel,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What the coordinators are of.
    pub fn kind(&self) -> &K {
        &self.inner.kind
    }

    /// The view that the machines follow.
    pub fn view(&self) -> Arc<K::View> {
        Arc::clone(&self.inner.view.borrow())
    }

    /// Starts and ends shards as this broker's replicas of the state topic change their roles.
    /// Quick, never blocks.
    pub fn follow_role(&self, image: &ClusterImage, change: RoleChange) {
        let state_topic = image.topic_by_name(&K::state_topic());
        if state_topic.is_none_or(|topic| topic.id != change.partition.topic_id) {
            return;
        }
        let partition = change.partition.partition;
        match change.role {
            Role::Leader { epoch, start_offset } => self.lead(partition, epoch, start_offset),
            Role::Follower { .. } | Role::Offline | Role::Deleted => self.resign(partition),
        }
    }

    /// This broker leads a partition of the state topic since its log ended at `start_offset`.
    /// Quick, never blocks; an older epoch than the one known is ignored.
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
        let shard = Shard::<K, L> {
            kind: Arc::clone(&self.inner.kind),
            log: Arc::clone(&self.inner.log),
            partition,
            epoch,
            leadership: Leadership::new(start_offset),
            requests,
            view: self.inner.view.clone(),
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

    /// The shard of a partition, once it serves.
    pub fn shard(&self, partition: PartitionIndex) -> Result<ShardHandle<K>, PartitionError> {
        let shard = self.inner.shards.read().get(&partition).cloned();
        let shard = shard.ok_or_else(|| K::Machine::refusal(Refusal::NotHere))?;
        shard.check()?;
        Ok(shard)
    }

    /// Every shard, by partition; some may be loading.
    pub fn shards(&self) -> BTreeMap<PartitionIndex, ShardHandle<K>> {
        self.inner.shards.read().clone()
    }
}

impl<K: Kind> ShardHandle<K> {
    /// Whether it serves; else why not.
    pub fn check(&self) -> Result<(), PartitionError> {
        match self.phase.get() {
            Phase::Serving => Ok(()),
            Phase::Loading => Err(K::Machine::refusal(Refusal::Loading)),
            Phase::Ended => Err(K::Machine::refusal(Refusal::NotHere)),
        }
    }

    /// Queues a request, waiting for room. An error means that the shard has ended and the request
    /// is dropped.
    pub async fn ask(&self, request: Request<K>) -> Result<(), PartitionError> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| K::Machine::refusal(Refusal::NotHere))
    }
}
