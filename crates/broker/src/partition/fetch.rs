//! Consumers' reads: long polls that cost nothing while they wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::{ReadBatches, StoreError};
use tidelog_replica::ConsumerRead;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError};
use tokio::sync::Notify;

use super::fetch_budget::{FetchBudget, FetchPermit};
use super::partition::Partition;

/// What a consumer wishes to read.
#[derive(Debug, Clone)]
pub struct FetchSpec<P> {
    /// From where, in the order in which `max_bytes` is spent.
    pub partitions: Vec<PartitionFetch<P>>,
    /// How long to wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer as soon as there is so much, or as no more fits.
    pub min_bytes: usize,
    /// Answer no more than so much, but always a batch if there is one.
    pub max_bytes: usize,
}

/// One partition of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct PartitionFetch<P> {
    /// Which: a [`tidelog_types::TopicIdPartition`] in a request.
    pub partition: P,
    /// The newest leader epoch the consumer has seen; `None` skips the check.
    pub leader_epoch: Option<LeaderEpoch>,
    /// From where.
    pub fetch_offset: Offset,
    /// At most so much of this partition.
    pub max_bytes: usize,
}

/// What was read of a partition.
#[derive(Debug, Clone)]
pub struct PartitionFetched {
    /// Whole batches; the first may begin before the fetch offset.
    pub batches: Vec<Bytes>,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// The answering leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where to fetch next.
    pub next_offset: Offset,
}

impl PartitionFetched {
    /// Bytes of the batches.
    pub fn size_bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// The same, without batches if there is no room for them: a read gives one batch whatever its
    /// size, and only the first partition of an answer may exceed what was asked for. So an answer
    /// is never larger than the larger of the two.
    fn within(mut self, room: usize, from: Offset) -> Self {
        if self.size_bytes() > room {
            self.batches.clear();
            self.next_offset = from;
        }
        self
    }
}

/// What became of one partition of a fetch.
pub type Answer = Result<PartitionFetched, PartitionError>;
/// A partition that this broker holds, or why there is none.
type Target = Result<Arc<Partition>, PartitionError>;

/// What a fetch found.
#[derive(Debug, Default)]
pub struct Fetched {
    /// In the order of the request.
    pub answers: Vec<Answer>,
    /// To be held for as long as the batches are.
    pub permit: FetchPermit,
}

/// Reads, waiting for enough. Answers stand in the order of the request.
pub(crate) async fn fetch(spec: FetchSpec<Target>, budget: &FetchBudget) -> Fetched {
    let deadline = tokio::time::Instant::now() + spec.max_wait;
    if let Some(fetched) = read_all(&spec, budget, false).await {
        return fetched;
    }
    let waiting = Waiting::register(&spec);
    loop {
        // Registered first, then read: what comes between is not missed.
        if let Some(fetched) = read_all(&spec, budget, false).await {
            return fetched;
        }
        if tokio::time::timeout_at(deadline, waiting.woken.notified())
            .await
            .is_err()
        {
            return read_all(&spec, budget, true).await.unwrap_or_default();
        }
    }
}

/// What there is, if it is enough or `anyway`.
async fn read_all(spec: &FetchSpec<Target>, budget: &FetchBudget, anyway: bool) -> Option<Fetched> {
    let bounds: Vec<_> = spec.partitions.iter().map(bounds).collect();
    let refused = bounds.iter().any(Result::is_err);
    let readable = bounds.iter().flatten().any(|read| read.until > read.from);
    if !anyway && !refused && !readable && spec.min_bytes > 0 && !spec.max_wait.is_zero() {
        return None;
    }
    let mut answers = Vec::with_capacity(bounds.len());
    let mut total = 0;
    let mut permit = if readable {
        budget.reserve(wanted(spec, &bounds)).await
    } else {
        FetchPermit::none()
    };
    let max_bytes = permit.granted_bytes.min(spec.max_bytes);
    let mut most = Most::default();
    for (fetch, bounds) in spec.partitions.iter().zip(bounds) {
        let room = if total == 0 {
            max_bytes.max(1)
        } else {
            max_bytes.saturating_sub(total)
        };
        let answer = match (bounds, &fetch.partition) {
            (Ok(read), Ok(partition)) => partition.read(read, fetch.max_bytes.min(room)).await,
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(error.clone()),
        };
        let answer = answer.map(|fetched| {
            if total == 0 {
                fetched
            } else {
                fetched.within(room, fetch.fetch_offset)
            }
        });
        if let Ok(fetched) = &answer {
            total += fetched.size_bytes();
            most.add(fetched, fetch.max_bytes, room);
        }
        answers.push(answer);
    }
    let enough = total >= spec.min_bytes.min(most.bytes)
        || total >= max_bytes
        || most.is_full
        || spec.max_wait.is_zero();
    permit.shrink_to(total);
    (anyway || refused || enough).then_some(Fetched { answers, permit })
}

/// The most that an answer may become by waiting on: what no partition has room for is not waited
/// for.
#[derive(Default)]
struct Most {
    /// Bytes of all partitions, each up to where the next batch no longer fits, or else up to its
    /// limit.
    bytes: usize,
    /// Whether the next batch of some partition does not fit into the answer as a whole.
    is_full: bool,
}

impl Most {
    fn add(&mut self, fetched: &PartitionFetched, max_bytes: usize, room: usize) {
        let size_bytes = fetched.size_bytes();
        let is_cut = fetched.next_offset < fetched.high_watermark;
        self.is_full |= is_cut && room <= max_bytes;
        let most = if is_cut {
            size_bytes
        } else {
            max_bytes.max(size_bytes)
        };
        self.bytes = self.bytes.saturating_add(most);
    }
}

/// Most that a fetch may read of what there is, bytes.
fn wanted(spec: &FetchSpec<Target>, bounds: &[Result<ConsumerRead, PartitionError>]) -> usize {
    let readable = spec.partitions.iter().zip(bounds);
    let readable = readable.filter(|(_, bounds)| bounds.as_ref().is_ok_and(|read| read.until > read.from));
    let sum = readable.fold(0_usize, |sum, (fetch, _)| sum.saturating_add(fetch.max_bytes));
    sum.min(spec.max_bytes)
}

fn bounds(fetch: &PartitionFetch<Target>) -> Result<ConsumerRead, PartitionError> {
    let partition = fetch.partition.as_ref().map_err(Clone::clone)?;
    let state = partition.state.lock();
    partition.check(&state)?;
    state
        .replica
        .consumer_read(fetch.leader_epoch, fetch.fetch_offset)
}

impl Partition {
    async fn read(self: &Arc<Self>, read: ConsumerRead, max_bytes: usize) -> Answer {
        let found = if max_bytes == 0 || read.until <= read.from {
            ReadBatches {
                batches: Vec::new(),
                next: read.from,
            }
        } else {
            self.read_batches(read.from, read.until, max_bytes)
                .await
                .map_err(|error| self.unreadable(&error))?
        };
        // A deposed or fenced leader that noticed only while it read does not serve the past as the
        // present.
        {
            let state = self.state.lock();
            self.check(&state)?;
            state.replica.consumer_read(Some(read.leader_epoch), read.from)?;
        }
        Ok(PartitionFetched {
            batches: found.batches,
            high_watermark: read.until,
            log_start: read.log_start,
            leader_epoch: read.leader_epoch,
            next_offset: found.next.max(read.from),
        })
    }

    /// Batches from memory at once, or from the disk on another thread.
    pub(crate) async fn read_batches(
        &self,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, StoreError> {
        let store = &self.context.store;
        if let Some(found) = store.read_cached(self.local, from, until, max_bytes) {
            return Ok(found);
        }
        let (store, local) = (Arc::clone(store), self.local);
        self.context
            .readers
            .run(move || store.read(local, from, until, max_bytes))
            .await
    }

    pub(crate) fn unreadable(&self, error: &StoreError) -> PartitionError {
        tracing::error!(partition = %self.id, %error, "read failed");
        let code = match error {
            StoreError::Corrupt { .. } => ErrorCode::CorruptMessage,
            StoreError::Failed(_) | StoreError::UnknownPartition(_) | StoreError::AlreadyExists { .. } => {
                ErrorCode::StorageError
            }
        };
        PartitionError::new(code, error.to_string())
    }
}

/// A fetch's place among those who wait, given up on drop.
struct Waiting<'a> {
    spec: &'a FetchSpec<Target>,
    woken: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn register(spec: &'a FetchSpec<Target>) -> Self {
        let woken = Arc::new(Notify::new());
        for partition in spec
            .partitions
            .iter()
            .filter_map(|fetch| fetch.partition.as_ref().ok())
        {
            partition.state.lock().consumers.push(Arc::clone(&woken));
        }
        Self { spec, woken }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for partition in self
            .spec
            .partitions
            .iter()
            .filter_map(|fetch| fetch.partition.as_ref().ok())
        {
            partition
                .state
                .lock()
                .consumers
                .retain(|waiting| !Arc::ptr_eq(waiting, &self.woken));
        }
    }
}
