//! A listener that remembers what it is told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tidelog_types::{LocalPartition, Offset};

use crate::{Progress, StoreError, StoreListener};

/// Longest that a test waits for a report.
const DEADLINE: Duration = Duration::from_secs(20);

/// Remembers every report, and lets a test wait for one.
#[derive(Default)]
pub struct Recorder {
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// What a [`Recorder`] was told.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Every written step, in order.
    pub written: Vec<Progress>,
    /// Every durable step, in order.
    pub durable: Vec<Progress>,
    /// Every failure.
    pub failures: Vec<StoreError>,
}

impl Heard {
    /// The last written end of each partition.
    pub fn written_ends(&self) -> HashMap<LocalPartition, Offset> {
        self.written
            .iter()
            .map(|step| (step.partition, step.end))
            .collect()
    }

    /// The last durable end of each partition.
    pub fn durable_ends(&self) -> HashMap<LocalPartition, Offset> {
        self.durable
            .iter()
            .map(|step| (step.partition, step.end))
            .collect()
    }
}

impl Recorder {
    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }

    /// Begins anew, as with a store that was started again.
    pub fn forget(&self) {
        *self.heard.lock() = Heard::default();
    }

    /// Waits until what was heard is as asked.
    ///
    /// # Panics
    /// If it is not within the deadline.
    pub fn wait_until(&self, what: &str, mut reached: impl FnMut(&Heard) -> bool) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the suite waits for the threads of a store on a real disk, and not for ever"
        )]
        let deadline = Instant::now() + DEADLINE;
        let mut heard = self.heard.lock();
        while !reached(&heard) {
            let timed_out = self.changed.wait_until(&mut heard, deadline).timed_out();
            assert!(
                !timed_out || reached(&heard),
                "waited in vain for {what}: {heard:?}"
            );
        }
    }

    /// Waits until a partition is durable up to an end.
    pub fn wait_durable(&self, partition: LocalPartition, end: Offset) {
        self.wait_until("durability", |heard| {
            heard.durable_ends().get(&partition) == Some(&end)
        });
    }

    /// Waits until a partition is written up to an end.
    pub fn wait_written(&self, partition: LocalPartition, end: Offset) {
        self.wait_until("a write", |heard| {
            heard.written_ends().get(&partition) == Some(&end)
        });
    }
}

impl StoreListener for Recorder {
    fn written(&self, progress: &[Progress]) {
        self.heard.lock().written.extend_from_slice(progress);
        self.changed.notify_all();
    }

    fn durable(&self, progress: &[Progress]) {
        self.heard.lock().durable.extend_from_slice(progress);
        self.changed.notify_all();
    }

    fn failed(&self, error: &StoreError) {
        self.heard.lock().failures.push(error.clone());
        self.changed.notify_all();
    }
}
