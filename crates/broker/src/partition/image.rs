//! Cluster metadata, applied to this broker's replicas.

use std::sync::Arc;

use tidelog_cluster::image::ClusterImage;
use tidelog_cluster::plan::{Plan, Show};
use tidelog_log::StoreError;
use tidelog_replica::{Assignment, Replica};
use tidelog_types::{TopicId, TopicIdPartition};

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
        let mut applied = self.applied.lock();
        let exists = |id| self.partition(id).is_some();
        let Some(plan) = applied.plan(image, self.context.local, self.broker_epoch(), exists) else {
            return Ok(());
        };
        self.delete_topics(&plan.delete)?;
        for id in &plan.make {
            self.make(*id)?;
        }
        match &plan.show {
            Show::All => self.each(|partition| show(partition, image, &plan)),
            Show::These(ids) => {
                for partition in ids.iter().filter_map(|id| self.partition(*id)) {
                    show(&partition, image, &plan);
                }
            }
        }
        let is_first = applied.done(Arc::clone(image), &plan);
        self.serve(plan.broker_epoch);
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
        let Some(image) = applied.image() else {
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

/// Shows a replica its registration, if the image has one.
fn show(partition: &Arc<Partition>, image: &ClusterImage, plan: &Plan) {
    if let Some(registration) = image.partition(partition.id()) {
        partition.apply(&Assignment {
            registration,
            broker_epoch: plan.broker_epoch,
            metadata_index: image.index.0,
            alive: &plan.alive,
        });
    }
}
