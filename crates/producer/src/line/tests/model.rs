//! A line against brokers that refuse, fall silent and mix answers up, by any schedule.
//!
//! The brokers share one log, as one partition's leaders do, and keep R9's rule. A stream that is
//! lost goes on delivering what is in it: its requests are read late, among those of the stream
//! that follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What the world does next; each picks by a number among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A batch is sent for the first time, if the line takes it.
    Enqueue,
    /// A stream's next request is read.
    Deliver {
        stream: usize,
        refuse: Refuse,
    },
    /// One of the answers that wait reaches the line.
    Answer(usize),
    /// The stream is lost, with the answers that were on it.
    Lose,
    Wait(u64),
    /// The partition forgets the producer, as it does a day after its last batch: only while
    /// nothing is on its way.
    Forget,
}

#[derive(Debug, Clone, Copy)]
enum Refuse {
    No,
    Certainly,
    AfterAppend,
    ForGood,
}

fn step() -> impl Strategy<Value = Step> {
    let refuse = prop_oneof![
        8 => Just(Refuse::No),
        2 => Just(Refuse::Certainly),
        1 => Just(Refuse::AfterAppend),
        1 => Just(Refuse::ForGood),
    ];
    prop_oneof![
        6 => Just(Step::Enqueue),
        8 => (0_usize..4, refuse).prop_map(|(stream, refuse)| Step::Deliver { stream, refuse }),
        8 => (0_usize..8).prop_map(Step::Answer),
        1 => Just(Step::Lose),
        4 => (1_u64..40).prop_map(Step::Wait),
        1 => (1_000_u64..5_000).prop_map(Step::Wait),
        1 => Just(Step::Forget),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Request {
    batch: BatchId,
    stamp: ProducerStamp,
}

#[derive(Debug, Default)]
struct Broker {
    log: Vec<BatchId>,
    /// Epoch, then the last five batches: base sequence and where in the log.
    known: Option<(ProducerEpoch, VecDeque<(Sequence, usize)>)>,
}

const RECORDS: u32 = 3;

impl Broker {
    fn append(&mut self, request: Request, refuse: Refuse) -> Answer<Error> {
        match refuse {
            Refuse::Certainly => return refused(ErrorCode::NotEnoughReplicas),
            Refuse::ForGood => return refused(ErrorCode::MessageTooLarge),
            Refuse::No | Refuse::AfterAppend => {}
        }
        match (self.check(request.stamp), refuse) {
            (Err(code), _) => refused(code),
            (Ok(()), Refuse::AfterAppend) => {
                self.keep(request);
                refused(ErrorCode::NotEnoughReplicasAfterAppend)
            }
            (Ok(()), _) => stored(self.keep(request)),
        }
    }

    fn check(&self, stamp: ProducerStamp) -> Result<(), ErrorCode> {
        let first = stamp.base_sequence == Sequence::ZERO;
        let Some((epoch, batches)) = &self.known else {
            return if first {
                Ok(())
            } else {
                Err(ErrorCode::UnknownProducerId)
            };
        };
        if stamp.epoch < *epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let expected = batches.back().map(|(last, _)| last.advanced_by(RECORDS.into()));
        let known = batches.iter().any(|(base, _)| *base == stamp.base_sequence);
        match expected {
            _ if stamp.epoch > *epoch && first => Ok(()),
            Some(expected) if stamp.epoch == *epoch && (known || expected == stamp.base_sequence) => Ok(()),
            Some(expected) if stamp.epoch == *epoch && stamp.base_sequence.to_wire() < expected.to_wire() => {
                Err(ErrorCode::DuplicateSequenceNumber)
            }
            _ => Err(ErrorCode::OutOfOrderSequenceNumber),
        }
    }

    fn keep(&mut self, request: Request) -> u64 {
        let stamp = request.stamp;
        let known = self.known.get_or_insert_with(|| (stamp.epoch, VecDeque::new()));
        if known.0 < stamp.epoch {
            *known = (stamp.epoch, VecDeque::new());
        }
        if let Some((_, at)) = known.1.iter().find(|(base, _)| *base == stamp.base_sequence) {
            return *at as u64;
        }
        let at = self.log.len();
        self.log.push(request.batch);
        known.1.push_back((stamp.base_sequence, at));
        if known.1.len() > 5 {
            known.1.pop_front();
        }
        at as u64
    }
}

#[derive(Debug)]
struct World {
    line: Line<Error>,
    broker: Broker,
    now: Duration,
    next_batch: BatchId,
    /// Requests on their way, the newest stream last; only that one's answers arrive.
    streams: Vec<VecDeque<Request>>,
    answers: Vec<(BatchId, Answer<Error>)>,
    /// Attempts that have not come back.
    open: BTreeSet<BatchId>,
    completed: BTreeMap<BatchId, u64>,
    failed: BTreeMap<BatchId, bool>,
    /// How often the epoch was raised.
    raised: u16,
}

impl World {
    fn new() -> Self {
        Self {
            line: line(),
            broker: Broker::default(),
            now: Duration::ZERO,
            next_batch: 0,
            streams: vec![VecDeque::new()],
            answers: Vec::new(),
            open: BTreeSet::new(),
            completed: BTreeMap::new(),
            failed: BTreeMap::new(),
            raised: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Enqueue => self.enqueue(),
            Step::Deliver { stream, refuse } => self.deliver(stream, refuse),
            Step::Answer(index) if !self.answers.is_empty() => {
                let (batch, answer) = self.answers.remove(index % self.answers.len());
                self.open.remove(&batch);
                let effects = self.line.answered(batch, answer, self.now);
                self.perform(effects);
            }
            Step::Answer(_) => {}
            Step::Lose => self.lose(),
            Step::Wait(time) => self.now += ms(time),
            Step::Forget => {
                if self.line.is_empty() && self.streams.iter().all(VecDeque::is_empty) {
                    self.broker.known = None;
                }
            }
        }
        let effects = self.line.expire(self.now);
        self.perform(effects);
        let effects = self.line.resend(self.now);
        self.perform(effects);
    }

    fn enqueue(&mut self) {
        if self.line.takes_more(self.now) {
            let batch = NewBatch {
                id: self.next_batch,
                record_count: RECORDS,
                deadline: self.now + ms(4_000),
            };
            self.next_batch += 1;
            let effect = self.line.send(batch);
            self.perform(vec![effect]);
        }
    }

    fn deliver(&mut self, stream: usize, refuse: Refuse) {
        let last = self.streams.len() - 1;
        let stream = last - stream.min(last);
        let Some(request) = self.streams[stream].pop_front() else {
            return;
        };
        let answer = self.broker.append(request, refuse);
        if stream == last {
            self.answers.push((request.batch, answer));
        }
    }

    fn lose(&mut self) {
        self.streams.push(VecDeque::new());
        self.answers.clear();
        for batch in std::mem::take(&mut self.open) {
            let effects = self.line.answered(batch, lost(), self.now);
            self.perform(effects);
        }
    }

    fn perform(&mut self, effects: Vec<Effect<Error>>) {
        for effect in effects {
            match effect {
                Effect::Send { batch, stamp } => {
                    assert!(self.open.insert(batch), "one attempt at a time");
                    let stamp = stamp.expect("an idempotent line stamps");
                    let newest = self.streams.last_mut().expect("there is always one");
                    newest.push_back(Request { batch, stamp });
                }
                Effect::Complete { batch, base_offset } => {
                    assert_eq!(self.completed.insert(batch, base_offset), None);
                }
                Effect::Fail {
                    batch, maybe_written, ..
                } => {
                    assert_eq!(self.failed.insert(batch, maybe_written), None);
                }
                Effect::RaiseEpoch(current) => {
                    assert_eq!(current.epoch, ProducerEpoch(self.raised));
                    self.raised += 1;
                    self.line.identified(identity(self.raised));
                }
            }
        }
    }

    /// Everything on its way arrives, and nothing is refused any more.
    fn settle(&mut self) {
        for _ in 0..400 {
            for stream in (0..self.streams.len()).rev() {
                self.deliver(stream, Refuse::No);
            }
            self.step(Step::Answer(0));
            self.step(Step::Wait(25));
        }
    }

    fn check(&self) {
        let mut before = None;
        for batch in &self.broker.log {
            assert!(before < Some(batch), "C4, C6: {:?}", self.broker.log);
            before = Some(batch);
        }
        for (batch, offset) in &self.completed {
            assert_eq!(self.broker.log.get(*offset as usize), Some(batch), "C1");
        }
        for (batch, maybe_written) in &self.failed {
            let written = self.broker.log.contains(batch);
            assert!(
                *maybe_written || !written,
                "batch {batch} was written and said not to be"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_record_is_stored_twice_or_out_of_order_and_what_is_acknowledged_exists(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
        world.settle();
        world.check();
        prop_assert!(world.line.is_empty(), "nothing hangs: {:?}", world.line);
        prop_assert_eq!(
            world.completed.len() + world.failed.len(), world.next_batch as usize
        );
    }
}
