//! Waiting for a condition, never for a while.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at again.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `probe` gives a value; its last error says what was missing when the deadline
/// passes.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(anyhow!("waited {deadline:?} for {what}: {error:#}"));
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
