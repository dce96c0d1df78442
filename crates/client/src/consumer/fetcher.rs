//! The task that keeps buffers filled: asks leaders for what the [plan](super::plan) says, and
//! finds out where partitions begin.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::broker_stream::{BrokerStream, StreamEvent, sleep_until};
use super::lookups::{Found, LookupTarget, look_up_committed, look_up_log};
use super::plan::{Ask, Questions};
use super::shared::Shared;
use super::slot::{Lookup, Slot};
use super::slots::{Brought, SlotId};
use crate::client::Client;
use crate::error::Error;
use crate::metadata::{Snapshot, topic_gone};
use crate::wire::Refusal;
use crate::wire::fetch::{FetchAnswer, Fetched};
use crate::wire::session::Assigned;

/// Answers that came and were not taken in yet, over all brokers.
const MAX_WAITING_ANSWERS: usize = 4;

/// The task's state.
pub(super) struct Fetcher {
    client: Client,
    shared: Arc<Shared>,
    /// The group whose committed offsets partitions begin at; none in assigned mode.
    group: Option<Arc<str>>,
    streams: HashMap<String, BrokerStream>,
    questions: BTreeMap<u64, Question>,
    next_question: u64,
    next_stream: u64,
    events: mpsc::Sender<StreamEvent>,
    /// Their tasks end with this.
    stream_tasks: JoinSet<()>,
    lookups: JoinSet<Vec<Found>>,
}

/// A question that is out.
struct Question {
    address: String,
    stream: u64,
    slots: Vec<SlotId>,
    reserved_bytes: usize,
}

impl Fetcher {
    /// Runs until it is dropped.
    pub(super) async fn run(client: Client, shared: Arc<Shared>, group: Option<Arc<str>>) {
        let (events, mut heard) = mpsc::channel(MAX_WAITING_ANSWERS);
        let mut fetcher = Self {
            client,
            shared,
            group,
            streams: HashMap::new(),
            questions: BTreeMap::new(),
            next_question: 0,
            next_stream: 0,
            events,
            stream_tasks: JoinSet::new(),
            lookups: JoinSet::new(),
        };
        let shared = Arc::clone(&fetcher.shared);
        let mut metadata = fetcher.client.inner.metadata.subscribe();
        loop {
            let wake = fetcher.ask();
            tokio::select! {
                Some(event) = heard.recv() => fetcher.take(event),
                Some(found) = fetcher.lookups.join_next(), if !fetcher.lookups.is_empty() => {
                    fetcher.found(found.unwrap_or_default());
                }
                Some(_) = fetcher.stream_tasks.join_next(), if !fetcher.stream_tasks.is_empty() => {}
                () = shared.work.notified() => {}
                Ok(()) = metadata.changed() => fetcher.follow_metadata(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Asks for everything that there is to ask; says when something comes up by itself.
    fn ask(&mut self) -> Option<Instant> {
        let snapshot = self.client.inner.metadata.snapshot();
        let leader_of = |slot: &Slot| leader(&snapshot, slot);
        let mut out = Questions::new();
        for question in self.questions.values() {
            *out.entry(question.address.clone()).or_default() += 1;
        }
        let next = &mut self.next_question;
        let plan = self
            .shared
            .look(|slots| slots.plan(Instant::now(), &leader_of, &out, next));
        if plan.leaderless {
            self.client.inner.metadata.request_refresh();
        }
        self.look_up(plan.lookups);
        for ask in plan.asks {
            self.send(ask);
        }
        plan.wake
    }

    fn send(&mut self, ask: Ask) {
        let Ask {
            address,
            fetch,
            slots,
        } = ask;
        let question = Question {
            address: address.clone(),
            stream: self.next_stream,
            slots,
            reserved_bytes: fetch.max_bytes as usize,
        };
        let id = fetch.id;
        self.questions.insert(id, question);
        let stream = match self.streams.entry(address.clone()) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                match self.client.inner.connections.to(&address) {
                    Ok(channel) => {
                        let number = self.next_stream;
                        self.next_stream += 1;
                        let events = self.events.clone();
                        vacant.insert(BrokerStream::open(
                            number,
                            channel,
                            events,
                            &mut self.stream_tasks,
                        ))
                    }
                    Err(error) => {
                        self.lost(id, &error);
                        return;
                    }
                }
            }
        };
        if let Some(question) = self.questions.get_mut(&id) {
            question.stream = stream.number;
        }
        stream.ask(fetch);
    }

    fn take(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Answer { stream, answer } => {
                let asked = self.questions.remove(&answer.id);
                if let Some(question) = asked.filter(|question| question.stream == stream) {
                    self.answered(answer, question);
                }
            }
            StreamEvent::Broken { stream, error } => {
                tracing::debug!(%error, "a fetch stream broke");
                self.streams.retain(|_, known| known.number != stream);
                self.client.inner.metadata.request_refresh();
                let unanswered: Vec<u64> = self
                    .questions
                    .iter()
                    .filter(|(_, question)| question.stream == stream)
                    .map(|(id, _)| *id)
                    .collect();
                for id in unanswered {
                    self.lost(id, &error);
                }
            }
        }
    }

    /// Nobody will answer this question.
    fn lost(&mut self, id: u64, error: &Error) {
        let Some(question) = self.questions.remove(&id) else {
            return;
        };
        let error = error.clone().context(&question.address);
        self.shared.bring(|slots| {
            slots.reserved_bytes -= question.reserved_bytes;
            for slot in question.slots {
                slots.refused(slot, id, error.clone(), Instant::now(), false);
            }
        });
    }

    fn answered(&mut self, answer: FetchAnswer, question: Question) {
        let id = answer.id;
        // Checksums are computed before the lock is taken.
        let partitions: Vec<_> = answer
            .partitions
            .into_iter()
            .map(|(partition, outcome)| {
                let outcome = outcome
                    .map(check)
                    .map_err(|refusal| self.learn(&partition, &question, refusal));
                (partition, outcome)
            })
            .collect();
        self.shared.bring(|slots| {
            slots.reserved_bytes -= question.reserved_bytes;
            let now = Instant::now();
            for (partition, outcome) in partitions {
                let Some(slot) = slots.id(&partition) else {
                    continue;
                };
                match outcome {
                    Ok(brought) => slots.brought(slot, id, brought),
                    Err((error, news)) => slots.refused(slot, id, error, now, news),
                }
            }
            for slot in question.slots {
                slots.unanswered(slot, id, true);
            }
        });
    }

    fn learn(&self, partition: &TopicPartition, question: &Question, refusal: Refusal) -> (Error, bool) {
        let id = self.shared.look(|slots| {
            let slot = slots.id(partition).filter(|slot| question.slots.contains(slot))?;
            Some(slots.by_id.get(&slot)?.topic_id)
        });
        let news = self.client.inner.learn(partition, id, &refusal);
        // Either that broker lags behind, or we have heard of a leader that the metadata do not
        // name yet.
        if refusal.error.code() == Some(ErrorCode::UnknownLeaderEpoch) {
            self.client.inner.metadata.request_refresh();
        }
        tracing::debug!(%partition, error = %refusal.error, news, "a fetch was refused");
        (refusal.error, news)
    }

    /// Leaders may have moved: who waits for an answer from an old one asks the new one. Topics may
    /// be gone, or the whole cluster.
    fn follow_metadata(&mut self) {
        let snapshot = self.client.inner.metadata.snapshot();
        if let Some(astray) = &snapshot.astray {
            self.shared.end(astray.clone());
        }
        let gone = |slot: &Slot| {
            let gone = snapshot.is_gone(slot.topic_id);
            gone.then(|| topic_gone(&slot.partition.topic, slot.topic_id, &snapshot).context(&slot.partition))
        };
        let leader_of = |slot: &Slot| leader(&snapshot, slot);
        self.shared.bring(|slots| slots.lose_topics(gone));
        self.shared.look(|slots| {
            for (id, question) in &self.questions {
                slots.abandon_moved(*id, &question.slots, &question.address, &leader_of);
            }
        });
    }

    fn look_up(&mut self, lookups: Vec<(SlotId, Assigned, Lookup, Option<LeaderEpoch>)>) {
        let mut committed = Vec::new();
        let mut in_log = Vec::new();
        for (slot, read, lookup, leader_epoch) in lookups {
            self.client.inner.metadata.want(&read.partition.topic);
            let target = LookupTarget {
                slot,
                read,
                lookup,
                leader_epoch,
            };
            match lookup {
                Lookup::Committed => committed.push(target),
                Lookup::Log(_) => in_log.push(target),
            }
        }
        let client = Arc::clone(&self.client.inner);
        if !in_log.is_empty() {
            self.lookups.spawn(look_up_log(Arc::clone(&client), in_log));
        }
        if let Some(group) = self.group.clone().filter(|_| !committed.is_empty()) {
            let identity = self.shared.identity();
            self.lookups
                .spawn(look_up_committed(client, group, identity, committed));
        }
    }

    fn found(&mut self, found: Vec<Found>) {
        let group = self.group.clone();
        self.shared.bring(|slots| {
            for found in found {
                found.apply(slots, group.as_deref(), Instant::now());
            }
        });
    }
}

fn leader(snapshot: &Snapshot, slot: &Slot) -> Option<(String, LeaderEpoch)> {
    let TopicPartition { topic, partition } = &slot.partition;
    let (_, epoch, address) = snapshot.leader(topic, slot.topic_id, *partition)?;
    Some((address.to_owned(), epoch))
}

/// Checks what was fetched: framing, checksum, order. What stands behind damage is not taken.
fn check(fetched: Fetched) -> Brought {
    let mut brought = Brought {
        leader_epoch: fetched.leader_epoch,
        high_watermark: fetched.high_watermark,
        batches: Vec::with_capacity(fetched.batches.len()),
        damaged: None,
    };
    let mut next: Option<Offset> = None;
    for bytes in fetched.batches {
        match check_batch(bytes, next) {
            Ok(batch) => {
                next = Some(batch.header().last_offset().next());
                brought.batches.push(batch);
            }
            Err((at, cause)) => {
                brought.damaged = Some((at.or(next).unwrap_or_default(), cause));
                break;
            }
        }
    }
    brought
}

fn check_batch(bytes: Bytes, next: Option<Offset>) -> Result<Batch, (Option<Offset>, String)> {
    let base = tidelog_record::BatchHeader::read(&bytes)
        .ok()
        .map(|header| header.base_offset);
    let batch = Batch::from_log(bytes).map_err(|error| (base, error.to_string()))?;
    match next {
        Some(next) if batch.header().base_offset < next => {
            Err((base, format!("the batch before it reaches to {next}")))
        }
        _ => Ok(batch),
    }
}
