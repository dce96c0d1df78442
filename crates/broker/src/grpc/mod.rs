//! gRPC services: protobuf stops here.
//!
//! - [`log`]: Produce, Fetch, ListOffsets, InitProducer
//! - [`admin`]: topics and the cluster
//! - [`about`]: what a broker tells of itself
//! - [`deadline`]: how long a call may take
//! - [`groups`]: consumer groups
//! - [`leaders`]: what other services ask partitions' leaders
//! - [`meant_for`]: whether a call is meant for this cluster
//! - [`plain`]: plain records in, plain records out

pub mod about;
pub mod admin;
mod deadline;
pub mod groups;
pub mod leaders;
pub mod log;
pub mod meant_for;
mod page;
pub mod plain;
pub mod producer_ids;

use tidelog_cluster::image::ClusterImage;
use tidelog_metadata::ProposeError;
use tidelog_proto::v1;
use tidelog_types::{BrokerId, ErrorCode, PartitionError, TopicId, TopicName};

/// A client listener: what its name makes of brokers' addresses.
#[derive(Debug, Clone)]
pub struct Listener {
    pub name: std::sync::Arc<str>,
}

impl Listener {
    /// Where a broker serves clients of this listener; empty if it has none of that name.
    pub fn address(&self, image: &ClusterImage, broker: BrokerId) -> String {
        let address = image
            .broker(broker)
            .and_then(|broker| broker.listener_address(&self.name));
        address.unwrap_or_default().to_owned()
    }

    /// A refusal as clients of this listener read it: with the address of the broker to ask
    /// instead.
    pub fn refusal(&self, image: &ClusterImage, error: PartitionError) -> v1::Error {
        let mut error = v1::Error::from(error);
        if let Some(leader) = &mut error.leader
            && let Some(broker) = BrokerId::new(leader.broker_id)
        {
            leader.address = self.address(image, broker);
        }
        error
    }
}

/// The topic id that a request names, if it names one. Its length is all that can be wrong with it.
pub fn topic_id(named: Option<&[u8]>) -> Result<Option<TopicId>, PartitionError> {
    let Some(bytes) = named else {
        return Ok(None);
    };
    TopicId::from_slice(bytes).map(Some).ok_or_else(|| {
        let text = format!("a topic id of {} bytes; it has 16", bytes.len());
        PartitionError::new(ErrorCode::InvalidRequest, text)
    })
}

/// The refusal of a topic that does not exist.
pub(crate) fn unknown_topic(name: &str) -> PartitionError {
    // What is no name may be of any length: its refusal quotes a part.
    let text = match name.parse::<TopicName>() {
        Ok(name) => format!("topic \"{name}\" does not exist; create it, or check its name"),
        Err(invalid) => invalid.to_string(),
    };
    PartitionError::new(ErrorCode::UnknownTopicOrPartition, text)
}

/// Partitions in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionCounts {
    /// With fewer in-sync replicas than replicas.
    pub under_replicated: u32,
    /// With fewer in-sync replicas than min.insync.replicas.
    pub under_min_isr: u32,
    /// Without a leader.
    pub offline: u32,
}

impl PartitionCounts {
    /// Counts them in an image.
    pub fn of(image: &ClusterImage) -> Self {
        let mut counts = Self::default();
        for registration in image.topics().flat_map(|topic| &topic.partitions) {
            counts.under_replicated += u32::from(registration.isr.len() < registration.replicas.len());
            counts.under_min_isr +=
                u32::from(registration.isr.len() < registration.effective_min_insync_replicas());
            counts.offline += u32::from(registration.leader.is_none());
        }
        counts
    }
}

/// A proposal that did not get through, as a client is told.
pub fn proposal_refused(error: ProposeError) -> PartitionError {
    PartitionError::new(ErrorCode::RequestTimedOut, format!("{error}"))
}
