//! One partition as the driver sees it: its queue, its line, and the batches that the line speaks
//! of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_producer::{Answer, BatchId, Cause, Effect, Line, NewBatch, Why};
use tidelog_record::{Batch, BatchBuilder, BuildError};
use tidelog_types::{BrokerId, ErrorCode, LeaderEpoch, ProducerStamp, TopicPartition};

use super::delivery::Settler;
use super::driver::Context;
use super::links::{Outcome, Outgoing, Route};
use super::queue::{PartitionQueue, TakeRule, Taken};
use super::topics::Topic;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Refusal;
use crate::wire::produce::BatchToProduce;

/// How long a partition without a leader waits before metadata is asked for again.
const NO_LEADER_PAUSE: Duration = Duration::from_millis(100);

/// While a leader's stream is being opened, how often metadata is asked for another one.
const OPENING_PAUSE: Duration = Duration::from_millis(500);

/// A partition that something was enqueued for.
#[derive(Debug)]
pub(crate) struct Partition {
    queue: Arc<PartitionQueue>,
    topic: Arc<Topic>,
    pub(crate) line: Line<Error>,
    batches: HashMap<BatchId, Flying>,
    next_batch: BatchId,
    leader: Option<(BrokerId, LeaderEpoch)>,
    /// The timer that is set for it.
    wake: Option<Duration>,
}

#[derive(Debug)]
struct Flying {
    payload: Payload,
    record_count: u32,
    settler: Settler,
}

#[derive(Debug)]
enum Payload {
    /// Never sent: sealed when it has its sequence.
    Open(BatchBuilder),
    Sealed(Batch),
}

/// Where the batches of one visit go.
struct Leader<'a> {
    address: &'a str,
    epoch: LeaderEpoch,
}

impl Partition {
    pub(crate) fn new(queue: Arc<PartitionQueue>, topic: Arc<Topic>, line: Line<Error>) -> Self {
        Self {
            queue,
            topic,
            line,
            batches: HashMap::new(),
            next_batch: 0,
            leader: None,
            wake: None,
        }
    }

    /// Whether anything is to be sent, or on its way.
    pub(crate) fn has_work(&self) -> bool {
        !self.line.is_empty() || self.queue.oldest().is_some()
    }

    /// Does everything that can be done now, and sets the timer for the rest.
    pub(crate) fn visit(&mut self, context: &mut Context) {
        let now = context.now();
        let expired = self.line.expire(now);
        self.perform(expired, None, context);
        self.expire_waiting(context);
        let again = if self.has_work() {
            self.advance(context, now)
        } else {
            None
        };
        let waiting = self
            .queue
            .oldest()
            .map(|at| context.since(at) + context.settings.delivery_timeout);
        let wake = [again, waiting, self.line.next_wake(now)]
            .into_iter()
            .flatten()
            .min();
        context.set_timer(self.queue.id, &mut self.wake, wake);
    }

    /// Its timer rang.
    pub(crate) fn timer_rang(&mut self) {
        self.wake = None;
    }

    /// An attempt came back, or will not.
    pub(crate) fn attempted(&mut self, batch: BatchId, outcome: Outcome, context: &mut Context) {
        let answer = match outcome {
            Outcome::Answered(Ok(base_offset)) => Answer::Stored { base_offset },
            Outcome::Answered(Err(refusal)) => {
                let id = Some(self.topic.id);
                let at_once = context.client.inner.learn(&self.queue.partition, id, &refusal);
                let record_count = self.batches.get(&batch).map_or(1, |flying| flying.record_count);
                let error = explained(refusal, record_count);
                Answer::Refused { error, at_once }
            }
            Outcome::Lost(error) => {
                context.client.inner.metadata.request_refresh();
                Answer::Lost { error }
            }
        };
        let effects = self.line.answered(batch, answer, context.now());
        self.perform(effects, None, context);
    }

    /// Its topic is gone: what is on its way fails, and no timer rings any more.
    pub(crate) fn retire(&mut self, error: &Error, context: &mut Context) {
        self.abort(error);
        context.set_timer(self.queue.id, &mut self.wake, None);
    }

    /// Fails everything that is not settled.
    pub(crate) fn abort(&mut self, error: &Error) {
        for (batch, maybe_written) in self.line.abort() {
            self.settle(batch, Err(error.clone().with_maybe_written(maybe_written)));
        }
    }

    /// Sends what may be sent; tells when to look again if nothing else will say.
    fn advance(&mut self, context: &mut Context, now: Duration) -> Option<Duration> {
        let metadata = Arc::clone(&context.client.inner.metadata);
        let snapshot = metadata.snapshot();
        let TopicPartition { topic, partition } = &self.queue.partition;
        let Some((broker, epoch, address)) = snapshot.leader(topic, self.topic.id, *partition) else {
            self.line.note(&no_leader(&self.queue));
            metadata.want(topic);
            metadata.request_refresh();
            return Some(now + NO_LEADER_PAUSE);
        };
        if self.leader.replace((broker, epoch)) != Some((broker, epoch)) {
            self.line.leader_changed();
        }
        loop {
            match context.links.route(address, self.queue.id, now) {
                Route::Ready => {}
                Route::Wait => return None,
                // Another may lead before that broker is given up.
                Route::Opening => {
                    metadata.request_refresh();
                    return Some(now + OPENING_PAUSE);
                }
                Route::Down { until, error } => {
                    self.line.note(&error);
                    metadata.request_refresh();
                    return Some(until);
                }
            }
            let leader = Leader { address, epoch };
            let again = self.line.resend(now);
            if !again.is_empty() {
                self.perform(again, Some(leader), context);
                continue;
            }
            if !self.line.takes_more(now) {
                return None;
            }
            let rule = TakeRule {
                now: context.instant(now),
                linger: context.settings.linger,
                partial: self.line.takes_partial(),
            };
            match self.queue.take(rule, &self.topic) {
                Taken::Nothing => return None,
                Taken::Lingers(until) => return Some(context.since(until)),
                Taken::Batch(batch) => {
                    let effect = self.begin(batch, context);
                    self.perform(vec![effect], Some(leader), context);
                }
            }
        }
    }

    fn begin(&mut self, batch: super::queue::WaitingBatch, context: &Context) -> Effect<Error> {
        let id = self.next_batch;
        self.next_batch += 1;
        let record_count = batch.builder.record_count();
        let effect = self.line.send(NewBatch {
            id,
            record_count,
            deadline: context.since(batch.opened_at) + context.settings.delivery_timeout,
        });
        let flying = Flying {
            payload: Payload::Open(batch.builder),
            record_count,
            settler: batch.settler,
        };
        self.batches.insert(id, flying);
        effect
    }

    fn perform(&mut self, effects: Vec<Effect<Error>>, leader: Option<Leader<'_>>, context: &mut Context) {
        for effect in effects {
            match effect {
                Effect::Send { batch, stamp } => {
                    let leader = leader.as_ref().expect("batches are sent on a visit to a leader");
                    self.send(batch, stamp, leader, context);
                }
                Effect::Complete { batch, base_offset } => self.settle(batch, Ok(base_offset)),
                Effect::Fail {
                    batch,
                    why,
                    maybe_written,
                } => {
                    let error = failure(why, context.settings.delivery_timeout);
                    self.settle(batch, Err(error.with_maybe_written(maybe_written)));
                }
                Effect::RaiseEpoch(identity) => {
                    tracing::debug!(partition = %self.queue.partition, ?identity, "raising the producer epoch");
                    context.ask_identity(Some((self.queue.id, identity)), Duration::ZERO);
                }
            }
        }
    }

    fn send(
        &mut self,
        batch: BatchId,
        stamp: Option<ProducerStamp>,
        leader: &Leader<'_>,
        context: &mut Context,
    ) {
        let Some(flying) = self.batches.get_mut(&batch) else {
            return;
        };
        match flying.payload.stamped(stamp) {
            Ok(sealed) => {
                flying.settler.sent = true;
                let data = BatchToProduce {
                    partition: self.queue.partition.clone(),
                    topic_id: self.topic.id,
                    leader_epoch: leader.epoch,
                    bytes: sealed.bytes().clone(),
                };
                let queue = self.queue.id;
                context.links.put(leader.address, Outgoing { queue, batch, data });
            }
            Err(error) => {
                let error = Error::invalid(format!("a batch could not be made: {error}"));
                let at_once = false;
                let effects = self
                    .line
                    .answered(batch, Answer::Refused { error, at_once }, context.now());
                self.perform(effects, None, context);
            }
        }
    }

    /// What was never sent and whose time is over.
    fn expire_waiting(&mut self, context: &Context) {
        let Some(than) = context
            .instant(context.now())
            .checked_sub(context.settings.delivery_timeout)
        else {
            return;
        };
        let mut any = false;
        for batch in self.queue.take_older(than) {
            let last = self.line.last_error().cloned();
            let error = failure(Why::TimedOut { last }, context.settings.delivery_timeout);
            let error = error.context(&self.queue.partition);
            batch.settler.settle(Err(error));
            any = true;
        }
        if any {
            self.queue.settled();
        }
    }

    fn settle(&mut self, batch: BatchId, outcome: Result<u64>) {
        if let Some(flying) = self.batches.remove(&batch) {
            let outcome = outcome.map_err(|error| error.context(&self.queue.partition));
            flying.settler.settle(outcome);
            self.queue.settled();
        }
    }
}

impl Payload {
    /// The batch with this stamp: sealed once, and again only if the stamp is another.
    fn stamped(&mut self, stamp: Option<ProducerStamp>) -> Result<&Batch, BuildError> {
        let nothing = Self::Open(BatchBuilder::new(tidelog_record::Compression::None));
        let sealed = match std::mem::replace(self, nothing) {
            Self::Open(builder) => builder.build(stamp)?,
            Self::Sealed(batch) if batch.info().producer == stamp => batch,
            Self::Sealed(batch) => batch.stamped(stamp),
        };
        *self = Self::Sealed(sealed);
        match self {
            Self::Sealed(batch) => Ok(batch),
            Self::Open(_) => Err(BuildError::Empty),
        }
    }
}

impl Cause for Error {
    fn code(&self) -> Option<ErrorCode> {
        Self::code(self)
    }

    fn is_retriable(&self) -> bool {
        Self::is_retriable(self)
    }
}

/// What records fail with.
fn failure(why: Why<Error>, delivery_timeout: Duration) -> Error {
    let cause = match why {
        Why::Refused(error) => return error,
        Why::TimedOut { last: Some(last) } => format!("the last failure: {last}"),
        Why::TimedOut { last: None } => "no broker answered in time".to_owned(),
    };
    let text = format!("not delivered within {delivery_timeout:?} (delivery_timeout); {cause}");
    Error::new(ErrorKind::TimedOut, text)
}

fn no_leader(queue: &PartitionQueue) -> Error {
    Error::new(
        ErrorKind::Refused(ErrorCode::LeaderNotAvailable),
        format!("partition {} has no leader at this moment", queue.partition),
    )
}

/// A refusal for size: many records are the producer's to mend, by an option of it; one is not.
fn explained(refusal: Refusal, record_count: u32) -> Error {
    let error = refusal.error;
    if error.code() != Some(ErrorCode::MessageTooLarge) {
        return error;
    }
    match record_count {
        1 => error.context("the record is too large for the topic, by itself"),
        count => error.context(format!(
            "a batch of {count} records is too large for the topic: lower the producer's batch_size"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_timeout_names_the_last_failure() {
        let last = Error::new(ErrorKind::Refused(ErrorCode::NotEnoughReplicas), "because");
        let error = failure(Why::TimedOut { last: Some(last) }, Duration::from_mins(2));
        assert_eq!(
            error.message(),
            "not delivered within 120s (delivery_timeout); the last failure: NOT_ENOUGH_REPLICAS: because"
        );
    }

    #[test]
    fn whoever_sends_one_large_record_is_not_told_to_make_smaller_batches() {
        let refusal = || {
            let error = tidelog_record::BatchError::TooLarge {
                size_bytes: 5_000,
                max_bytes: 1_024,
            };
            Refusal::new(tidelog_types::PartitionError::from(error).into())
        };
        let one = explained(refusal(), 1).to_string();
        assert!(
            one.contains("5000 bytes") && one.contains("max.message.bytes is 1024: raise it"),
            "{one}"
        );
        assert!(!one.contains("batch_size"), "{one}");
        let many = explained(refusal(), 7).to_string();
        assert!(
            many.contains("7 records") && many.contains("lower the producer's batch_size"),
            "{many}"
        );
    }
}
