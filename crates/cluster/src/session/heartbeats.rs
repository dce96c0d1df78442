//! When a broker sends heartbeats on one session stream, and which heartbeat an answer belongs to.

use std::time::Duration;

/// The heartbeats of one stream. While one is unanswered no other is sent: its answer would not
/// come earlier.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeats {
    interval: Duration,
    due: Duration,
    sequence: u64,
    /// When the one that is under way was sent.
    sent: Option<Duration>,
}

impl Heartbeats {
    /// Of a stream that was opened now; the first is due at once.
    pub fn new(interval: Duration, now: Duration) -> Self {
        Self {
            interval,
            due: now,
            sequence: 0,
            sent: None,
        }
    }

    /// When the next one is due; `None` while one is under way.
    pub fn next_wake(&self) -> Option<Duration> {
        self.sent.is_none().then_some(self.due)
    }

    /// The number of the one to send, if one is due; it is taken as sent.
    pub fn beat(&mut self, now: Duration) -> Option<u64> {
        if self.next_wake()? > now {
            return None;
        }
        self.sequence += 1;
        self.due = now + self.interval;
        self.sent = Some(now);
        Some(self.sequence)
    }

    /// When the heartbeat that this is the answer of was sent; `None` if it was answered before.
    pub fn answered(&mut self, sequence: u64) -> Option<Duration> {
        if sequence != self.sequence {
            return None;
        }
        self.sent.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_is_under_way_at_a_time_and_the_next_is_due_an_interval_after_it_was_sent() {
        let mut heartbeats = Heartbeats::new(ms(500), ms(100));
        assert_eq!(heartbeats.beat(ms(100)), Some(1));
        assert_eq!((heartbeats.beat(ms(700)), heartbeats.next_wake()), (None, None));
        assert_eq!(heartbeats.answered(1), Some(ms(100)));
        assert_eq!(heartbeats.next_wake(), Some(ms(600)));
        // The answer was late: the next goes out at once, and the one after it an interval later.
        assert_eq!(heartbeats.beat(ms(700)), Some(2));
        assert_eq!(heartbeats.answered(2), Some(ms(700)));
        assert_eq!(heartbeats.beat(ms(1_199)), None);
        assert_eq!(heartbeats.beat(ms(1_200)), Some(3));
    }

    #[test]
    fn an_answer_counts_once_and_for_its_own_heartbeat() {
        let mut heartbeats = Heartbeats::new(ms(500), ms(0));
        assert_eq!(heartbeats.answered(0), None, "nothing was sent");
        heartbeats.beat(ms(0));
        assert_eq!(heartbeats.answered(1), Some(ms(0)));
        assert_eq!(heartbeats.answered(1), None);
        heartbeats.beat(ms(500));
        assert_eq!(heartbeats.answered(1), None);
        assert_eq!(heartbeats.answered(2), Some(ms(500)));
    }
}
