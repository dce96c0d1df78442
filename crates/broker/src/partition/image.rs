//! Cluster metadata, applied to this broker's replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_cluster::image::{ClusterImage, ImageDelta};
use tidelog_log::StoreError;
use tidelog_replica::{Assignment, Replica};
use tidelog_types::{BrokerEpoch, BrokerId, TopicId, TopicIdPartition};

use super::context::{Role, RoleChange};
use super::manager::{ReplicaManager, log_state};
use super::partition::Partition;

impl ReplicaManager {
    /// Acts upon an image: makes replicas that are assigned here, moves them between roles, deletes
    /// those of topics that were deleted since the image before. Images must come in order; some
    /// may be left out. Blocks where replicas are made or deleted: not for a tokio thread (see
    /// [`ReplicaManager::apply_image_on`]).
    ///
    /// Nothing happens before this broker is registered ([`ReplicaManager::registered`]).
    pub fn apply_image(&self, image: &Arc<ClusterImage>) -> Result<(), StoreError> {
        let registered = self.broker_epoch().filter(|epoch| image.index.0 >= epoch.0);
        // R3: what was before the registration gives this broker nothing.
        let Some(broker_epoch) = registered else {
            return Ok(());
        };
        let mut applied = self.applied.lock();
        let before = applied
            .image
            .as_ref()
            .filter(|_| applied.broker_epoch == Some(broker_epoch));
        let delta = match before {
            Some(before) if before.index >= image.index => return Ok(()),
            Some(before) => image.delta_since(before),
            None => everything(image, applied.image.as_deref()),
        };
        self.delete_topics(&delta.deleted_topics)?;
        let alive = alive(image);
        let view = View {
            image,
            broker_epoch,
            alive: &alive,
        };
        if delta.brokers.is_empty() {
            for topic in &delta.topics {
                self.apply_topic(&view, *topic)?;
            }
        } else {
            // Who is alive concerns every partition that is led here.
            self.make_missing(&view, &delta.topics)?;
            self.each(|partition| view.apply(partition));
        }
        let is_first = applied.image.replace(Arc::clone(image)).is_none();
        if applied.broker_epoch.replace(broker_epoch) != Some(broker_epoch) {
            self.serve(broker_epoch);
        }
        drop(applied);
        if is_first {
            self.report_strays();
        }
        Ok(())
    }

    /// The same, awaited on a thread where it may block.
    pub async fn apply_image_on(self: &Arc<Self>, image: Arc<ClusterImage>) -> Result<(), StoreError> {
        let manager = Arc::clone(self);
        let applied = tokio::task::spawn_blocking(move || manager.apply_image(&image)).await;
        applied.unwrap_or_else(|error| Err(StoreError::Failed(format!("metadata was not applied: {error}"))))
    }

    /// Partitions on this disk that the applied image does not assign to this broker. They are
    /// reported, never deleted by themselves (R12).
    pub fn strays(&self) -> Vec<TopicIdPartition> {
        let applied = self.applied.lock();
        let Some(image) = &applied.image else {
            return Vec::new();
        };
        let mut strays: Vec<_> = self.partitions().iter().map(|partition| partition.id()).collect();
        let local = self.context.local;
        strays.retain(|id| {
            let known = image.partition(*id);
            known.is_none_or(|registration| !registration.replicas.contains(&local))
        });
        strays.sort_unstable();
        strays
    }

    fn report_strays(&self) {
        for id in self.strays() {
            let Some(partition) = self.partition(id) else {
                continue;
            };
            let state = partition.state.lock();
            let log = state.replica.log();
            tracing::warn!(
                topic_id = %id.topic_id,
                partition = %id.partition,
                log_start = %log.log_start(),
                log_end = %log.log_end(),
                records = log.log_end().0.saturating_sub(log.log_start().0),
                "a replica on this disk is not assigned to this broker; it is kept and takes up space"
            );
        }
    }

    fn make_missing(&self, view: &View<'_>, topics: &[TopicId]) -> Result<(), StoreError> {
        for topic in topics.iter().filter_map(|topic| view.image.topic(*topic)) {
            for (id, registration) in topic.iter() {
                if registration.replicas.contains(&self.context.local) && self.partition(id).is_none() {
                    self.make(id)?;
                }
            }
        }
        Ok(())
    }

    fn apply_topic(&self, view: &View<'_>, topic: TopicId) -> Result<(), StoreError> {
        self.make_missing(view, &[topic])?;
        let Some(topic) = view.image.topic(topic) else {
            return Ok(());
        };
        for (id, _) in topic.iter() {
            if let Some(partition) = self.partition(id) {
                view.apply(&partition);
            }
        }
        Ok(())
    }

    fn make(&self, id: TopicIdPartition) -> Result<(), StoreError> {
        let store = &self.context.store;
        let local = store.create(id)?;
        let log = log_state(store.load(local)?);
        let context = &self.context;
        let replica = Replica::new(context.local, log, context.settings, context.now());
        self.insert(Partition::new(id, local, replica, Arc::clone(context)));
        Ok(())
    }

    fn delete_topics(&self, topics: &[TopicId]) -> Result<(), StoreError> {
        let gone = self
            .partitions()
            .into_iter()
            .filter(|partition| topics.contains(&partition.id().topic_id));
        for partition in gone {
            tracing::info!(partition = %partition.id(), "deleting: its topic was deleted");
            partition.retire();
            self.remove(&partition);
            (self.context.hooks.role_changed)(RoleChange {
                partition: partition.id(),
                role: Role::Deleted,
            });
            self.context.store.delete(partition.local)?;
        }
        Ok(())
    }
}

struct View<'a> {
    image: &'a ClusterImage,
    broker_epoch: BrokerEpoch,
    alive: &'a BTreeMap<BrokerId, BrokerEpoch>,
}

impl View<'_> {
    fn apply(&self, partition: &Arc<Partition>) {
        let Some(registration) = self.image.partition(partition.id()) else {
            return;
        };
        partition.apply(&Assignment {
            registration,
            broker_epoch: self.broker_epoch,
            metadata_index: self.image.index.0,
            alive: self.alive,
        });
    }
}

/// The brokers that may be in an ISR, with their epochs.
fn alive(image: &ClusterImage) -> BTreeMap<BrokerId, BrokerEpoch> {
    let active = image.brokers.values().filter(|broker| broker.is_active());
    active.map(|broker| (broker.id, broker.epoch)).collect()
}

/// A first image, or the first of a new registration: all is new, and only a topic that was seen
/// before can have been deleted.
fn everything(image: &ClusterImage, before: Option<&ClusterImage>) -> ImageDelta {
    ImageDelta {
        brokers: image.brokers.keys().copied().collect(),
        topics: image.topics().map(|topic| topic.id).collect(),
        deleted_topics: before
            .map(|before| image.delta_since(before).deleted_topics)
            .unwrap_or_default(),
    }
}
