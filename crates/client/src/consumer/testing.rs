//! What tests of this module share.

use bytes::Bytes;
use tidelog_record::{Batch, BatchBuilder, Compression, NewRecord};
use tidelog_types::{LeaderEpoch, Offset, PartitionIndex, TopicPartition};

use crate::wire::fake_consumer::topic_id;
use crate::wire::session::Assigned;

pub(crate) fn partition(topic: &str, index: u32) -> TopicPartition {
    TopicPartition {
        topic: topic.parse().unwrap(),
        partition: PartitionIndex(index),
    }
}

/// The same, of the only topic that ever had this name.
pub(crate) fn assigned(topic: &str, index: u32) -> Assigned {
    Assigned {
        partition: partition(topic, index),
        topic_id: topic_id(topic),
    }
}

/// A batch of `count` records as a log of epoch 1 holds it; each value says its offset.
pub(crate) fn batch(base: u64, count: u64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for offset in base..base + count {
        let value = values(offset);
        builder.append(NewRecord::new(1_000, None, Some(&value))).unwrap();
    }
    builder.build(None).unwrap().assign(Offset(base), LeaderEpoch(1))
}

pub(crate) fn values(offset: u64) -> Bytes {
    format!("value-{offset}").into()
}
