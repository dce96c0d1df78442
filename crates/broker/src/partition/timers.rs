//! The one timer: followers that lag, high watermarks to note, producers to forget.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidelog_types::BrokerId;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::context::{Context, DiskUse};
use super::manager::ReplicaManager;
use super::partition::Partition;

/// How often idle producers are looked for. They expire after a day.
const EXPIRY_INTERVAL: Duration = Duration::from_hours(1);

/// Room above the mark for followers to fetch on, bytes: several answers, so that they do not stop
/// again at once.
const RESUME_BYTES: usize = 4 * 1024 * 1024;

impl ReplicaManager {
    /// Looks after what time changes, until `stop` is cancelled; then notes every high watermark
    /// that moved.
    pub async fn run(&self, stop: CancellationToken) {
        let limits = self.context.limits;
        let mut ticks = tokio::time::interval(limits.tick_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checkpoints = tokio::time::interval(limits.checkpoint_interval);
        checkpoints.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expiries = tokio::time::interval(EXPIRY_INTERVAL);
        let mut silent = HashSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.tick(&mut silent),
                _ = checkpoints.tick() => self.checkpoint(),
                _ = expiries.tick() => self.each(Partition::expire_producers),
            }
        }
        self.checkpoint();
    }

    /// Notes the high watermarks that moved since the last time.
    pub fn checkpoint(&self) {
        let moved = std::mem::take(&mut *self.context.to_checkpoint.lock());
        for partition in moved {
            partition.checkpoint();
        }
    }

    fn tick(&self, silent: &mut HashSet<BrokerId>) {
        if fell_silent(&self.context, silent) {
            // Rare: its idle partitions must be looked at too, once.
            self.each(|partition| {
                partition.tick();
            });
        }
        self.resume_fetching();
        let visited = std::mem::take(&mut *self.context.ticking.lock());
        let mut staying = visited;
        staying.retain(Partition::tick);
        self.context.ticking.lock().append(&mut staying);
    }

    /// Has followers fetch on that stopped for want of disk space, once there is some. One that
    /// stops after the flag was taken down puts it up again.
    pub(crate) fn resume_fetching(&self) {
        let context = &self.context;
        if context.fetching_paused.load(Ordering::Acquire)
            && context.hooks.disk.admits(DiskUse::Replication, RESUME_BYTES)
        {
            context.fetching_paused.store(false, Ordering::Release);
            self.each(Partition::resume_fetching);
        }
    }
}

/// Whether a broker fell silent since the last time.
fn fell_silent(context: &Arc<Context>, silent: &mut HashSet<BrokerId>) -> bool {
    let now = context.now();
    let mut newly = false;
    for (broker, heard) in &*context.heard.read() {
        if now.saturating_sub(*heard) > context.settings.lag_time_max {
            newly |= silent.insert(*broker);
        } else {
            silent.remove(broker);
        }
    }
    newly
}
