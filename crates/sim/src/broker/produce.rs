//! Appending, and answering for it.

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::{Accepted, Command};
use tidelog_history::What;
use tidelog_history::event::Entry;
use tidelog_replica::{AppendRequest, Appended, NewBatch};
use tidelog_types::{
    BatchInfo, ErrorCode, LeaderEpoch, Offset, PartitionError, ProducerId, TopicIdPartition,
};

use super::Process;
use super::metadata::{Fate, Purpose};
use super::partition::Waiter;
use crate::context::Context;
use crate::disk::{Batch, Write};
use crate::message::{Address, Answer, Message, Payload};
use crate::network::Handle;

/// A produce as it came in.
#[derive(Debug)]
pub(super) struct Produce {
    pub(super) handle: Handle,
    pub(super) attempt: u64,
    pub(super) partition: TopicIdPartition,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    pub(super) payload: Arc<Payload>,
    pub(super) timeout: Duration,
}

/// The producer ids that this broker may give away.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: u64,
    end: u64,
    asking: Vec<(Address, u64)>,
}

impl Process {
    /// A client's batch: appended, or found there already.
    pub(super) fn produce(&mut self, produce: Produce, context: &mut Context) {
        let request = AppendRequest {
            leader_epoch: produce.leader_epoch,
            batch: NewBatch {
                offset_count: produce.payload.values.len() as u64,
                max_timestamp_ms: (context.now.as_millis() as i64) + 1,
                size_bytes: 100,
                producer: produce.payload.stamp,
            },
            acks_all: true,
        };
        let (attempt, handle) = (produce.attempt, produce.handle);
        match self.append(produce.partition, &request, context) {
            Ok(appended) => self.appended(produce, &appended, context),
            Err(error) => {
                if error.code == ErrorCode::NotEnoughReplicas {
                    context.history.seen.under_min_isr += 1;
                }
                let result = Err(error);
                context.say(handle, Message::Produced { attempt, result });
            }
        }
    }

    fn append(
        &mut self,
        id: TopicIdPartition,
        request: &AppendRequest,
        context: &Context,
    ) -> Result<Appended, PartitionError> {
        let now = self.local(context);
        self.target(id)?;
        self.check_serving(context)?;
        let partition = self.replicas.get_mut(&id);
        let partition =
            partition.ok_or_else(|| PartitionError::new(ErrorCode::NotLeaderOrFollower, "gone"))?;
        let appended = partition.replica.append(request, now);
        self.tick_later(id);
        appended
    }

    fn appended(&mut self, produce: Produce, appended: &Appended, context: &mut Context) {
        let id = produce.partition;
        let (base_offset, end, leader_epoch) = match appended {
            Appended::New { info, .. } => {
                let entry = Arc::new(Entry {
                    base_offset: info.base_offset,
                    leader_epoch: info.leader_epoch,
                    values: produce.payload.values.clone(),
                    producer: info.producer,
                });
                self.store(id, appended, entry, None, context);
                (info.base_offset, info.end_offset(), info.leader_epoch)
            }
            Appended::Duplicate {
                base_offset,
                end,
                leader_epoch,
            } => {
                context.history.seen.duplicates += 1;
                (*base_offset, *end, *leader_epoch)
            }
        };
        let waiter = Waiter {
            end,
            handle: produce.handle,
            attempt: produce.attempt,
            base_offset,
            payload: produce.payload,
            leader_epoch,
            deadline: context.now + produce.timeout,
        };
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        if partition.replica.log().high_watermark() >= end {
            self.acknowledge(id, &waiter, context);
        } else {
            partition.wait(waiter);
        }
    }

    /// Enqueues what was appended with what changed by it.
    fn store(
        &mut self,
        id: TopicIdPartition,
        appended: &Appended,
        entry: Arc<Entry>,
        records: Option<Arc<Vec<tidelog_group::Record>>>,
        context: &mut Context,
    ) {
        let Appended::New {
            info,
            epoch,
            producer,
        } = appended
        else {
            return;
        };
        let batch = Batch {
            info: *info,
            entry: Arc::clone(&entry),
            records,
        };
        let write = Write::Append {
            batches: vec![batch],
            epochs: epoch.iter().copied().collect(),
            producers: producer.iter().cloned().collect(),
        };
        self.disk.enqueue(id, write);
        context.record(What::Appended {
            broker: self.broker,
            partition: id,
            entry,
            leading: true,
        });
    }

    /// Appends a coordinator's records, in the epoch that it serves in. Answers where they end.
    pub(super) fn append_records(
        &mut self,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        records: Vec<tidelog_group::Record>,
        context: &mut Context,
    ) -> Result<Offset, PartitionError> {
        let request = AppendRequest {
            leader_epoch: Some(epoch),
            batch: NewBatch {
                offset_count: records.len() as u64,
                max_timestamp_ms: (context.now.as_millis() as i64) + 1,
                size_bytes: 100,
                producer: None,
            },
            acks_all: true,
        };
        let appended = self.append(id, &request, context)?;
        let Appended::New { info, .. } = &appended else {
            let message = "records without a producer are no duplicates";
            return Err(PartitionError::new(ErrorCode::UnknownServerError, message));
        };
        let info: BatchInfo = *info;
        let entry = Arc::new(Entry {
            base_offset: info.base_offset,
            leader_epoch: info.leader_epoch,
            values: records.iter().map(|_| context.internal_value()).collect(),
            producer: None,
        });
        self.store(id, &appended, entry, Some(Arc::new(records)), context);
        Ok(info.end_offset())
    }

    /// Answers a produce that is stored.
    pub(super) fn acknowledge(&mut self, id: TopicIdPartition, waiter: &Waiter, context: &mut Context) {
        context.record(What::Acknowledges {
            broker: self.broker,
            partition: id,
            base_offset: waiter.base_offset,
            values: waiter.payload.values.clone(),
        });
        let answer = Message::Produced {
            attempt: waiter.attempt,
            result: Ok((waiter.base_offset, waiter.leader_epoch)),
        };
        context.say(waiter.handle, answer);
    }

    /// Answers produces that waited for too long.
    pub(super) fn expire_produces(&mut self, context: &mut Context) {
        for partition in self.replicas.values_mut() {
            let late: Vec<_> = partition
                .waiters
                .extract_if(.., |waiter| waiter.deadline <= context.now)
                .collect();
            for waiter in late {
                let error = PartitionError::new(ErrorCode::RequestTimedOut, "not acknowledged in time");
                let (attempt, result) = (waiter.attempt, Err(error));
                context.say(waiter.handle, Message::Produced { attempt, result });
            }
        }
    }

    /// Gives a producer an id.
    pub(super) fn init_producer(&mut self, asker: Address, id: u64, context: &mut Context) {
        self.producer_ids.asking.push((asker, id));
        if self.producer_ids.next < self.producer_ids.end {
            self.give_producer_ids(context);
        } else if self.producer_ids.asking.len() == 1
            && let Some(incarnation) = self.incarnation()
        {
            let (command, timeout) = (Command::AllocateProducerIds(incarnation), Duration::from_secs(5));
            self.propose(command, Purpose::ProducerIds, timeout, context);
        } else if self.incarnation().is_none() {
            self.refuse_producer_ids(context);
        }
    }

    pub(super) fn producer_ids_fated(&mut self, fate: Fate, context: &mut Context) {
        if let Some(Ok(Accepted::ProducerIdsAllocated { first, count })) = fate.map(|outcome| outcome.result)
        {
            (self.producer_ids.next, self.producer_ids.end) = (first.0, first.0 + count);
            self.give_producer_ids(context);
        } else {
            self.refuse_producer_ids(context);
        }
    }

    fn give_producer_ids(&mut self, context: &mut Context) {
        for (asker, id) in std::mem::take(&mut self.producer_ids.asking) {
            let producer = ProducerId(self.producer_ids.next);
            self.producer_ids.next += 1;
            self.answer(asker, id, Answer::Producer(producer), context);
        }
    }

    fn refuse_producer_ids(&mut self, context: &mut Context) {
        for (asker, id) in std::mem::take(&mut self.producer_ids.asking) {
            let error = PartitionError::new(ErrorCode::LeaderNotAvailable, "no producer id can be had now");
            self.answer(asker, id, Answer::Refused(error), context);
        }
    }
}
