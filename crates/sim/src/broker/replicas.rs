//! What this broker holds: replicas recovered, images applied to them, fenced and served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::ClusterImage;
use tidelog_cluster::plan::{Applied, Plan, Show, Standing};
use tidelog_history::What;
use tidelog_replica::{Assignment, Replica};
use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, PartitionError, TopicId, TopicIdPartition};

use super::partition::Partition;
use super::{Process, Timer};
use crate::context::Context;
use crate::disk::Write;
use crate::message::Message;

const TICK_INTERVAL: Duration = Duration::from_millis(500);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
const DERIVED_INTERVAL: Duration = Duration::from_secs(10);

/// The standing of all replicas together.
#[derive(Debug, Default)]
pub(super) struct Manager {
    /// Whether acknowledgements and reads go out (R3).
    standing: Standing,
    applied: Applied,
    /// The registration that the replicas were last told of.
    noted: Option<BrokerEpoch>,
    is_following: bool,
    tick_at: Duration,
    checkpoint_at: Duration,
    derived_at: Duration,
    /// When each broker last gave a sign of life on its replication stream, by this process's
    /// clock.
    heard: BTreeMap<BrokerId, Duration>,
    /// Those of which none came for too long.
    silent: BTreeSet<BrokerId>,
    /// Partitions that time must look after.
    ticking: Vec<TopicIdPartition>,
}

impl Process {
    /// Takes over what the disk holds: every replica is offline until cluster metadata is applied.
    pub(super) fn recover(&mut self, context: &mut Context) {
        let now = self.local(context);
        for id in self.disk.partitions() {
            let state = self.disk.load(id);
            context.record(What::Recovered {
                broker: self.broker,
                partition: id,
                log_start: state.log_start,
                log: self.disk.entries(id),
            });
            let replica = Replica::new(self.broker, state, context.config.replica, now);
            let (high_watermark, epoch) = (replica.log().high_watermark(), replica.leader().1);
            if high_watermark > replica.log().log_start() {
                context.record(What::HighWatermark {
                    broker: self.broker,
                    partition: id,
                    epoch,
                    to: high_watermark,
                    leading: false,
                });
            }
            self.replicas.insert(id, Partition::new(replica));
            self.note_derived(id, context);
        }
        self.manager.checkpoint_at = context.now + CHECKPOINT_INTERVAL;
        self.manager.derived_at = context.now + DERIVED_INTERVAL;
    }

    /// Whether nothing may be acknowledged or read here.
    pub(super) fn check_serving(&self, context: &Context) -> Result<(), PartitionError> {
        if !self.manager.standing.serves() || !self.session_lasts(context) {
            let message = "this broker is cut off from the cluster";
            return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, message));
        }
        Ok(())
    }

    /// A partition to serve from, or the refusal that a client gets.
    pub(super) fn target(&self, id: TopicIdPartition) -> Result<&Partition, PartitionError> {
        self.replicas.get(&id).ok_or_else(|| {
            let message = "this broker has no replica of the partition";
            PartitionError::new(ErrorCode::NotLeaderOrFollower, message)
        })
    }

    /// The metadata or this broker's standing changed: the replicas hear of it a little later.
    pub(super) fn follow_soon(&mut self, context: &mut Context) {
        if self.manager.is_following {
            return;
        }
        self.manager.is_following = true;
        let random = &mut context.random;
        let after = match random.below(100) {
            0..90 => random.micros(20, 1000),
            90..98 => random.millis(1, 40),
            _ => random.millis(100, 900),
        };
        self.plan(after, Timer::Follow, context);
    }

    pub(super) fn metadata_moved(&mut self, context: &mut Context) {
        self.follow_sessions(context);
        self.follow_soon(context);
    }

    pub(super) fn follow(&mut self, context: &mut Context) {
        self.manager.is_following = false;
        let epoch = self.registration.epoch();
        if self.manager.noted != epoch {
            self.manager.noted = epoch;
            match epoch {
                Some(epoch) => self.registered_as(epoch, context),
                None => self.fence_replicas(context),
            }
        }
        let image = Arc::clone(&self.applied.image);
        self.note_topics(&image, context);
        self.apply_image(&image, context);
    }

    /// From now on nothing is acknowledged and nothing read, until this broker is registered anew.
    pub(super) fn fence_replicas(&mut self, context: &mut Context) {
        self.manager.standing.fence();
        self.fail_what_waits(context);
    }

    fn registered_as(&mut self, epoch: BrokerEpoch, context: &mut Context) {
        if self.manager.standing.registered(epoch) {
            self.fail_what_waits(context);
            self.advance_links(context);
        }
    }

    fn fail_what_waits(&mut self, context: &mut Context) {
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        for id in ids {
            self.fail_produces(id, "this broker was cut off from the cluster", context);
            self.wake_readers_soon(id, context);
            self.wake_followers(id, context);
        }
    }

    /// The epoch of this broker's registration, as its replicas know it.
    pub(super) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.manager.standing.broker_epoch()
    }

    fn apply_image(&mut self, image: &Arc<ClusterImage>, context: &mut Context) {
        let exists = |id| self.replicas.contains_key(&id);
        let Some(plan) = self
            .manager
            .applied
            .plan(image, self.broker, self.broker_epoch(), exists)
        else {
            return;
        };
        self.delete_topics(&plan.delete, context);
        for id in &plan.make {
            self.make(*id, context);
        }
        let shown = match &plan.show {
            Show::All => self.replicas.keys().copied().collect(),
            Show::These(ids) => ids.clone(),
        };
        for id in shown {
            self.show(id, image, &plan, context);
        }
        self.manager.applied.done(Arc::clone(image), &plan);
        self.manager.standing.applied(plan.broker_epoch);
    }

    /// Shows a replica its registration, if it is here and the image has one.
    fn show(&mut self, id: TopicIdPartition, image: &ClusterImage, plan: &Plan, context: &mut Context) {
        let now = self.local(context);
        let (Some(partition), Some(registration)) = (self.replicas.get_mut(&id), image.partition(id)) else {
            return;
        };
        let assignment = Assignment {
            registration,
            broker_epoch: plan.broker_epoch,
            metadata_index: image.index.0,
            alive: &plan.alive,
        };
        let effects = partition.replica.apply(&assignment, now);
        self.perform(id, effects, context);
    }

    fn make(&mut self, id: TopicIdPartition, context: &Context) {
        self.disk.create(id);
        let now = self.local(context);
        let replica = Replica::new(self.broker, self.disk.load(id), context.config.replica, now);
        self.replicas.insert(id, Partition::new(replica));
    }

    fn delete_topics(&mut self, topics: &[TopicId], context: &mut Context) {
        let gone: Vec<_> = self
            .replicas
            .keys()
            .filter(|id| topics.contains(&id.topic_id))
            .copied()
            .collect();
        for id in gone {
            let Some(partition) = self.replicas.remove(&id) else {
                continue;
            };
            for waiter in partition.waiters {
                let error = PartitionError::new(ErrorCode::UnknownTopicOrPartition, "the topic was deleted");
                let (attempt, result) = (waiter.attempt, Err(error));
                context.say(waiter.handle, Message::Produced { attempt, result });
            }
            self.resign(id, context);
            self.disk.delete(id);
        }
    }

    pub(super) fn heard_from(&mut self, broker: BrokerId, context: &Context) {
        let now = self.local(context);
        self.manager.heard.insert(broker, now);
    }

    pub(super) fn tick_replicas(&mut self, context: &mut Context) {
        self.expire_produces(context);
        self.expire_fetches(context);
        if self.manager.tick_at <= context.now {
            self.manager.tick_at = context.now + TICK_INTERVAL;
            if self.fell_silent(context) {
                // Rare: its idle partitions must be looked at too, once.
                let ids: Vec<_> = self.replicas.keys().copied().collect();
                for id in ids {
                    self.tick_replica(id, context);
                }
            }
            let mut staying = std::mem::take(&mut self.manager.ticking);
            staying.retain(|id| self.tick_replica(*id, context));
            self.manager.ticking.append(&mut staying);
        }
        if self.manager.checkpoint_at <= context.now {
            self.manager.checkpoint_at = context.now + CHECKPOINT_INTERVAL;
            self.checkpoint();
        }
        if self.manager.derived_at <= context.now {
            self.manager.derived_at = context.now + DERIVED_INTERVAL;
            let ids: Vec<_> = self.replicas.keys().copied().collect();
            for id in ids {
                self.note_derived(id, context);
            }
        }
    }

    /// Puts a partition on the list that the timer visits, if time has something to do with it.
    pub(super) fn tick_later(&mut self, id: TopicIdPartition) {
        if let Some(partition) = self.replicas.get_mut(&id)
            && !partition.is_ticking
            && partition.replica.needs_tick()
        {
            partition.is_ticking = true;
            self.manager.ticking.push(id);
        }
    }

    /// Whether it is to be looked at again.
    fn tick_replica(&mut self, id: TopicIdPartition, context: &mut Context) -> bool {
        let now = self.local(context);
        let Some(partition) = self.replicas.get_mut(&id) else {
            return false;
        };
        let heard = &self.manager.heard;
        let heard = |broker: BrokerId| heard.get(&broker).copied().unwrap_or_default();
        let effects = partition.replica.tick(now, &heard);
        self.perform(id, effects, context);
        let Some(partition) = self.replicas.get_mut(&id) else {
            return false;
        };
        partition.is_ticking = partition.replica.needs_tick();
        partition.is_ticking
    }

    /// Whether a broker fell silent since the last time.
    fn fell_silent(&mut self, context: &Context) -> bool {
        let (now, longest) = (self.local(context), context.config.replica.lag_time_max);
        let Manager { heard, silent, .. } = &mut self.manager;
        let mut newly = false;
        for (broker, heard) in heard {
            if now.saturating_sub(*heard) > longest {
                newly |= silent.insert(*broker);
            } else {
                silent.remove(broker);
            }
        }
        newly
    }

    /// Notes the high watermarks that moved.
    fn checkpoint(&mut self) {
        for (id, partition) in &mut self.replicas {
            if std::mem::take(&mut partition.to_checkpoint) {
                let offset = partition.replica.log().high_watermark();
                self.disk.enqueue(*id, Write::Checkpoint(offset));
            }
        }
    }
}
