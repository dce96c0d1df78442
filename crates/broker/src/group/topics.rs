//! Cluster metadata, as far as groups care.

use std::sync::Arc;

use tidelog_cluster::image::ClusterImage;
use tidelog_group::{Topic, Topics};

/// The topics of an image.
pub fn topics_of(image: &ClusterImage) -> Topics {
    let topic = |topic: &Arc<tidelog_cluster::image::TopicImage>| {
        (
            topic.name.clone(),
            Topic {
                id: topic.id,
                partition_count: topic.partitions.len() as u32,
            },
        )
    };
    Topics::new(image.topics().map(topic))
}
