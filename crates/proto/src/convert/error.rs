//! `v1::Error`: partition-level refusals.

use tidelog_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionError};

use crate::v1;

impl From<PartitionError> for v1::Error {
    fn from(error: PartitionError) -> Self {
        Self {
            code: error.code.number(),
            message: error.message,
            // The address depends on the listener that the request came in by: the service that
            // answers fills it in.
            leader: error.leader.map(|(broker, epoch)| v1::Leader {
                broker_id: broker.get(),
                leader_epoch: epoch.0,
                address: String::new(),
            }),
        }
    }
}

impl From<v1::Error> for PartitionError {
    fn from(error: v1::Error) -> Self {
        let leader = error
            .leader
            .and_then(|leader| Some((BrokerId::new(leader.broker_id)?, LeaderEpoch(leader.leader_epoch))));
        Self {
            // A newer broker may know codes that this build does not: its sentence still reaches
            // the person.
            code: ErrorCode::from_number(error.code).unwrap_or(ErrorCode::UnknownServerError),
            message: error.message,
            leader,
        }
    }
}
