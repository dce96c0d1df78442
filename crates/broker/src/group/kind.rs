//! Groups as a kind of coordinators.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_group::{Coordinator, GroupConfig, Record, Topics};
use tidelog_types::TopicName;

use super::audience::GroupAudience;
use super::codec;
use crate::coordinator::Kind;

/// Coordinators of groups on `__consumer_offsets`, with the settings of every group.
pub struct GroupKind {
    pub(super) config: GroupConfig,
}

impl Kind for GroupKind {
    type Machine = Coordinator;
    type View = Topics;
    type Audience = GroupAudience;

    fn state_topic() -> TopicName {
        TopicName::consumer_offsets()
    }

    fn machine(&self, topics: Arc<Topics>) -> Coordinator {
        Coordinator::new(self.config.clone(), topics)
    }

    fn follow(coordinator: &mut Coordinator, topics: Arc<Topics>) {
        coordinator.set_topics(topics);
    }

    fn coordinated_count(coordinator: &Coordinator) -> usize {
        coordinator.committed().group_count()
    }

    fn encode(record: &Record) -> (Bytes, Option<Bytes>) {
        codec::encode(record)
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, impl Display> {
        codec::decode(key, value)
    }
}
