//! Free disk space, looked at now and then, asked for at every produce.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog_storage::RocksStore;
use tokio_util::sync::CancellationToken;

/// How often the filesystem is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The reserve where none is configured: this part of the disk, or the bytes below, the smaller.
const RESERVE_PART: u64 = 20;
const MAX_DEFAULT_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;

/// Watches the data directory's filesystem.
pub(super) struct DiskWatch {
    store: Arc<RocksStore>,
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
    pub(super) fn new(store: Arc<RocksStore>, reserve_bytes: Option<u64>) -> Self {
        let free = store.free_bytes().unwrap_or(u64::MAX);
        // What is free now stands for the disk's size: a smaller reserve than 5 % of the whole, never a larger one.
        let default = (free / RESERVE_PART).min(MAX_DEFAULT_RESERVE_BYTES);
        let reserve_bytes = reserve_bytes.unwrap_or(default);
        Self {
            store,
            handle: DiskHandle {
                free_bytes: Arc::new(AtomicU64::new(free)),
                reserve_bytes,
            },
        }
    }

    pub(super) fn handle(&self) -> DiskHandle {
        self.handle.clone()
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let had_room = self.handle.has_room();
            match self.store.free_bytes() {
                Ok(free) => self.handle.free_bytes.store(free, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "the disk does not say how much of it is free"),
            }
            if had_room != self.handle.has_room() {
                let (free, reserve) = (self.handle.free_bytes(), self.handle.reserve_bytes);
                tracing::warn!(
                    free,
                    reserve,
                    "produces are {}",
                    if had_room {
                        "refused: the disk is full"
                    } else {
                        "taken again"
                    }
                );
            }
        }
    }
}
