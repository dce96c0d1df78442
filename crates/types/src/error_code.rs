//! Kafka's error codes by name and number, and one of ours.

use std::fmt;

use thiserror::Error;

use crate::{BrokerId, LeaderEpoch};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retriable:literal;)*) => {
        /// Why a partition, group or topic was refused, with Kafka's number. Append-only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $number,)*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code of a number, if it is one that Tidelog uses.
            pub const fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name of it, upper case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether the same request may succeed later, perhaps at another broker.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => $retriable,)*
                }
            }
        }
    };
}

error_codes! {
    /// The broker met something it does not explain to clients; its log says what.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", false;
    /// The offset lies before the log start or past the log end.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", false;
    /// A batch whose checksum, magic or counts are wrong.
    CorruptMessage = 2, "CORRUPT_MESSAGE", false;
    /// No such topic, or no such partition of it, as far as this broker knows.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", true;
    /// The partition has no leader at this moment.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", true;
    /// This broker does not lead the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", true;
    /// Not done in time; a produce may or may not have been written.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", true;
    /// A batch larger than the topic's max.message.bytes.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", false;
    /// A committed offset's metadata longer than 4096 bytes.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", false;
    /// The coordinator is still reading its state.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", true;
    /// The group has no serving coordinator at this moment.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", true;
    /// This broker does not coordinate the group.
    NotCoordinator = 16, "NOT_COORDINATOR", true;
    /// The topic's name is not allowed, or the topic is internal.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", false;
    /// Fewer in-sync replicas than min.insync.replicas; nothing was appended.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", true;
    /// Fewer in-sync replicas than min.insync.replicas, noticed after the append: it may or may not
    /// stay.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true;
    /// The coordinator does not know this member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", false;
    /// The topic exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", false;
    /// A partition count that is not allowed.
    InvalidPartitions = 37, "INVALID_PARTITIONS", false;
    /// A replication factor that the cluster cannot give.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", false;
    /// A config that does not exist, is not honoured yet, or has a bad value.
    InvalidConfig = 40, "INVALID_CONFIG", false;
    /// This broker is not the metadata leader.
    NotController = 41, "NOT_CONTROLLER", true;
    /// A request that contradicts itself.
    InvalidRequest = 42, "INVALID_REQUEST", false;
    /// A gap in a producer's sequence.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", false;
    /// A batch that was stored before, too long ago to say where.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", false;
    /// A newer instance of the producer exists.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", false;
    /// The broker's storage failed. Kafka calls it KAFKA_STORAGE_ERROR.
    StorageError = 56, "STORAGE_ERROR", true;
    /// The partition remembers nothing of this producer, and its batch does not begin at
    /// sequence 0.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", false;
    /// The group still has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", false;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", false;
    /// The request's leader epoch is older than the broker's.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", true;
    /// The request's leader epoch is newer than the broker's.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", true;
    /// The broker was registered anew since.
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", false;
    /// The leader cannot tell the latest offset yet.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", true;
    /// The group is full.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", false;
    /// Another member took over this instance id.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", false;
    /// A record that the topic does not take.
    InvalidRecord = 87, "INVALID_RECORD", false;
    /// The partition's registration changed since: the compare-and-set of an ISR change failed.
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", false;
    /// No topic with this id.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", true;
    /// A replica that may not join the ISR: fenced, unregistered, or of another broker epoch.
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", false;
    /// The member was fenced by its group's coordinator and must join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", false;
    /// The instance id is held by a member that is still there.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", false;
    /// No such assignor.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", false;
    /// The member's epoch moved on; ask again with the new one.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", true;
    /// A subscription's regular expression does not compile.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", false;
    /// The broker's disk is filled up to its reserve. Ours, not Kafka's.
    DiskFull = 1001, "DISK_FULL", true;
}

impl ErrorCode {
    /// Kafka's number of the code; from 1000 on ours.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Whether the answer means that the client's picture of the cluster is old.
    pub const fn needs_metadata(self) -> bool {
        matches!(
            self,
            Self::UnknownTopicOrPartition
                | Self::LeaderNotAvailable
                | Self::NotLeaderOrFollower
                | Self::NotCoordinator
                | Self::CoordinatorNotAvailable
                | Self::FencedLeaderEpoch
                | Self::UnknownTopicId
                | Self::NotController
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: the code for programs, the sentence for people, and the leader where a wrong broker
/// was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct PartitionError {
    /// The code, for programs.
    pub code: ErrorCode,
    /// What happened, to what, and what to do.
    pub message: String,
    /// Who leads (or coordinates), as far as the answering broker knows, and in which epoch.
    pub leader: Option<(BrokerId, LeaderEpoch)>,
}

impl PartitionError {
    /// A refusal without a hint at another broker.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            leader: None,
        }
    }

    /// The same, naming the broker to ask instead.
    #[must_use]
    pub fn with_leader(mut self, leader: Option<(BrokerId, LeaderEpoch)>) -> Self {
        self.leader = leader;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_named_once() {
        let mut names = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
            assert!(names.insert(code.name()), "{code} is named twice");
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }
}
