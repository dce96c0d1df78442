//! What this broker holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tidelog_cluster::plan::{Applied, Standing};
use tidelog_log::{LogStore, PartitionLog, Progress, StoreError, StoreListener};
use tidelog_replica::{LogState, PartitionStatus, Replica, Settings};
use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, LocalPartition, PartitionError, TopicIdPartition};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::context::{Context, FollowerLinks, Hooks, Limits};
use super::fetch::{self, FetchSpec, Fetched, PartitionFetch};
use super::fetch_budget::FetchBudget;
use super::partition::Partition;
use super::produce::{AppendPermit, Produce, ProduceCompletion, Produced};
use super::readers::Readers;

/// The partition replicas of a broker. See the module's page for how they work.
pub struct ReplicaManager {
    pub(crate) context: Arc<Context>,
    events: Arc<StoreEvents>,
    by_id: RwLock<HashMap<TopicIdPartition, Arc<Partition>>>,
    pub(crate) applied: Mutex<Applied>,
    registered: watch::Sender<Option<BrokerEpoch>>,
    /// Whether the broker serves; the context's `fenced` follows it under this lock.
    standing: Mutex<Standing>,
}

/// Told once that the store failed.
type OnFailure = Arc<dyn Fn(&StoreError) + Send + Sync>;

/// What the store reports to. Made before the store, which is made before the [`ReplicaManager`].
#[derive(Default)]
pub struct StoreEvents {
    by_local: RwLock<HashMap<LocalPartition, Arc<Partition>>>,
    fatal: OnceLock<OnFailure>,
    failed: OnceLock<StoreError>,
}

impl StoreEvents {
    /// Nobody is told of anything yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn each(&self, progress: &[Progress], report: impl Fn(&Arc<Partition>, &Progress)) {
        for step in progress {
            let partition = self.by_local.read().get(&step.partition).cloned();
            if let Some(partition) = partition {
                report(&partition, step);
            }
        }
    }
}

impl StoreListener for StoreEvents {
    fn written(&self, progress: &[Progress]) {
        self.each(progress, |partition, step| partition.written(step.end));
    }

    fn durable(&self, progress: &[Progress]) {
        self.each(progress, |partition, step| partition.durable(step.end));
    }

    fn failed(&self, error: &StoreError) {
        tracing::error!(%error, "the store failed");
        if self.failed.set(error.clone()).is_ok()
            && let Some(fatal) = self.fatal.get()
        {
            fatal(error);
        }
    }
}

impl ReplicaManager {
    /// Takes over what the store holds: every replica is offline until cluster metadata is applied.
    /// Reads every partition's state: not for a tokio thread.
    ///
    /// `events` is the listener that the store was opened with. Must be called within a tokio
    /// runtime's context.
    pub fn new(
        local: BrokerId,
        store: Arc<dyn LogStore>,
        events: Arc<StoreEvents>,
        hooks: Hooks,
        limits: Limits,
        settings: Settings,
    ) -> Result<Arc<Self>, StoreError> {
        if events.fatal.set(Arc::clone(&hooks.fatal)).is_err() {
            return Err(StoreError::Failed(
                "the store's reports are taken by another broker".to_owned(),
            ));
        }
        if let Some(error) = events.failed.get() {
            return Err(error.clone());
        }
        let context = Arc::new(Context {
            local,
            store,
            hooks,
            limits,
            settings,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            readers: Readers::new(limits.concurrent_disk_reads),
            links: OnceLock::new(),
            budget: Arc::new(Semaphore::new(limits.unwritten_produce_bytes as usize)),
            fetch_budget: FetchBudget::new(limits.fetch_answer_bytes),
            to_checkpoint: Mutex::default(),
            ticking: Mutex::default(),
            fetching_paused: AtomicBool::new(false),
            heard: RwLock::default(),
            fenced: AtomicBool::new(true),
            started: Instant::now(),
        });
        let (registered, _) = watch::channel(None);
        let manager = Self {
            context,
            events,
            by_id: RwLock::default(),
            applied: Mutex::default(),
            registered,
            standing: Mutex::default(),
        };
        manager.recover()?;
        Ok(Arc::new(manager))
    }

    /// Tells where partitions that follow have their streams to leaders. Once, before the first
    /// image.
    pub fn connect(&self, links: Arc<dyn FollowerLinks>) {
        if self.context.links.set(links).is_err() {
            tracing::error!("the replicas have their links already");
        }
    }

    /// The broker was registered, under this epoch: images from there on give it leaderships (R3).
    /// It serves once such an image is applied; what it led under an earlier registration ends now.
    pub fn registered(&self, epoch: BrokerEpoch) {
        if self.stand(|standing| standing.registered(epoch)) {
            self.each(|partition| partition.fence());
            self.registered.send_replace(Some(epoch));
        }
    }

    /// The broker has lost touch with the cluster: from now on it acknowledges nothing and serves
    /// no reads, until it is registered anew (R3). What waits is answered as being of unknown fate.
    pub fn fence(&self) {
        self.stand(Standing::fence);
        self.each(|partition| partition.fence());
    }

    /// An image of this registration is applied.
    pub(crate) fn serve(&self, epoch: BrokerEpoch) {
        self.stand(|standing| standing.applied(epoch));
    }

    fn stand<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let mut standing = self.standing.lock();
        let changed = change(&mut standing);
        self.context.fenced.store(!standing.serves(), Ordering::Release);
        changed
    }

    /// Whether it is fenced.
    pub fn is_fenced(&self) -> bool {
        self.context.is_fenced()
    }

    /// This broker's id.
    pub fn local(&self) -> BrokerId {
        self.context.local
    }

    /// The epoch of this broker's registration, once it has one.
    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        *self.registered.borrow()
    }

    /// The same, to wait for changes.
    pub fn watch_broker_epoch(&self) -> watch::Receiver<Option<BrokerEpoch>> {
        self.registered.subscribe()
    }

    /// A partition, if this broker has a replica of it.
    pub fn partition(&self, id: TopicIdPartition) -> Option<Arc<Partition>> {
        self.by_id.read().get(&id).cloned()
    }

    /// All partitions, in no order.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.by_id.read().values().cloned().collect()
    }

    /// What an operator sees of a partition.
    pub fn status(&self, id: TopicIdPartition) -> Option<PartitionStatus> {
        self.partition(id).map(|partition| partition.status())
    }

    /// Waits for room for a batch of so many bytes: the back-pressure on producers. More than there
    /// is room for in all is given all the room.
    pub async fn reserve(&self, bytes: usize) -> AppendPermit {
        let most = self.context.limits.unwritten_produce_bytes;
        let bytes = u32::try_from(bytes).unwrap_or(most).min(most);
        let permit = Arc::clone(&self.context.budget).acquire_many_owned(bytes).await;
        AppendPermit(permit.expect("the budget is never closed"))
    }

    /// Appends a batch; see [`Partition::append`].
    pub fn append(
        &self,
        id: TopicIdPartition,
        produce: Produce,
    ) -> Result<ProduceCompletion, PartitionError> {
        self.target(id)?.append(produce)
    }

    /// Appends a batch and waits for the acknowledgement.
    pub async fn produce(
        &self,
        id: TopicIdPartition,
        produce: Produce,
        timeout: Duration,
    ) -> Result<Produced, PartitionError> {
        self.append(id, produce)?.wait(timeout).await
    }

    /// Reads, waiting for enough; answers stand in the order of the request. Cancel-safe.
    pub async fn fetch(&self, spec: FetchSpec<TopicIdPartition>) -> Fetched {
        let target = |fetch: PartitionFetch<TopicIdPartition>| PartitionFetch {
            partition: self.target(fetch.partition),
            leader_epoch: fetch.leader_epoch,
            fetch_offset: fetch.fetch_offset,
            max_bytes: fetch.max_bytes,
        };
        let spec = FetchSpec {
            partitions: spec.partitions.into_iter().map(target).collect(),
            max_wait: spec.max_wait,
            min_bytes: spec.min_bytes,
            max_bytes: spec.max_bytes,
        };
        fetch::fetch(spec, &self.context.fetch_budget).await
    }

    /// Runs what takes long on a thread where that holds nobody up, a few at a time, together with
    /// the reads of the disk.
    pub async fn off_workers<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let done = self.context.readers.run(move || Ok(work())).await;
        done.map_err(|error| PartitionError::new(ErrorCode::UnknownServerError, error.to_string()))
    }

    /// A partition to serve from, or the refusal that a client gets.
    pub fn target(&self, id: TopicIdPartition) -> Result<Arc<Partition>, PartitionError> {
        self.partition(id).ok_or_else(|| {
            let message = "this broker has no replica of the partition; refresh metadata";
            PartitionError::new(ErrorCode::NotLeaderOrFollower, message)
        })
    }

    /// A broker gave a sign of life on its replication stream.
    pub fn heard_from(&self, broker: BrokerId) {
        self.context.heard.write().insert(broker, self.context.now());
    }

    /// Lets go of every partition, and with them of the store, which partitions and their lists
    /// hold in a circle. Nothing is served or reported afterwards.
    pub fn release(&self) {
        self.by_id.write().clear();
        self.events.by_local.write().clear();
        self.context.to_checkpoint.lock().clear();
        self.context.ticking.lock().clear();
    }

    /// Waits until no task of the replicas is left, for an orderly stop.
    pub async fn drained(&self) {
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }

    pub(crate) fn each(&self, visit: impl Fn(&Arc<Partition>)) {
        for partition in self.partitions() {
            visit(&partition);
        }
    }

    pub(crate) fn insert(&self, partition: Arc<Partition>) {
        self.events
            .by_local
            .write()
            .insert(partition.local, Arc::clone(&partition));
        self.by_id.write().insert(partition.id, partition);
    }

    pub(crate) fn remove(&self, partition: &Partition) {
        self.by_id.write().remove(&partition.id);
        self.events.by_local.write().remove(&partition.local);
    }

    fn recover(&self) -> Result<(), StoreError> {
        let context = &self.context;
        for stored in context.store.partitions()? {
            let log = log_state(context.store.load(stored.local)?);
            let replica = Replica::new(context.local, log, context.settings, context.now());
            self.insert(Partition::new(
                stored.partition,
                stored.local,
                replica,
                Arc::clone(context),
            ));
        }
        Ok(())
    }
}

pub(crate) fn log_state(log: PartitionLog) -> LogState {
    LogState {
        log_start: log.log_start,
        log_end: log.log_end,
        high_watermark: log.high_watermark,
        epochs: log.epochs,
        producers: log.producers,
    }
}
