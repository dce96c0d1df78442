//! Why a coordinator of groups does not serve, in words.

use tidelog_coordinator::Refusal;
use tidelog_types::{ErrorCode, PartitionError};

/// A refusal, as a client is told: the group's coordinator is looked for again if it is elsewhere,
/// and what can pass is retriable.
pub(crate) fn refusal(why: Refusal) -> PartitionError {
    let (code, message) = match why {
        Refusal::NotHere => (
            ErrorCode::NotCoordinator,
            "this broker does not coordinate the group: find its coordinator and ask there".to_owned(),
        ),
        Refusal::Loading => (
            ErrorCode::CoordinatorLoadInProgress,
            "the group's coordinator is reading its state: ask again in a moment".to_owned(),
        ),
        Refusal::TooLarge(why) => (
            ErrorCode::InvalidRequest,
            format!("the group's state does not fit a batch: {why}"),
        ),
        Refusal::Log(error) => return log_refused(error),
    };
    PartitionError::new(code, message)
}

fn log_refused(error: PartitionError) -> PartitionError {
    let code = match error.code {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::UnknownTopicOrPartition => ErrorCode::NotCoordinator,
        ErrorCode::DiskFull => ErrorCode::DiskFull,
        ErrorCode::InvalidRequest => ErrorCode::InvalidRequest,
        _ => ErrorCode::CoordinatorNotAvailable,
    };
    let message = match code {
        ErrorCode::NotCoordinator => {
            format!(
                "this broker does not coordinate the group any more ({error}): find its coordinator and ask there"
            )
        }
        ErrorCode::InvalidRequest => format!("the log of the group's coordinator refused: {error}"),
        _ => format!("the group's coordinator could not use its log: {error}; ask again"),
    };
    PartitionError::new(code, message).with_leader(error.leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_says(code: ErrorCode) -> PartitionError {
        PartitionError::new(code, "the log says so")
    }

    #[test]
    fn a_client_is_told_what_to_do() {
        let told = |code| refusal(Refusal::Log(log_says(code)));
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
        for error in [
            told(ErrorCode::DiskFull),
            refusal(Refusal::NotHere),
            refusal(Refusal::Loading),
        ] {
            assert!(error.code.is_retriable(), "{error}");
        }
        assert!(told(ErrorCode::DiskFull).message.contains("the log says so"));
    }
}
