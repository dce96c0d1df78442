//! Whether this broker may serve, as it knows itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog_types::BrokerEpoch;

/// This broker's standing in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BrokerStatus {
    /// Its newest registration; `None` before the first, and from the loss of one to the next.
    pub epoch: Option<BrokerEpoch>,
    /// Whether it must neither acknowledge nor serve reads: not registered yet, not caught up yet,
    /// fenced by the metadata leader, or by itself.
    pub fenced: bool,
    /// Whether it is being drained to stop.
    pub draining: bool,
}

impl BrokerStatus {
    pub(super) const FENCED: Self = Self {
        epoch: None,
        fenced: true,
        draining: false,
    };
}

/// How long this broker may serve without hearing from the metadata leader: a session's length,
/// counted from when the last answered heartbeat was *sent*. Read before every acknowledgement, so
/// that a process that was stopped for a while notices before its timers do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SelfFence {
    origin: Instant,
    /// Milliseconds after `origin`; 0 means fenced.
    until_ms: Arc<AtomicU64>,
    /// When the last answered heartbeat was sent, milliseconds after `origin`, plus one; 0 before
    /// the first.
    heard_ms: Arc<AtomicU64>,
}

impl SelfFence {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            until_ms: Arc::default(),
            heard_ms: Arc::default(),
        }
    }

    /// Whether the broker may serve at this moment.
    pub fn serves(&self) -> bool {
        (self.origin.elapsed().as_millis() as u64) < self.until_ms.load(Ordering::Acquire)
    }

    /// How long ago the newest heartbeat that the metadata leader answered was sent; `None` before
    /// the first.
    pub fn since_heard(&self) -> Option<Duration> {
        let heard_ms = self.heard_ms.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            self.origin
                .elapsed()
                .saturating_sub(Duration::from_millis(heard_ms)),
        )
    }

    /// The heartbeat that was sent then is answered: the broker may serve until then.
    pub(super) fn extend(&self, sent: Instant, until: Instant) {
        let until = until.saturating_duration_since(self.origin).as_millis() as u64;
        self.until_ms.fetch_max(until, Ordering::AcqRel);
        let sent = sent.saturating_duration_since(self.origin).as_millis() as u64;
        self.heard_ms.fetch_max(sent + 1, Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_falls_a_session_after_the_answered_heartbeat_was_sent() {
        let fence = SelfFence::new();
        assert!(!fence.serves(), "before the first answer");
        assert_eq!(fence.since_heard(), None);
        let sent = Instant::now();
        fence.extend(sent, sent + Duration::from_mins(1));
        assert!(fence.serves());
        fence.end();
        assert!(!fence.serves());
        let heard = fence.since_heard().unwrap();
        assert!(
            heard < Duration::from_mins(1),
            "what was heard stays heard: {heard:?}"
        );
        // An answer that comes a session late was sent too long ago to count.
        fence.extend(fence.origin, fence.origin);
        assert!(!fence.serves());
    }
}
