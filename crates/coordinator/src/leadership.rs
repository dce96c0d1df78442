//! From where a coordinator replays its partition, and what a refusal of the log means for it.

use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{ErrorCode, Offset, PartitionError};

use crate::loading::Loading;

/// Longest pause between attempts to load.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Shortest pause between attempts to load: mostly the broker was elected a moment before it may
/// serve.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// One leadership of a coordinator's partition, over all attempts to load and to serve in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    replay_until: Offset,
    pause: Duration,
}

impl Leadership {
    /// A leadership that began when the log ended at `start_offset`.
    pub const fn new(start_offset: Offset) -> Self {
        Self {
            replay_until: start_offset,
            pause: SHORTEST_PAUSE,
        }
    }

    /// Up to where the log belongs to the state that is loaded.
    pub const fn replay_until(&self) -> Offset {
        self.replay_until
    }

    /// A replay from the start of the partition.
    pub const fn load(&self) -> Loading {
        Loading::new(self.replay_until)
    }

    /// The replay is complete.
    pub const fn loaded(&mut self) {
        self.pause = SHORTEST_PAUSE;
    }

    /// The log refused a read while the coordinator loaded. Returns after which pause to load anew;
    /// `None` if the leadership is over.
    pub fn load_failed(&mut self, error: &PartitionError) -> Option<Duration> {
        let pause = may_pass(error).then_some(self.pause)?;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    /// The log refused the leader while it served, having appended up to `log_end`. Returns whether
    /// to load anew; else the leadership is over.
    ///
    /// What was appended in this leadership is replayed as well, and replicated first.
    pub fn interrupted(&mut self, error: &PartitionError, log_end: Offset) -> bool {
        if !mutant::is_on(Mutant::ForgetOwnAppends) {
            self.replay_until = self.replay_until.max(log_end);
        }
        may_pass(error)
    }
}

/// Whether a log that answered so may answer otherwise later in the same leader epoch. A newer
/// epoch cannot be undone.
fn may_pass(error: &PartitionError) -> bool {
    error.code.is_retriable() && error.code != ErrorCode::FencedLeaderEpoch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_says(code: ErrorCode) -> PartitionError {
        PartitionError::new(code, "the log says so")
    }

    #[test]
    fn what_may_pass_in_this_epoch_leads_back_to_loading() {
        for code in [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::UnknownLeaderEpoch,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::DiskFull,
        ] {
            let mut leadership = Leadership::new(Offset(3));
            assert!(leadership.interrupted(&log_says(code), Offset(7)), "{code}");
        }
        for code in [ErrorCode::FencedLeaderEpoch, ErrorCode::CorruptMessage] {
            let mut leadership = Leadership::new(Offset(3));
            assert!(!leadership.interrupted(&log_says(code), Offset(7)), "{code}");
            assert_eq!(leadership.load_failed(&log_says(code)), None, "{code}");
        }
    }

    #[test]
    fn pauses_between_loads_grow_to_a_second_and_begin_anew_after_a_success() {
        let mut leadership = Leadership::new(Offset(3));
        let error = log_says(ErrorCode::NotLeaderOrFollower);
        let millis: Vec<_> = std::iter::repeat_with(|| leadership.load_failed(&error))
            .take(8)
            .map(|pause| pause.map(|pause| pause.as_millis()))
            .collect();
        assert_eq!(
            millis,
            [20, 40, 80, 160, 320, 640, 1000, 1000].map(Some),
            "milliseconds"
        );
        leadership.loaded();
        assert_eq!(leadership.load_failed(&error), Some(SHORTEST_PAUSE));
    }

    #[test]
    fn what_was_appended_in_this_leadership_is_replayed_after_an_interruption() {
        let mut leadership = Leadership::new(Offset(3));
        let error = log_says(ErrorCode::NotLeaderOrFollower);
        leadership.interrupted(&error, Offset(7));
        assert_eq!(leadership.replay_until(), Offset(7));
        leadership.interrupted(&error, Offset(7));
        assert_eq!(leadership.load(), Loading::new(Offset(7)));
    }
}
