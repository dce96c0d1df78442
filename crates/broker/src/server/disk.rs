//! Free disk space, looked at now and then, asked for at every append.
//!
//! *Room* is what is free, less what the store will yet take for what it accepted
//! ([`Space::owed_bytes`]), less what was let in since the last look: a fast producer cannot run
//! through the reserve between two looks. Three marks lie in it:
//!
//! ```text
//!   room  ──────────────────▶ falls
//!        everything   │ no clients' records │ no groups' records  │ followers stop fetching
//!                  reserve              reserve / 2           reserve / 4                 0
//! ```
//!
//! What is left below the last is for metadata, checkpoints, deletions and compactions, which never
//! ask: they are small, or free space.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_storage::Space;
use tokio_util::sync::CancellationToken;

use crate::partition::{DiskRoom, DiskUse};

/// How often the filesystem is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The reserve where none is configured: this part of the disk, or the bytes below, the smaller.
const RESERVE_PART: u64 = 20;
const MAX_DEFAULT_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// Every byte is written to the WAL and then to a key or blob file, before the WAL goes.
const WRITES_PER_BYTE: u64 = 2;

/// Asks the data directory's filesystem; may block.
type Probe = Arc<dyn Fn() -> io::Result<Space> + Send + Sync>;

/// Watches the data directory's filesystem.
pub(super) struct DiskWatch {
    probe: Probe,
    handle: DiskHandle,
}

/// What the watch found last. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub(super) struct DiskHandle {
    figures: Arc<Figures>,
    reserve_bytes: u64,
}

/// Each in bytes.
#[derive(Debug, Default)]
struct Figures {
    free: AtomicU64,
    total: AtomicU64,
    /// What `taken` may come to before there is no room. One number, so that whoever asks needs no
    /// two that fit each other.
    ceiling: AtomicU64,
    /// Everything that appends ever took.
    taken: AtomicU64,
}

impl DiskHandle {
    /// Free space, bytes.
    pub(super) fn free_bytes(&self) -> u64 {
        self.figures.free.load(Ordering::Relaxed)
    }

    /// How large the filesystem is, bytes.
    pub(super) fn total_bytes(&self) -> u64 {
        self.figures.total.load(Ordering::Relaxed)
    }

    /// Room below which produces are refused, bytes.
    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    fn room_bytes(&self) -> u64 {
        let ceiling = self.figures.ceiling.load(Ordering::Relaxed);
        ceiling.saturating_sub(self.figures.taken.load(Ordering::Relaxed))
    }

    fn mark_bytes(&self, purpose: DiskUse) -> u64 {
        match purpose {
            DiskUse::Produce => self.reserve_bytes,
            DiskUse::Groups => self.reserve_bytes / 2,
            DiskUse::Replication => self.reserve_bytes / 4,
        }
    }

    /// Takes over a reading of the disk; `taken_bytes` is from before it was asked, so that what
    /// came meanwhile counts twice rather than not at all.
    fn note(&self, space: Space, taken_bytes: u64) {
        let room = space.free_bytes.saturating_sub(space.owed_bytes);
        self.figures.free.store(space.free_bytes, Ordering::Relaxed);
        self.figures.total.store(space.total_bytes, Ordering::Relaxed);
        let ceiling = taken_bytes.saturating_add(room);
        self.figures.ceiling.store(ceiling, Ordering::Relaxed);
    }

    fn taken_so_far(&self) -> u64 {
        self.figures.taken.load(Ordering::Relaxed)
    }
}

impl DiskRoom for DiskHandle {
    fn admits(&self, purpose: DiskUse, bytes: usize) -> bool {
        let left = self.room_bytes().saturating_sub(WRITES_PER_BYTE * bytes as u64);
        left > self.mark_bytes(purpose)
    }

    fn taken(&self, bytes: usize) {
        self.figures
            .taken
            .fetch_add(WRITES_PER_BYTE * bytes as u64, Ordering::Relaxed);
    }
}

impl DiskWatch {
    /// With a first look. A filesystem that does not answer counts as empty, until it does.
    pub(super) async fn new(
        probe: impl Fn() -> io::Result<Space> + Send + Sync + 'static,
        reserve_bytes: Option<u64>,
    ) -> Self {
        let probe: Probe = Arc::new(probe);
        let space = ask(&probe).await.unwrap_or(Space {
            free_bytes: u64::MAX,
            owed_bytes: 0,
            total_bytes: u64::MAX,
        });
        // Of the whole disk and not of what is free: that would become less with every start on a
        // full one.
        let default = (space.total_bytes / RESERVE_PART).min(MAX_DEFAULT_RESERVE_BYTES);
        let handle = DiskHandle {
            figures: Arc::default(),
            reserve_bytes: reserve_bytes.unwrap_or(default),
        };
        handle.note(space, 0);
        Self { probe, handle }
    }

    pub(super) fn handle(&self) -> DiskHandle {
        self.handle.clone()
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut told = Admitted::by(&self.handle);
        if told != Admitted::ALL {
            told.tell(&self.handle);
        }
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            // What was refused between two looks is told, too.
            let before = self.handle.taken_so_far();
            match stop.run_until_cancelled(ask(&self.probe)).await {
                Some(Some(space)) => self.handle.note(space, before),
                Some(None) => {}
                None => return,
            }
            let now = Admitted::by(&self.handle);
            if now != told {
                now.tell(&self.handle);
                told = now;
            }
        }
    }
}

/// What the disk has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Admitted {
    produces: bool,
    groups: bool,
    replication: bool,
}

impl Admitted {
    const ALL: Self = Self {
        produces: true,
        groups: true,
        replication: true,
    };

    fn by(handle: &DiskHandle) -> Self {
        Self {
            produces: handle.admits(DiskUse::Produce, 0),
            groups: handle.admits(DiskUse::Groups, 0),
            replication: handle.admits(DiskUse::Replication, 0),
        }
    }

    fn tell(self, handle: &DiskHandle) {
        let (room_bytes, reserve_bytes) = (handle.room_bytes(), handle.reserve_bytes);
        let what = match self {
            Self { produces: true, .. } => "the disk has room: produces are taken again",
            Self { groups: true, .. } => "the disk is filled up to its reserve: produces are refused",
            Self {
                replication: true, ..
            } => "the disk is filled up to half of its reserve: groups' commits and joins are refused too",
            _ => "the disk is filled up to a quarter of its reserve: replicas here stop fetching",
        };
        tracing::warn!(room_bytes, reserve_bytes, "{what}");
    }
}

/// Asks on a thread that may block; `None`, and a word in the log, if there is no answer.
async fn ask(probe: &Probe) -> Option<Space> {
    let probe = Arc::clone(probe);
    let asked = tokio::task::spawn_blocking(move || probe()).await;
    asked
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .inspect_err(|error| tracing::warn!(%error, "the disk does not say how much of it is free"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const GIB: u64 = 1024 * MIB;

    async fn handle(free_bytes: u64, total_bytes: u64, reserve_bytes: Option<u64>) -> DiskHandle {
        let space = Space {
            free_bytes,
            owed_bytes: 0,
            total_bytes,
        };
        DiskWatch::new(move || Ok(space), reserve_bytes).await.handle()
    }

    fn produces(handle: &DiskHandle) -> bool {
        handle.admits(DiskUse::Produce, 0)
    }

    #[tokio::test]
    async fn the_default_reserve_is_a_part_of_the_whole_disk_however_full_it_is() {
        // 5 % of 10 GiB are 512 MiB: a start with less than that free takes no produces.
        assert!(produces(&handle(GIB, 10 * GIB, None).await));
        assert!(!produces(&handle(GIB / 4, 10 * GIB, None).await));
        // 5 % of 1 TiB would be 51 GiB; 1 GiB is the most.
        assert!(produces(&handle(2 * GIB, 1024 * GIB, None).await));
        assert!(!produces(&handle(GIB, 1024 * GIB, None).await));
    }

    #[tokio::test]
    async fn a_configured_reserve_stands_and_new_readings_count() {
        let handle = handle(GIB, 10 * GIB, Some(2 * GIB)).await;
        assert!(!produces(&handle));
        let mut space = Space {
            free_bytes: 3 * GIB,
            owed_bytes: 0,
            total_bytes: 10 * GIB,
        };
        handle.note(space, 0);
        assert!(produces(&handle));
        // What is accepted and not yet in its place will take the room.
        space.owed_bytes = GIB;
        handle.note(space, 0);
        assert!(!produces(&handle));
        assert_eq!(handle.free_bytes(), 3 * GIB, "what is shown is what is free");
    }

    #[tokio::test]
    async fn what_is_taken_between_two_looks_counts_twice_and_until_the_next() {
        let handle = handle(30 * MIB, GIB, Some(20 * MIB)).await;
        assert!(handle.admits(DiskUse::Produce, 4 * MIB as usize));
        assert!(
            !handle.admits(DiskUse::Produce, 5 * MIB as usize),
            "it would reach the reserve"
        );
        handle.taken(5 * MIB as usize);
        assert!(!produces(&handle));
        let before = handle.taken_so_far();
        handle.taken(MIB as usize);
        let space = Space {
            free_bytes: 25 * MIB,
            owed_bytes: 0,
            total_bytes: GIB,
        };
        handle.note(space, before);
        assert_eq!(
            handle.room_bytes(),
            23 * MIB,
            "what came while the disk was asked is not forgotten"
        );
    }

    #[tokio::test]
    async fn clients_are_refused_first_and_followers_stop_last() {
        let admitted = async |free_mib| Admitted::by(&handle(free_mib * MIB, GIB, Some(40 * MIB)).await);
        let expected = |produces, groups, replication| Admitted {
            produces,
            groups,
            replication,
        };
        assert_eq!(admitted(41).await, Admitted::ALL);
        assert_eq!(admitted(40).await, expected(false, true, true));
        assert_eq!(admitted(20).await, expected(false, false, true));
        assert_eq!(admitted(10).await, expected(false, false, false));
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_stops_nobody() {
        let watch = DiskWatch::new(|| Err(io::Error::other("no answer")), None).await;
        assert!(produces(&watch.handle()));
    }
}
