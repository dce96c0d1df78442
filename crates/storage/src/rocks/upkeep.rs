//! The upkeep thread: once a second it looks for background errors of RocksDB and brings the sync
//! mark up to date.
//!
//! It does nothing that takes long, so that the mark is never much older than that, whatever is
//! being compacted meanwhile (`reclaim.rs`).

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tidelog_log::StoreError;

use super::background::BackgroundWatch;
use super::shared::Shared;
use super::sync_mark::SyncMark;

/// How often errors are looked for and the mark is written.
const TICK: Duration = Duration::from_secs(1);

/// Ends the upkeep thread.
#[derive(Default)]
pub(crate) struct Upkeep {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Upkeep {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

/// Runs until it is stopped. Gives the mark back for the last word.
pub(crate) fn run(shared: &Shared, mut mark: SyncMark) -> SyncMark {
    let mut background = BackgroundWatch::default();
    loop {
        {
            let mut stopped = shared.upkeep.stopped.lock();
            if !*stopped {
                shared.upkeep.changed.wait_for(&mut stopped, TICK);
            }
            if *stopped {
                return mark;
            }
        }
        let looked = background.look(&shared.engine.db.inner);
        let done = looked
            .map_err(StoreError::Failed)
            .and_then(|()| keep_mark(shared, &mut mark));
        if let Err(error) = done {
            shared.health.poison(error);
            return mark;
        }
    }
}

fn keep_mark(shared: &Shared, mark: &mut SyncMark) -> Result<(), StoreError> {
    let synced = shared.tickets.synced_sequence();
    if synced > mark.sequence() {
        mark.record(synced)
            .map_err(|error| StoreError::Failed(format!("writing the sync mark failed: {error}")))?;
    }
    Ok(())
}
