//! A producer: idempotent or plain, `acks=all`, retrying until its time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::{SendId, Sender, Value};
use tidelog_types::{BrokerId, ProducerEpoch, TopicIdPartition};

use super::leaders::{Leaders, Question};
use super::line::{Line, Outcome, Step};
use crate::context::Context;
use crate::message::{Address, Answer, Ask, Lane, Message};
use crate::network::{Handle, Heard};

/// A producer of the workload.
pub(super) struct Producer {
    address: Address,
    sender: Sender,
    is_idempotent: bool,
    leaders: Leaders,
    lines: BTreeMap<TopicIdPartition, Line>,
    streams: BTreeMap<BrokerId, Stream>,
    attempts: BTreeMap<u64, Attempt>,
    identity: Option<Question<TopicIdPartition>>,
    sends: BTreeMap<SendId, usize>,
    request_timeout: Duration,
    send_at: Duration,
    /// Where it sends without pause, and until when.
    hurry: Option<(TopicIdPartition, Duration)>,
    pub(super) is_stopping: bool,
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
        let lines = context
            .config
            .partitions()
            .into_iter()
            .map(|id| (id, Line::new(is_idempotent)));
        Self {
            address,
            sender,
            is_idempotent,
            leaders: Leaders::default(),
            lines: lines.collect(),
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
                    let outcome = match result {
                        Ok((offset, epoch)) => Outcome::Stored(offset, epoch),
                        Err(error) => {
                            self.leaders.refused(attempt.partition, Some(&error));
                            Outcome::Refused(error)
                        }
                    };
                    self.answered(&attempt, outcome, context);
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
            let steps = self.lines.get_mut(&partition).map(|line| line.expire(now));
            self.perform(partition, steps.unwrap_or_default(), context);
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
            self.sends.insert(send, count);
            context.record(What::SendBegan {
                sender: self.sender,
                send,
                partition,
                values: values.clone(),
                idempotent: self.is_idempotent,
            });
            let step = line.send(send, values, context.now + context.config.delivery_timeout);
            self.perform(partition, vec![step], context);
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
            if self.leaders.of(partition).is_none() {
                continue;
            }
            let steps = line.resend(context.now);
            self.perform(partition, steps, context);
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

    fn identified(&mut self, id: u64, answer: &Answer) {
        let Some(asked) = self.identity.take_if(|asked| asked.is_answered_by(id)) else {
            return;
        };
        if let Answer::Producer(producer) = answer
            && let Some(line) = self
                .lines
                .get_mut(&asked.about)
                .filter(|line| line.needs_identity())
        {
            line.identified(*producer, ProducerEpoch(0));
        }
    }

    fn answered(&mut self, attempt: &Attempt, outcome: Outcome, context: &mut Context) {
        let pause = match &outcome {
            Outcome::Refused(error) if error.leader.is_some() && context.random.per_mille(500) => {
                Duration::ZERO
            }
            _ => context.random.millis(10, 200),
        };
        let retry_at = context.now + pause;
        if let Some(line) = self.lines.get_mut(&attempt.partition) {
            let steps = line.answered(attempt.send, outcome, retry_at);
            self.perform(attempt.partition, steps, context);
        }
    }

    fn perform(&mut self, partition: TopicIdPartition, steps: Vec<Step>, context: &mut Context) {
        for step in steps {
            match step {
                Step::Send(send, payload) => {
                    let Some((leader, epoch)) = self.leaders.of(partition) else {
                        // Nobody to send to: as good as lost, but certainly not appended by this attempt.
                        let attempt = Attempt {
                            partition,
                            send,
                            broker: context.config.broker_ids().next().expect("a cluster has brokers"),
                            by: context.now,
                        };
                        self.answered(&attempt, Outcome::Lost, context);
                        continue;
                    };
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
                    let message = Message::Produce {
                        attempt,
                        partition,
                        leader_epoch,
                        payload,
                        timeout: self.request_timeout,
                    };
                    self.say(leader, message, context);
                }
                Step::Complete(send, base_offset, leader_epoch) => {
                    let count = self.sends.remove(&send).unwrap_or(0);
                    context.history.seen.acknowledged += count as u64;
                    context.saw_acknowledgement(partition, send, leader_epoch);
                    context.record(What::SendAcknowledged {
                        send,
                        base_offset,
                        leader_epoch,
                    });
                }
                Step::Fail(send, maybe_written) => {
                    self.sends.remove(&send);
                    context.history.seen.unknown += u64::from(maybe_written);
                    context.record(if maybe_written {
                        What::SendUnknown { send }
                    } else {
                        What::SendRefused { send }
                    });
                }
                Step::RaiseEpoch => {
                    if let Some(line) = self.lines.get_mut(&partition)
                        && let Some((id, epoch)) = line.identity()
                    {
                        line.identified(id, epoch.next());
                    }
                }
            }
        }
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
            self.answered(&attempt, Outcome::Lost, context);
        }
    }
}
