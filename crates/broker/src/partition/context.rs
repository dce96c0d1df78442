//! What all partitions of a broker share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tidelog_log::{LogStore, StoreError};
use tidelog_replica::link::LinkWork;
use tidelog_replica::{IsrChangeOutcome, IsrProposal, Settings};
use tidelog_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionError, TopicIdPartition};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::fetch_budget::FetchBudget;
use super::partition::Partition;
use super::readers::Readers;

/// What a broker's owner gives to its partitions.
#[derive(Clone)]
pub struct Hooks {
    /// Puts an ISR change to the metadata log and says what became of it.
    pub propose_isr:
        Arc<dyn Fn(TopicIdPartition, IsrProposal) -> BoxFuture<'static, IsrChangeOutcome> + Send + Sync>,
    /// A partition's role here changed. Called under the partition's lock: it must be quick and not
    /// call back.
    pub role_changed: Arc<dyn Fn(RoleChange) + Send + Sync>,
    /// The store failed: the process must stop serving and end.
    pub fatal: Arc<dyn Fn(&StoreError) + Send + Sync>,
    /// Whether this broker's session still lasts by its own clock: a process that was paused must
    /// not answer before it looked. As cheap as an atomic.
    pub serves: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The disk's room. Asked for every append.
    pub disk: Arc<dyn DiskRoom>,
}

/// The room on this broker's disk, as whoever appends asks for it. As cheap as an atomic.
pub trait DiskRoom: Send + Sync + 'static {
    /// Whether so many bytes may be written for that purpose.
    fn admits(&self, purpose: DiskUse, bytes: usize) -> bool;
    /// So many bytes will be written: until the disk is looked at again, there is less room by
    /// them.
    fn taken(&self, bytes: usize);
}

/// What disk space is wanted for. Each has a mark of its own, in this order, so that what was let
/// in by an earlier one still fits when it comes to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskUse {
    /// Clients' records: refused first.
    Produce,
    /// What groups write, members and offsets: reading goes on while producing does not.
    Groups,
    /// What other leaders have accepted, copied by a follower: last, since disks of one size then
    /// hold what their leaders took.
    Replication,
}

/// A partition's role here changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleChange {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// What it is now.
    pub role: Role,
}

/// What a partition replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader {
        /// The leader epoch.
        epoch: LeaderEpoch,
        /// Where its log ended when it began to lead: whoever replays the partition reads to there,
        /// and waits for the high watermark to be there.
        start_offset: Offset,
    },
    /// It follows.
    Follower {
        /// Whom.
        leader: BrokerId,
        /// The leader epoch.
        epoch: LeaderEpoch,
    },
    /// Neither.
    Offline,
    /// It is gone, its topic deleted.
    Deleted,
}

/// Named maxima.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Produced bytes that are not written yet, over all partitions; producers wait beyond it.
    pub unwritten_produce_bytes: u32,
    /// Fetched bytes that followers have enqueued and not written; they fetch no more beyond it.
    pub unwritten_fetched_bytes: usize,
    /// Bytes of batches in consumers' answers that were read and not handed to the transport yet.
    pub fetch_answer_bytes: u32,
    /// Reads of the disk at a time.
    pub concurrent_disk_reads: usize,
    /// How often high watermarks that moved are noted on disk.
    pub checkpoint_interval: Duration,
    /// How often followers that lag are looked after.
    pub tick_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unwritten_produce_bytes: 64 * 1024 * 1024,
            unwritten_fetched_bytes: 64 * 1024 * 1024,
            fetch_answer_bytes: 256 * 1024 * 1024,
            concurrent_disk_reads: 4,
            checkpoint_interval: Duration::from_secs(5),
            tick_interval: Duration::from_millis(500),
        }
    }
}

/// The streams to other brokers: what followers' partitions have to tell their leaders.
pub trait FollowerLinks: Send + Sync + 'static {
    /// A partition follows that leader and has something for it. Called under the partition's lock:
    /// it only enqueues. The partition is asked for what to say when the stream has room, so that
    /// what piles up meanwhile is said once.
    fn queue(&self, leader: BrokerId, partition: TopicIdPartition, work: LinkWork);
}

pub(crate) struct Context {
    pub(crate) local: BrokerId,
    pub(crate) store: Arc<dyn LogStore>,
    pub(crate) hooks: Hooks,
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) readers: Readers,
    pub(crate) links: OnceLock<Arc<dyn FollowerLinks>>,
    /// Produced bytes that may still be taken.
    pub(crate) budget: Arc<Semaphore>,
    /// Bytes of consumers' answers that may still be read.
    pub(crate) fetch_budget: FetchBudget,
    /// Partitions whose high watermark moved since it was noted on disk.
    pub(crate) to_checkpoint: Mutex<Vec<Arc<Partition>>>,
    /// Partitions that time must look after.
    pub(crate) ticking: Mutex<Vec<Arc<Partition>>>,
    /// Whether a follower has stopped fetching because the disk has no room for more.
    pub(crate) fetching_paused: AtomicBool,
    /// When each broker last gave a sign of life on its replication stream.
    pub(crate) heard: RwLock<HashMap<BrokerId, Duration>>,
    /// No acknowledgement and no read goes out while this is set (R3).
    pub(crate) fenced: AtomicBool,
    pub(crate) started: Instant,
}

impl Context {
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire) || !(self.hooks.serves)()
    }

    pub(crate) fn check_serving(&self) -> Result<(), PartitionError> {
        if self.is_fenced() {
            let message =
                "this broker is cut off from the cluster and serves nothing until it is registered anew";
            return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, message));
        }
        Ok(())
    }
}
