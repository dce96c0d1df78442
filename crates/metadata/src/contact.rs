//! When a follower last heard of its leader.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The last moment at which a leader's call was taken.
#[derive(Debug)]
pub(crate) struct LastContact {
    at: Mutex<Instant>,
}

impl LastContact {
    pub(crate) fn new() -> Self {
        Self {
            at: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn note(&self) {
        *self.at.lock() = Instant::now();
    }

    pub(crate) fn at(&self) -> Instant {
        *self.at.lock()
    }

    pub(crate) fn age(&self) -> Duration {
        self.at().elapsed()
    }
}
