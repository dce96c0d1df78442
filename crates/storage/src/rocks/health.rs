//! The store's one failure: the first is kept, told once, and ends everything.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tidelog_log::{Progress, StoreError, StoreListener};

/// Reports to the listener, so that nothing is reported durable after a failure.
pub(crate) struct Health {
    listener: Arc<dyn StoreListener>,
    failure: OnceLock<StoreError>,
    /// Held while a listener is told of durability or of failure: neither overtakes the other.
    reporting: Mutex<()>,
}

impl Health {
    pub(crate) fn new(listener: Arc<dyn StoreListener>) -> Self {
        Self {
            listener,
            failure: OnceLock::new(),
            reporting: Mutex::new(()),
        }
    }

    /// Fails if the store has failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Poisons the store, and tells so if it is the first time.
    pub(crate) fn poison(&self, error: StoreError) {
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the store is poisoned");
            let _reporting = self.reporting.lock();
            self.listener.failed(&error);
        }
    }

    /// Ends the store in order: later calls fail, nobody is told.
    pub(crate) fn retire(&self) {
        // Poisoned already: that reason stands.
        let _ = self
            .failure
            .set(StoreError::Failed("the store was closed".to_owned()));
    }

    pub(crate) fn written(&self, progress: &[Progress]) {
        if !progress.is_empty() && self.failure.get().is_none() {
            self.listener.written(progress);
        }
    }

    pub(crate) fn durable(&self, progress: &[Progress]) {
        let _reporting = self.reporting.lock();
        if !progress.is_empty() && self.failure.get().is_none() {
            self.listener.durable(progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::{LocalPartition, Offset};

    use super::*;
    use tidelog_log::conformance::Recorder;

    #[test]
    fn after_a_failure_only_the_first_is_told_and_nothing_else() {
        let recorder = Arc::new(Recorder::default());
        let health = Health::new(Arc::clone(&recorder) as Arc<dyn StoreListener>);
        let step = Progress {
            partition: LocalPartition(1),
            end: Offset(1),
        };
        health.durable(&[step]);
        let first = StoreError::Failed("the first".to_owned());
        health.poison(first.clone());
        health.poison(StoreError::Failed("the second".to_owned()));
        // A sync that was under way when a write failed comes back.
        health.durable(&[step]);
        health.written(&[step]);
        assert_eq!(health.check(), Err(first.clone()));
        let heard = recorder.heard();
        assert_eq!(
            (heard.durable.len(), heard.written.len(), heard.failures),
            (1, 0, vec![first])
        );
    }
}
