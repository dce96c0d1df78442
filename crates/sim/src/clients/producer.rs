//! A producer: idempotent or plain, `acks=all`, retrying until its time is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::{SendId, Sender, Value};
use tidelog_producer::{Answer, Effect, Identity, Line, LineSettings, NewBatch};
use tidelog_types::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionError, ProducerEpoch, ProducerStamp, TopicIdPartition,
};

use super::leaders::{Leaders, Question};
use crate::context::Context;
use crate::message::{Address, Answer as Told, Ask, Lane, Message, Payload};
use crate::network::{Handle, Heard};

/// How many batches may span a line: as many as a broker remembers (R9).
const MAX_IN_FLIGHT: u64 = 5;

/// A producer of the workload. Its lines are those of the client.
pub(super) struct Producer {
    address: Address,
    sender: Sender,
    is_idempotent: bool,
    leaders: Leaders,
    lines: BTreeMap<TopicIdPartition, Line<PartitionError>>,
    /// The leader that each line's last attempt went to.
    led_by: BTreeMap<TopicIdPartition, (BrokerId, LeaderEpoch)>,
    streams: BTreeMap<BrokerId, Stream>,
    attempts: BTreeMap<u64, Attempt>,
    identity: Option<Question<TopicIdPartition>>,
    sends: BTreeMap<SendId, Sent>,
    request_timeout: Duration,
    send_at: Duration,
    /// Where it sends without pause, and until when.
    hurry: Option<(TopicIdPartition, Duration)>,
    pub(super) is_stopping: bool,
}

/// A batch that is not settled.
#[derive(Debug)]
struct Sent {
    values: Vec<Value>,
    /// The epoch of the leader that acknowledged it.
    stored_in: Option<LeaderEpoch>,
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    is_open: bool,
    by: Duration,
    waiting: Vec<Message>,
}

#[derive(Debug)]
struct Attempt {
    partition: TopicIdPartition,
    send: SendId,
    broker: BrokerId,
    by: Duration,
}

impl Producer {
    pub(super) fn new(address: Address, sender: Sender, is_idempotent: bool, context: &mut Context) -> Self {
        let settings = LineSettings {
            idempotent: is_idempotent,
            max_in_flight: MAX_IN_FLIGHT,
        };
        let lines = context
            .config
            .partitions()
            .into_iter()
            .map(|id| (id, Line::new(settings, None)));
        Self {
            address,
            sender,
            is_idempotent,
            leaders: Leaders::default(),
            lines: lines.collect(),
            led_by: BTreeMap::new(),
            streams: BTreeMap::new(),
            attempts: BTreeMap::new(),
            identity: None,
            sends: BTreeMap::new(),
            request_timeout: context.random.millis(800, 6000),
            send_at: Duration::ZERO,
            hurry: None,
            is_stopping: false,
        }
    }

    /// Sends without pause to one partition until then.
    pub(super) fn hurry(&mut self, partition: TopicIdPartition, until: Duration) {
        self.hurry = Some((partition, until));
        self.send_at = Duration::ZERO;
    }

    /// Whether nothing of it is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.lines.values().all(Line::is_empty)
    }

    pub(super) fn hear(&mut self, heard: Heard, context: &mut Context) {
        match heard {
            Heard::Opened(handle) => {
                let stream = self.streams.values_mut().find(|stream| stream.handle == handle);
                if let Some(stream) = stream {
                    stream.is_open = true;
                    for message in std::mem::take(&mut stream.waiting) {
                        context.say(handle, message);
                    }
                }
            }
            Heard::Closed(handle) => {
                let broker = self.streams.iter().find(|(_, stream)| stream.handle == handle);
                if let Some(broker) = broker.map(|(broker, _)| *broker) {
                    self.lost(broker, context);
                }
            }
            Heard::Said(_, Message::Produced { attempt, result }) => {
                if let Some(attempt) = self.attempts.remove(&attempt) {
                    context.history.seen.operations += 1;
                    let answer = match result {
                        Ok((offset, epoch)) => {
                            if let Some(sent) = self.sends.get_mut(&attempt.send) {
                                sent.stored_in = Some(epoch);
                            }
                            Answer::Stored {
                                base_offset: offset.0,
                            }
                        }
                        Err(error) => {
                            self.leaders.refused(attempt.partition, Some(&error));
                            let at_once = error.leader.is_some();
                            Answer::Refused { error, at_once }
                        }
                    };
                    self.answered(&attempt, answer, context);
                }
            }
            Heard::Datagram(_, Message::Answer { id, answer }) if !self.leaders.take(id, &answer) => {
                self.identified(id, &answer);
            }
            _ => {}
        }
        self.push_on(context);
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        self.leaders.refresh(self.address, context);
        if self.identity.as_ref().is_some_and(|asked| asked.is_over(context)) {
            self.identity = None;
        }
        let now = context.now;
        let late: Vec<_> = self
            .attempts
            .values()
            .filter(|attempt| attempt.by <= now)
            .map(|attempt| attempt.broker)
            .collect();
        let unopened = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.is_open && stream.by <= now);
        let mut gone: Vec<_> = unopened.map(|(broker, _)| *broker).chain(late).collect();
        gone.sort_unstable();
        gone.dedup();
        for broker in gone {
            // No answer for so long: the stream is given up.
            if let Some(stream) = self.streams.get(&broker) {
                context.close(stream.handle);
            }
            self.lost(broker, context);
        }
        let partitions: Vec<_> = self.lines.keys().copied().collect();
        for partition in partitions {
            let effects = self.lines.get_mut(&partition).map(|line| line.expire(now));
            self.perform(partition, effects.unwrap_or_default(), context);
        }
        self.send_new(context);
        self.push_on(context);
    }

    fn send_new(&mut self, context: &mut Context) {
        if self.is_stopping || self.send_at > context.now {
            return;
        }
        let interval = context.config.send_interval.as_micros() as u64;
        self.hurry.take_if(|(_, until)| *until <= context.now);
        let pause = context.random.micros(interval / 8, interval);
        self.send_at = context.now
            + if self.hurry.is_some() {
                Duration::from_millis(5)
            } else {
                pause
            };
        let partitions: Vec<_> = self.lines.keys().copied().collect();
        let any = context.random.pick(&partitions);
        let Some(partition) = self.hurry.map(|(partition, _)| partition).or(any) else {
            return;
        };
        let burst = if context.random.per_mille(150) {
            context.random.between(2, 5)
        } else {
            1
        };
        for _ in 0..burst {
            let Some(line) = self.lines.get_mut(&partition) else {
                return;
            };
            if !line.takes_more(context.now) || self.leaders.of(partition).is_none() {
                return;
            }
            let count = context.random.between(1, 3) as usize;
            let values: Vec<_> = (0..count).map(|_| Value(context.fresh())).collect();
            let send = SendId(context.fresh());
            let sent = Sent {
                values: values.clone(),
                stored_in: None,
            };
            self.sends.insert(send, sent);
            context.record(What::SendBegan {
                sender: self.sender,
                send,
                partition,
                values,
                idempotent: self.is_idempotent,
            });
            let effect = line.send(NewBatch {
                id: send.0,
                record_count: count as u32,
                deadline: context.now + context.config.delivery_timeout,
            });
            self.perform(partition, vec![effect], context);
        }
    }

    /// Whatever may be sent again is.
    fn push_on(&mut self, context: &mut Context) {
        let partitions: Vec<_> = self.lines.keys().copied().collect();
        for partition in partitions {
            let Some(line) = self.lines.get_mut(&partition) else {
                continue;
            };
            if line.needs_identity() {
                self.ask_identity(partition, context);
                continue;
            }
            let Some(leader) = self.leaders.of(partition) else {
                continue;
            };
            if self.led_by.insert(partition, leader) != Some(leader) {
                line.leader_changed();
            }
            let effects = line.resend(context.now);
            self.perform(partition, effects, context);
        }
    }

    fn ask_identity(&mut self, partition: TopicIdPartition, context: &mut Context) {
        if self.identity.is_some() {
            return;
        }
        let brokers: Vec<_> = context.config.broker_ids().collect();
        if let Some(broker) = context.random.pick(&brokers) {
            let question = Question::ask(
                self.address,
                broker,
                Ask::InitProducer,
                Duration::ZERO,
                partition,
                context,
            );
            self.identity = Some(question);
        }
    }

    fn identified(&mut self, id: u64, answer: &Told) {
        let Some(asked) = self.identity.take_if(|asked| asked.is_answered_by(id)) else {
            return;
        };
        if let Told::Producer(producer) = answer
            && let Some(line) = self
                .lines
                .get_mut(&asked.about)
                .filter(|line| line.needs_identity())
        {
            line.identified(Identity {
                id: *producer,
                epoch: ProducerEpoch(0),
            });
        }
    }

    fn answered(&mut self, attempt: &Attempt, answer: Answer<PartitionError>, context: &mut Context) {
        if let Some(line) = self.lines.get_mut(&attempt.partition) {
            let effects = line.answered(attempt.send.0, answer, context.now);
            self.perform(attempt.partition, effects, context);
        }
    }

    fn perform(
        &mut self,
        partition: TopicIdPartition,
        effects: Vec<Effect<PartitionError>>,
        context: &mut Context,
    ) {
        for effect in effects {
            match effect {
                Effect::Send { batch, stamp } => self.attempt(partition, SendId(batch), stamp, context),
                Effect::Complete { batch, base_offset } => {
                    let send = SendId(batch);
                    let Some(sent) = self.sends.remove(&send) else {
                        continue;
                    };
                    let leader_epoch = sent.stored_in.expect("what is complete was stored");
                    context.history.seen.acknowledged += sent.values.len() as u64;
                    context.saw_acknowledgement(partition, send, leader_epoch);
                    context.record(What::SendAcknowledged {
                        send,
                        base_offset: Offset(base_offset),
                        leader_epoch,
                    });
                }
                Effect::Fail {
                    batch, maybe_written, ..
                } => {
                    let send = SendId(batch);
                    self.sends.remove(&send);
                    context.history.seen.unknown += u64::from(maybe_written);
                    context.record(if maybe_written {
                        What::SendUnknown { send }
                    } else {
                        What::SendRefused { send }
                    });
                }
                Effect::RaiseEpoch(Identity { id, epoch }) => {
                    if let Some(line) = self.lines.get_mut(&partition) {
                        let epoch = epoch.next();
                        line.identified(Identity { id, epoch });
                    }
                }
            }
        }
    }

    fn attempt(
        &mut self,
        partition: TopicIdPartition,
        send: SendId,
        stamp: Option<ProducerStamp>,
        context: &mut Context,
    ) {
        let Some((leader, epoch)) = self.leaders.of(partition) else {
            // Nobody to send to: as good as lost, but certainly not appended by this attempt.
            let attempt = Attempt {
                partition,
                send,
                broker: context.config.broker_ids().next().expect("a cluster has brokers"),
                by: context.now,
            };
            return self.answered(&attempt, no_answer(), context);
        };
        let values = self.sends.get(&send).map(|sent| sent.values.clone());
        let attempt = context.fresh();
        let by = context.now + self.request_timeout + Duration::from_millis(300);
        self.attempts.insert(
            attempt,
            Attempt {
                partition,
                send,
                broker: leader,
                by,
            },
        );
        let leader_epoch = context.random.per_mille(800).then_some(epoch);
        let payload = Payload {
            values: values.expect("what is sent is not settled"),
            stamp,
        };
        let message = Message::Produce {
            attempt,
            partition,
            leader_epoch,
            payload: Arc::new(payload),
            timeout: self.request_timeout,
        };
        self.say(leader, message, context);
    }

    fn say(&mut self, broker: BrokerId, message: Message, context: &mut Context) {
        let stream = self.streams.entry(broker).or_insert_with(|| Stream {
            handle: context.open(self.address, broker, Lane::Produce),
            is_open: false,
            by: context.now + Duration::from_secs(2),
            waiting: Vec::new(),
        });
        if stream.is_open {
            context.say(stream.handle, message);
        } else {
            stream.waiting.push(message);
        }
    }

    /// A stream is gone: nothing that was asked on it is answered.
    fn lost(&mut self, broker: BrokerId, context: &mut Context) {
        self.streams.remove(&broker);
        let lost: Vec<_> = self
            .attempts
            .extract_if(.., |_, attempt| attempt.broker == broker)
            .map(|(_, attempt)| attempt)
            .collect();
        for attempt in lost {
            self.leaders.refused(attempt.partition, None);
            self.answered(&attempt, no_answer(), context);
        }
    }
}

fn no_answer() -> Answer<PartitionError> {
    let error = PartitionError::new(ErrorCode::LeaderNotAvailable, "no answer will come");
    Answer::Lost { error }
}
