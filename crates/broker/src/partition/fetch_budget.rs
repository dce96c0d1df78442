//! The bound of what all consumers' answers hold together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a fetch waits for room. Longer means that others do not take their answers.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Bytes that consumers' answers may hold together, from the read to the transport.
#[derive(Debug)]
pub(crate) struct FetchBudget {
    room: Arc<Semaphore>,
    bytes: u32,
}

/// Room for an answer, given back on drop.
#[derive(Debug, Default)]
pub struct FetchPermit {
    room: Option<OwnedSemaphorePermit>,
    pub(crate) granted_bytes: usize,
}

impl FetchBudget {
    pub(crate) fn new(bytes: u32) -> Self {
        Self {
            room: Arc::new(Semaphore::new(bytes as usize)),
            bytes,
        }
    }

    /// Waits for room for an answer of at most so many bytes, not for ever: consumers that do not
    /// take their answers must not hold up all others. Whoever waited in vain reads a batch at a
    /// time.
    pub(crate) async fn reserve(&self, bytes: usize) -> FetchPermit {
        let asked = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes);
        let room = Arc::clone(&self.room).acquire_many_owned(asked);
        match tokio::time::timeout(MAX_WAIT, room).await {
            Ok(Ok(room)) => FetchPermit {
                room: Some(room),
                granted_bytes: asked as usize,
            },
            Ok(Err(_)) | Err(_) => FetchPermit {
                room: None,
                granted_bytes: 1,
            },
        }
    }
}

impl FetchPermit {
    /// For an answer without batches.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Gives back what is not used.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let unused = self.granted_bytes.saturating_sub(bytes);
        if let Some(room) = &mut self.room {
            drop(room.split(unused));
            self.granted_bytes -= unused;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_shared_given_back_and_not_waited_for_without_end() {
        let budget = FetchBudget::new(100);
        let mut first = budget.reserve(1000).await;
        assert_eq!(first.granted_bytes, 100);
        let starved = budget.reserve(10).await;
        assert_eq!(starved.granted_bytes, 1);
        first.shrink_to(40);
        assert_eq!(budget.reserve(60).await.granted_bytes, 60);
        drop(first);
        assert_eq!(budget.reserve(100).await.granted_bytes, 100);
    }
}
