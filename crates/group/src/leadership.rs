//! What the leadership of the coordinator's partition means for whoever asks it: when it is lost, when it may come back, and in which words that is
//! told.

use tidelog_types::{ErrorCode, PartitionError};

/// Whether the log may answer otherwise later in the same epoch: then the coordinator loads anew, and is at its end otherwise. That a newer epoch
/// began cannot be undone.
pub fn may_pass(error: &PartitionError) -> bool {
    error.code.is_retriable() && error.code != ErrorCode::FencedLeaderEpoch
}

/// A refusal of the log, as whoever asked the coordinator is told: who leads the partition is asked again for as the group's coordinator, and what
/// can pass is retriable.
pub fn refused(error: PartitionError) -> PartitionError {
    let code = match error.code {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::UnknownTopicOrPartition => ErrorCode::NotCoordinator,
        ErrorCode::DiskFull => ErrorCode::DiskFull,
        ErrorCode::InvalidRequest => ErrorCode::InvalidRequest,
        _ => ErrorCode::CoordinatorNotAvailable,
    };
    let message = format!("the group's coordinator could not write: {error}; ask again");
    PartitionError::new(code, message).with_leader(error.leader)
}

/// The broker does not lead the partition, or no more.
pub fn not_coordinator() -> PartitionError {
    let message = "this broker does not coordinate the group: find its coordinator and ask there";
    PartitionError::new(ErrorCode::NotCoordinator, message)
}

/// The broker leads the partition, and has not replayed it yet (G12).
pub fn still_loading() -> PartitionError {
    let message = "the group's coordinator is reading its state: ask again in a moment";
    PartitionError::new(ErrorCode::CoordinatorLoadInProgress, message)
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
            assert!(may_pass(&log_says(code)), "{code}");
        }
        for code in [ErrorCode::FencedLeaderEpoch, ErrorCode::CorruptMessage] {
            assert!(!may_pass(&log_says(code)), "{code}");
        }
    }

    #[test]
    fn whoever_asked_is_told_what_to_do() {
        let told = |code| refused(log_says(code));
        for code in [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::FencedLeaderEpoch,
            ErrorCode::UnknownLeaderEpoch,
            ErrorCode::UnknownTopicOrPartition,
        ] {
            assert_eq!(told(code).code, ErrorCode::NotCoordinator, "{code}");
        }
        assert_eq!(
            told(ErrorCode::NotEnoughReplicas).code,
            ErrorCode::CoordinatorNotAvailable
        );
        assert_eq!(told(ErrorCode::DiskFull).code, ErrorCode::DiskFull);
        assert_eq!(told(ErrorCode::InvalidRequest).code, ErrorCode::InvalidRequest);
        for error in [told(ErrorCode::DiskFull), not_coordinator(), still_loading()] {
            assert!(error.code.is_retriable(), "{error}");
        }
        assert!(told(ErrorCode::DiskFull).message.contains("the log says so"));
    }
}
