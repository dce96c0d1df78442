//! Appending, and waiting for the acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use tidelog_log::{Append, BatchToAppend};
use tidelog_record::Batch;
use tidelog_replica::{AppendRequest, Appended};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::context::DiskUse;
use super::partition::{Partition, State, Waiter, indeterminate};

/// When a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// On stable storage on every in-sync replica, at least min.insync.replicas of them.
    All,
    /// On the leader's stable storage.
    Leader,
    /// When the leader took it.
    None,
}

/// Room for bytes that are produced and not yet written; from [`super::ReplicaManager::reserve`].
#[derive(Debug)]
pub struct AppendPermit(pub(crate) OwnedSemaphorePermit);

/// A batch to append.
#[derive(Debug)]
pub struct Produce {
    /// The leader epoch the client believes in; `None` skips the check.
    pub leader_epoch: Option<LeaderEpoch>,
    /// A validated batch, base offset 0.
    pub batch: Batch,
    /// When to answer.
    pub acks: Acks,
    /// Which mark of the disk's room it goes by.
    pub purpose: DiskUse,
    /// Room for it.
    pub permit: AppendPermit,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The epoch of the answering leader.
    pub leader_epoch: LeaderEpoch,
    /// The log start offset.
    pub log_start: Offset,
    /// Whether it had been stored before (R9).
    pub duplicate: bool,
}

/// The answer to come of a batch that was appended. Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "the batch is acknowledged only by what this resolves to"]
pub struct ProduceCompletion {
    produced: Produced,
    done: Option<oneshot::Receiver<Result<(), PartitionError>>>,
}

impl ProduceCompletion {
    /// Where the batch stands if it is acknowledged.
    pub fn produced(&self) -> Produced {
        self.produced
    }

    /// Waits for the acknowledgement. Every error from here on is indeterminate: the batch may or
    /// may not stay.
    pub async fn wait(self, timeout: Duration) -> Result<Produced, PartitionError> {
        let Some(done) = self.done else {
            return Ok(self.produced);
        };
        match tokio::time::timeout(timeout, done).await {
            Ok(Ok(Ok(()))) => Ok(self.produced),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(indeterminate("the broker is stopping")),
            Err(_) => {
                let message = format!(
                    "not acknowledged within {} ms; the records may or may not have been written",
                    timeout.as_millis()
                );
                Err(PartitionError::new(ErrorCode::RequestTimedOut, message))
            }
        }
    }
}

impl Partition {
    /// Gives a batch its offsets and enqueues it; never waits. Batches stand in the order of the
    /// calls. An error means that nothing was appended, but for NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    /// then it was, by an earlier call.
    pub fn append(self: &Arc<Self>, produce: Produce) -> Result<ProduceCompletion, PartitionError> {
        let request = AppendRequest {
            leader_epoch: produce.leader_epoch,
            batch: (&produce.batch.info()).into(),
            acks_all: produce.acks == Acks::All,
        };
        let mut state = self.state.lock();
        self.check(&state)?;
        let size_bytes = request.batch.size_bytes as usize;
        let disk = &self.context.hooks.disk;
        // What is stored already takes no room, and must not be said not to be.
        if !disk.admits(produce.purpose, size_bytes) && !state.replica.is_duplicate(&request.batch) {
            let message = format!(
                "the disk of broker {} is filled up to its reserve: delete topics or enlarge it; reads go on",
                self.context.local
            );
            return Err(PartitionError::new(ErrorCode::DiskFull, message));
        }
        let appended = state.replica.append(&request, self.context.now())?;
        let log_start = state.replica.log().log_start();
        let (produced, end) = match appended {
            Appended::New {
                info,
                epoch,
                producer,
            } => {
                disk.taken(size_bytes);
                let batch = produce.batch.assign(info.base_offset, info.leader_epoch);
                state.unwritten.push_back((info.end_offset(), produce.permit.0));
                self.context.store.append(Append {
                    partition: self.local,
                    batches: vec![BatchToAppend {
                        info,
                        bytes: batch.into_bytes(),
                    }],
                    epochs: epoch.into_iter().collect(),
                    producers: producer.into_iter().collect(),
                });
                let (base_offset, leader_epoch) = (info.base_offset, info.leader_epoch);
                (
                    Produced {
                        base_offset,
                        leader_epoch,
                        log_start,
                        duplicate: false,
                    },
                    info.end_offset(),
                )
            }
            Appended::Duplicate {
                base_offset,
                end,
                leader_epoch,
            } => (
                Produced {
                    base_offset,
                    leader_epoch,
                    log_start,
                    duplicate: true,
                },
                end,
            ),
        };
        self.tick_later(&mut state);
        let done = state.completion(produce.acks, end);
        Ok(ProduceCompletion { produced, done })
    }
}

impl State {
    fn completion(
        &mut self,
        acks: Acks,
        end: Offset,
    ) -> Option<oneshot::Receiver<Result<(), PartitionError>>> {
        let log = self.replica.log();
        let (waiters, reached) = match acks {
            Acks::None => return None,
            Acks::All => (&mut self.committed, log.high_watermark()),
            Acks::Leader => (&mut self.stored, log.durable_end()),
        };
        if reached >= end {
            return None;
        }
        let (done, receiver) = oneshot::channel();
        waiters.push(Waiter { end, done });
        Some(receiver)
    }
}
