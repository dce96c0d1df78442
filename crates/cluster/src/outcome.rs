//! What a command is answered with.

use tidelog_types::{BrokerEpoch, ClusterId, PartitionError, PartitionRegistration, ProducerId, TopicId};

use crate::image::MetadataIndex;

/// A committed and applied command's answer. Refused or accepted, it is what every broker computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The log index that the command was applied at.
    pub index: MetadataIndex,
    /// What came of it. A refusal changed nothing.
    pub result: Result<Accepted, PartitionError>,
}

/// What an accepted command brought about. Append-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The cluster has an id: the proposed one, or the one it had before.
    Cluster { cluster_id: ClusterId },
    /// The broker is registered, and fenced.
    BrokerRegistered {
        /// Its new epoch.
        epoch: BrokerEpoch,
    },
    /// The broker is fenced; it may have been so before.
    BrokerFenced,
    /// The broker serves; it may have done so before.
    BrokerUnfenced,
    /// The broker leads nothing that another replica could lead.
    BrokerDrained {
        /// How many partitions it still leads, because nobody else can.
        still_leading: u32,
    },
    /// The topic exists.
    TopicCreated {
        topic_id: TopicId,
        /// How many partitions it has.
        partitions: u32,
        /// How many replicas each has.
        replication_factor: u32,
    },
    /// The topic is gone.
    TopicDeleted,
    /// The topic has these configs.
    TopicConfigsAltered,
    /// The partition is as proposed, or, if its leader is being drained, led by another from here
    /// on.
    PartitionAltered {
        /// The partition as it is now.
        registration: PartitionRegistration,
    },
    /// A block of producer ids.
    ProducerIdsAllocated {
        /// The first of them.
        first: ProducerId,
        count: u64,
    },
    /// Preferred leaders lead again where they can.
    PreferredLeadersElected {
        /// How many leaderships moved.
        moved: u32,
    },
}
