//! What happens to the image: the records that [`crate::decide()`] yields and
//! [`crate::ClusterImage::replay`] performs.

use std::sync::Arc;

use tidelog_types::{ClusterId, PartitionRegistration, ProducerId, TopicId, TopicIdPartition, TopicName};

use crate::broker::BrokerImage;
use crate::configs::TopicConfigs;

/// One change. Each carries the whole new value of what it names, so the changes that build an
/// image from nothing are also its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The cluster got its id.
    ClusterNamed(ClusterId),
    /// A broker was registered, fenced, unfenced or drained.
    Broker(Arc<BrokerImage>),
    /// A topic was made; its partitions follow, from 0 on. Of a topic that exists: its configs
    /// changed.
    Topic {
        topic_id: TopicId,
        name: TopicName,
        configs: TopicConfigs,
    },
    /// A topic and all of its partitions are gone.
    TopicDeleted(TopicId),
    /// A partition was made or changed.
    Partition {
        partition: TopicIdPartition,
        /// As it is from here on.
        registration: PartitionRegistration,
        /// Whether it was given a leader that may lack acknowledged records.
        unclean: bool,
    },
    /// Producer ids below this one are given away.
    NextProducerId(ProducerId),
}
