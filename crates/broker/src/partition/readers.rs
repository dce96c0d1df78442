//! Reads that may touch the disk: on threads of their own, a few at a time.

use std::sync::Arc;

use tidelog_log::StoreError;
use tokio::sync::Semaphore;

#[derive(Clone)]
pub(crate) struct Readers {
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(concurrent: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(concurrent)),
        }
    }

    /// Runs a read. Whoever stops waiting for it before it began takes it back.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let result = read();
            drop(permit);
            result
        });
        task.await
            .unwrap_or_else(|error| Err(StoreError::Failed(format!("a read was cut short: {error}"))))
    }
}
