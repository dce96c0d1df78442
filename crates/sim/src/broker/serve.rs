//! Clients' questions: consumers' reads above all.

use std::time::Duration;

use tidelog_history::What;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, TopicIdPartition};

use super::partition::ParkedFetch;
use super::{PendingRead, Process, Timer};
use crate::context::Context;
use crate::message::{Address, Answer, Ask, Message};

impl Process {
    /// A client asks something.
    pub(super) fn ask(&mut self, from: Address, id: u64, ask: Ask, context: &mut Context) {
        match ask {
            Ask::Metadata => {
                let topics = self.applied.image.topics();
                let partitions = topics.flat_map(|topic| topic.iter());
                let leaders = partitions.map(|(id, known)| (id, known.leader, known.leader_epoch));
                let answer = Answer::Metadata(leaders.collect());
                self.answer(from, id, answer, context);
            }
            Ask::InitProducer => self.init_producer(from, id, context),
            Ask::Fetch {
                partition,
                leader_epoch,
                offset,
                max_batches,
                max_wait,
            } => {
                let fetch = ParkedFetch {
                    asker: from,
                    id,
                    leader_epoch,
                    offset,
                    max_batches,
                    deadline: context.now + max_wait,
                };
                self.fetch(partition, fetch, context);
            }
            Ask::Ends {
                partition,
                leader_epoch,
            } => {
                let answer = self.ends(partition, leader_epoch, context);
                self.answer_or_refuse(from, id, answer, context);
            }
            Ask::Trim { partition, back } => {
                let answer = self.trim(partition, back, context);
                self.answer_or_refuse(from, id, answer, context);
            }
            Ask::Commit {
                group,
                member,
                offsets,
            } => self.commit(from, id, group, member, offsets, context),
            Ask::DeleteGroup(group) => self.delete_group(from, id, group, context),
            Ask::Offsets {
                group,
                member,
                partition,
            } => {
                let answer = self.committed(&group, member.as_ref(), partition, context);
                self.answer_or_refuse(from, id, answer, context);
            }
        }
    }

    pub(super) fn answer(&self, to: Address, id: u64, answer: Answer, context: &mut Context) {
        context.send(
            self.address,
            to.site,
            Some(to.life),
            Message::Answer { id, answer },
        );
    }

    pub(super) fn answer_or_refuse(
        &self,
        to: Address,
        id: u64,
        answer: Result<Answer, PartitionError>,
        context: &mut Context,
    ) {
        let answer = answer.unwrap_or_else(Answer::Refused);
        self.answer(to, id, answer, context);
    }

    fn fetch(&mut self, id: TopicIdPartition, fetch: ParkedFetch, context: &mut Context) {
        let bounds = self.target(id).and_then(|partition| {
            self.check_serving(context)?;
            partition.replica.consumer_read(fetch.leader_epoch, fetch.offset)
        });
        let read = match bounds {
            Ok(read) => read,
            Err(error) => return self.answer(fetch.asker, fetch.id, Answer::Refused(error), context),
        };
        if read.until <= read.from && context.now < fetch.deadline {
            if let Some(partition) = self.replicas.get_mut(&id) {
                partition.parked.push(fetch);
            }
            return;
        }
        let pending = PendingRead {
            asker: fetch.asker,
            id: fetch.id,
            partition: id,
            read,
            max_batches: fetch.max_batches,
            batches: None,
        };
        self.read_later(pending, context);
    }

    /// A read of memory is done at once, one of the disk later, and looked at later still.
    fn read_later(&mut self, read: PendingRead, context: &mut Context) {
        let random = &mut context.random;
        let after = match random.below(100) {
            0..85 => return self.finish_read(read, context),
            85..95 => random.micros(100, 3000),
            _ => random.millis(5, 400),
        };
        self.plan(after, Timer::Read(Box::new(read)), context);
    }

    pub(super) fn finish_read(&mut self, mut read: PendingRead, context: &mut Context) {
        let bounds = read.read;
        if read.batches.is_none() {
            let batches = self
                .disk
                .read(read.partition, bounds.from, bounds.until, read.max_batches);
            read.batches = Some(batches);
            if context.random.per_mille(100) {
                let after = context.random.micros(50, 50_000);
                self.plan(after, Timer::Read(Box::new(read)), context);
                return;
            }
        }
        let batches = read.batches.unwrap_or_default();
        // A deposed or fenced leader that noticed only while it read does not serve the past as the
        // present.
        let checked = self.target(read.partition).and_then(|partition| {
            self.check_serving(context)?;
            let epoch = Some(bounds.leader_epoch);
            partition.replica.consumer_read(epoch, bounds.from)
        });
        if let Err(error) = checked {
            return self.answer(read.asker, read.id, Answer::Refused(error), context);
        }
        let next = batches
            .last()
            .map_or(bounds.from, |batch| batch.info.end_offset());
        if !batches.is_empty() {
            context.record(What::Serves {
                broker: self.broker,
                partition: read.partition,
                until: next,
            });
        }
        let answer = Answer::Fetched {
            batches,
            log_start: bounds.log_start,
            leader_epoch: bounds.leader_epoch,
            next: next.max(bounds.from),
        };
        self.answer(read.asker, read.id, answer, context);
    }

    fn ends(
        &self,
        id: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
        context: &mut Context,
    ) -> Result<Answer, PartitionError> {
        let partition = self.target(id)?;
        self.check_serving(context)?;
        let (start, _) = partition.replica.earliest_offset(epoch)?;
        let (end, leader_epoch) = partition.replica.latest_offset(epoch)?;
        for offset in [start, end] {
            context.record(What::TellsOffset {
                broker: self.broker,
                partition: id,
                offset,
            });
        }
        Ok(Answer::Ends {
            start,
            end,
            leader_epoch,
        })
    }

    fn trim(
        &mut self,
        id: TopicIdPartition,
        back: u64,
        context: &mut Context,
    ) -> Result<Answer, PartitionError> {
        self.target(id)?;
        self.check_serving(context)?;
        let Some(partition) = self.replicas.get_mut(&id) else {
            return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, "gone"));
        };
        let log = partition.replica.log();
        let wanted = Offset(log.high_watermark().0.saturating_sub(back)).max(log.log_start());
        // Any offset may be wished for. The log begins with the batch that holds it, as
        // `Replica::trim` asks.
        let holding = self.disk.read(id, wanted, Offset::MAX, 1);
        let log_start = holding
            .first()
            .map_or(wanted, |batch| batch.info.base_offset.max(log.log_start()));
        let effects = partition.replica.trim(log_start)?;
        self.perform(id, effects, context);
        Ok(Answer::Done)
    }

    /// Something changed for consumers that wait: they look again.
    pub(super) fn wake_readers_soon(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        if !partition.parked.is_empty() && !partition.is_waking {
            partition.is_waking = true;
            self.plan(Duration::from_micros(10), Timer::WakeReaders(id), context);
        }
    }

    pub(super) fn wake_readers(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        partition.is_waking = false;
        for fetch in std::mem::take(&mut partition.parked) {
            self.fetch(id, fetch, context);
        }
    }

    pub(super) fn expire_fetches(&mut self, context: &mut Context) {
        let now = context.now;
        let mut late = Vec::new();
        for (id, partition) in &mut self.replicas {
            let over = partition.parked.extract_if(.., |fetch| fetch.deadline <= now);
            late.extend(over.map(|fetch| (*id, fetch)));
        }
        for (id, fetch) in late {
            self.fetch(id, fetch, context);
        }
    }
}
