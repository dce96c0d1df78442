//! Free disk space, looked at now and then, asked for at every produce.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_storage::Space;
use tokio_util::sync::CancellationToken;

/// How often the filesystem is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The reserve where none is configured: this part of the disk, or the bytes below, the smaller.
const RESERVE_PART: u64 = 20;
const MAX_DEFAULT_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;

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
    free_bytes: Arc<AtomicU64>,
    reserve_bytes: u64,
}

impl DiskHandle {
    /// Whether there is room above the reserve.
    pub(super) fn has_room(&self) -> bool {
        self.free_bytes() > self.reserve_bytes
    }

    /// Free space, bytes.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
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
            total_bytes: u64::MAX,
        });
        // Of the whole disk and not of what is free: that would become less with every start on a full one.
        let default = (space.total_bytes / RESERVE_PART).min(MAX_DEFAULT_RESERVE_BYTES);
        Self {
            probe,
            handle: DiskHandle {
                free_bytes: Arc::new(AtomicU64::new(space.free_bytes)),
                reserve_bytes: reserve_bytes.unwrap_or(default),
            },
        }
    }

    pub(super) fn handle(&self) -> DiskHandle {
        self.handle.clone()
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            match stop.run_until_cancelled(ask(&self.probe)).await {
                Some(Some(space)) => self.note(space),
                Some(None) => {}
                None => return,
            }
        }
    }

    fn note(&self, space: Space) {
        let had_room = self.handle.has_room();
        self.handle.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        if had_room == self.handle.has_room() {
            return;
        }
        let (free, reserve) = (space.free_bytes, self.handle.reserve_bytes);
        if had_room {
            tracing::warn!(free, reserve, "produces are refused: the disk is full");
        } else {
            tracing::warn!(free, reserve, "produces are taken again");
        }
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

    const GIB: u64 = 1024 * 1024 * 1024;

    async fn watch(free_bytes: u64, total_bytes: u64, reserve_bytes: Option<u64>) -> DiskWatch {
        let space = Space {
            free_bytes,
            total_bytes,
        };
        DiskWatch::new(move || Ok(space), reserve_bytes).await
    }

    #[tokio::test]
    async fn the_default_reserve_is_a_part_of_the_whole_disk_however_full_it_is() {
        // 5 % of 10 GiB are 512 MiB: a start with less than that free takes no produces.
        assert!(watch(GIB, 10 * GIB, None).await.handle().has_room());
        assert!(!watch(GIB / 4, 10 * GIB, None).await.handle().has_room());
        // 5 % of 1 TiB would be 51 GiB; 1 GiB is the most.
        assert!(watch(2 * GIB, 1024 * GIB, None).await.handle().has_room());
        assert!(!watch(GIB, 1024 * GIB, None).await.handle().has_room());
    }

    #[tokio::test]
    async fn a_configured_reserve_stands_and_new_readings_count() {
        let watch = watch(GIB, 10 * GIB, Some(2 * GIB)).await;
        let handle = watch.handle();
        assert!(!handle.has_room());
        watch.note(Space {
            free_bytes: 3 * GIB,
            total_bytes: 10 * GIB,
        });
        assert!(handle.has_room());
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_stops_nobody() {
        let watch = DiskWatch::new(|| Err(io::Error::other("no answer")), None).await;
        assert!(watch.handle().has_room());
    }
}
