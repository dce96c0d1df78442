//! What an image asks of a broker's replicas, and when the broker serves from them (R3).
//!
//! 1. The broker is registered under an epoch ([`Standing::registered`]).
//! 2. Each image leads to a [`Plan`] ([`Applied::plan`]): replicas to delete, to make, and to show
//!    the image to. The driver performs it in this order and says so ([`Applied::done`]).
//! 3. Once an image of the registration is applied, the broker serves ([`Standing::applied`]),
//!    until it loses touch with the cluster ([`Standing::fence`]) or is registered anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_types::{BrokerEpoch, BrokerId, TopicId, TopicIdPartition};

use crate::image::{ClusterImage, ImageDelta};

/// The newest image that was applied to a broker's replicas.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    image: Option<Arc<ClusterImage>>,
    /// The registration under which it was applied.
    broker_epoch: Option<BrokerEpoch>,
}

/// What an image asks of a broker's replicas, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Replicas of these topics are deleted, since the topics were.
    pub delete: Vec<TopicId>,
    /// These replicas are made: they are assigned here and do not exist yet.
    pub make: Vec<TopicIdPartition>,
    /// The image is shown to these replicas, those that were just made included.
    pub show: Show,
    /// The registration for which the image is applied.
    pub broker_epoch: BrokerEpoch,
    /// The brokers that may be in an ISR, with their epochs.
    pub alive: BTreeMap<BrokerId, BrokerEpoch>,
}

/// Replicas that an image is shown to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// Every replica on this broker: the brokers that are alive concern all that it leads.
    All,
    /// Those of these that are on this broker.
    These(Vec<TopicIdPartition>),
}

impl Applied {
    /// What an image asks of the replicas of the broker `local`, which is registered under
    /// `broker_epoch`; nothing if the image is older than the registration, or not newer than the
    /// one before. Images may be left out. `exists` says whether the broker has a replica.
    pub fn plan(
        &self,
        image: &ClusterImage,
        local: BrokerId,
        broker_epoch: Option<BrokerEpoch>,
        exists: impl Fn(TopicIdPartition) -> bool,
    ) -> Option<Plan> {
        // What was before the registration gives this broker nothing.
        let broker_epoch = broker_epoch.filter(|epoch| image.index.0 >= epoch.0)?;
        let before = self.image.as_deref();
        let delta = match before.filter(|_| self.broker_epoch == Some(broker_epoch)) {
            Some(before) if before.index >= image.index => return None,
            Some(before) => image.delta_since(before),
            None => everything(image, before),
        };
        let changed = || {
            let topics = delta.topics.iter().filter_map(|topic| image.topic(*topic));
            topics.flat_map(|topic| topic.iter())
        };
        let is_missing =
            |id: TopicIdPartition, replicas: &[BrokerId]| replicas.contains(&local) && !exists(id);
        let make = changed()
            .filter(|(id, registration)| is_missing(*id, &registration.replicas))
            .map(|(id, _)| id)
            .collect();
        let show = if delta.brokers.is_empty() {
            Show::These(changed().map(|(id, _)| id).collect())
        } else {
            Show::All
        };
        let active = image.brokers.values().filter(|broker| broker.is_active());
        Some(Plan {
            delete: delta.deleted_topics.clone(),
            make,
            show,
            broker_epoch,
            alive: active.map(|broker| (broker.id, broker.epoch)).collect(),
        })
    }

    /// A plan of this image was performed. Returns whether the image is the first at all.
    pub fn done(&mut self, image: Arc<ClusterImage>, plan: &Plan) -> bool {
        self.broker_epoch = Some(plan.broker_epoch);
        self.image.replace(image).is_none()
    }

    /// The newest image that was applied, if there is one.
    pub fn image(&self) -> Option<&Arc<ClusterImage>> {
        self.image.as_ref()
    }
}

/// The delta of a first image, or of the first of a new registration: all is new, and only a topic
/// that was seen before can have been deleted.
fn everything(image: &ClusterImage, before: Option<&ClusterImage>) -> ImageDelta {
    ImageDelta {
        brokers: image.brokers.keys().copied().collect(),
        topics: image.topics().map(|topic| topic.id).collect(),
        deleted_topics: before
            .map(|before| image.delta_since(before).deleted_topics)
            .unwrap_or_default(),
    }
}

/// Whether a broker serves from its replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    registered: Option<BrokerEpoch>,
    /// The registration under which the broker lost touch with the cluster.
    lost: Option<BrokerEpoch>,
    serves: bool,
}

impl Standing {
    /// The epoch of the broker's registration, once it has one.
    pub const fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.registered
    }

    /// Whether the broker may acknowledge and answer reads.
    pub const fn serves(&self) -> bool {
        self.serves
    }

    /// The broker was registered. Returns whether this is a new registration: what it led under
    /// an earlier one ends then.
    pub fn registered(&mut self, epoch: BrokerEpoch) -> bool {
        if self.registered == Some(epoch) {
            return false;
        }
        self.registered = Some(epoch);
        self.serves = false;
        true
    }

    /// The broker has lost touch with the cluster: it serves nothing until it is registered anew.
    pub const fn fence(&mut self) {
        self.lost = self.registered;
        self.serves = false;
    }

    /// An image of a registration is applied. Returns whether the broker serves now.
    pub fn applied(&mut self, epoch: BrokerEpoch) -> bool {
        self.serves = self.registered == Some(epoch) && self.lost != Some(epoch);
        self.serves
    }
}

#[cfg(test)]
mod tests;
