//! One produce stream a broker address: what goes out together, and which answer belongs to what.
//!
//! A stream is opened when something has to go to its broker, and holds until it breaks or leaves a
//! request without an answer for the request timeout. Nothing is put into it before the broker took
//! the call, so that a broker that cannot be reached leaves nobody in doubt. When it ends, every
//! request on it is lost, and the next one waits out a backoff.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidelog_producer::BatchId;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::builder::{Acks, Settings};
use crate::backoff;
use crate::client::Client;
use crate::connection::Channel;
use crate::error::{Error, ErrorKind};
use crate::wire::Refusal;
use crate::wire::produce::{BatchToProduce, ProduceAnswer, ProduceRequest, open};

/// Requests that wait for their stream; beyond it batches grow instead.
const MAX_QUEUED_REQUESTS: usize = 8;
/// A request takes no further batch once it is so large, bytes.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// How long a broker may take to take the call.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Events of all streams that the driver has not seen.
const MAX_UNSEEN_EVENTS: usize = 64;

/// The streams of one producer.
#[derive(Debug)]
pub(crate) struct Links {
    client: Client,
    acks: Acks,
    request_timeout: Duration,
    by_address: HashMap<String, Link>,
    events: mpsc::Sender<LinkEvent>,
    /// Notified when a request left its queue.
    pub(crate) sent: Arc<Notify>,
    next_serial: u64,
    next_correlation_id: u64,
}

#[derive(Debug)]
struct Link {
    /// Tells a stream from its predecessors to the same address.
    serial: u64,
    state: State,
    task: Option<AbortHandle>,
    failures: u32,
    /// By correlation id, so the oldest first.
    unanswered: BTreeMap<u64, Unanswered>,
    /// Partitions that wait for the stream to open, or for room in its queue.
    waiting: BTreeSet<u64>,
    outgoing: Vec<Outgoing>,
    outgoing_bytes: usize,
}

#[derive(Debug)]
enum State {
    Opening,
    Open(mpsc::Sender<ProduceRequest>),
    Down { until: Duration, error: Error },
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Unanswered {
    deadline: Duration,
    batches: Vec<(u64, BatchId)>,
}

/// A batch to put into the next request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The partition's queue.
    pub(crate) queue: u64,
    pub(crate) batch: BatchId,
    pub(crate) data: BatchToProduce,
}

/// Something happened to a stream.
#[derive(Debug)]
pub(crate) struct LinkEvent {
    address: String,
    serial: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Opened(mpsc::Sender<ProduceRequest>),
    Answered(ProduceAnswer),
    Ended(Error),
}

/// Whether something can be sent to an address.
#[derive(Debug)]
pub(crate) enum Route {
    Ready,
    /// Later; the partition is among those that the links tell to look again.
    Wait,
    /// When the stream is open, if it ever is: a broker that is paused or cut off lets it wait. The
    /// links tell the partition to look again.
    Opening,
    /// Not before then.
    Down {
        until: Duration,
        error: Error,
    },
}

/// What a stream's event means to partitions.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Partitions that may look again.
    pub(crate) wake: BTreeSet<u64>,
    /// What became of attempts, by queue.
    pub(crate) outcomes: Vec<(u64, BatchId, Outcome)>,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Result<u64, Refusal>),
    Lost(Error),
}

impl Links {
    pub(crate) fn new(client: Client, settings: &Settings) -> (Self, mpsc::Receiver<LinkEvent>) {
        let (events, receiver) = mpsc::channel(MAX_UNSEEN_EVENTS);
        let links = Self {
            client,
            acks: settings.acks,
            request_timeout: settings.request_timeout,
            by_address: HashMap::new(),
            events,
            sent: Arc::new(Notify::new()),
            next_serial: 0,
            next_correlation_id: 0,
        };
        (links, receiver)
    }

    /// Whether a partition may put a batch for this address; opens the stream if there is none.
    pub(crate) fn route(&mut self, address: &str, queue: u64, now: Duration) -> Route {
        if let Some(Link {
            state: State::Down { until, error },
            ..
        }) = self.by_address.get(address)
            && *until > now
        {
            return Route::Down {
                until: *until,
                error: error.clone(),
            };
        }
        let down = |link: &Link| matches!(link.state, State::Down { .. });
        if self.by_address.get(address).is_none_or(down) {
            self.open(address, now);
        }
        let Some(link) = self.by_address.get_mut(address) else {
            return Route::Wait;
        };
        match &link.state {
            State::Open(requests) if link.outgoing_bytes < REQUEST_BYTES && requests.capacity() > 0 => {
                Route::Ready
            }
            State::Down { until, error } => Route::Down {
                until: *until,
                error: error.clone(),
            },
            State::Open(_) => {
                link.waiting.insert(queue);
                Route::Wait
            }
            State::Opening => {
                link.waiting.insert(queue);
                Route::Opening
            }
        }
    }

    /// Puts a batch into the next request to an address whose route is ready.
    pub(crate) fn put(&mut self, address: &str, outgoing: Outgoing) {
        if let Some(link) = self.by_address.get_mut(address) {
            link.outgoing_bytes += outgoing.data.bytes.len();
            link.outgoing.push(outgoing);
        }
    }

    /// Sends what was put: one request an address. Tells which partitions waited for room that
    /// there is now.
    pub(crate) fn dispatch(&mut self, now: Duration) -> BTreeSet<u64> {
        let mut wake = BTreeSet::new();
        for link in self.by_address.values_mut() {
            if !link.outgoing.is_empty() {
                let correlation_id = self.next_correlation_id;
                self.next_correlation_id += 1;
                link.dispatch(correlation_id, self.acks, self.request_timeout, now);
            }
            if let State::Open(requests) = &link.state
                && requests.capacity() > 0
            {
                wake.append(&mut link.waiting);
            }
        }
        wake
    }

    /// What an event means.
    pub(crate) fn on_event(&mut self, event: LinkEvent, now: Duration) -> News {
        let mut news = News::default();
        let Some(link) = self.by_address.get_mut(&event.address) else {
            return news;
        };
        if link.serial != event.serial {
            return news;
        }
        match event.what {
            What::Opened(requests) => {
                link.state = State::Open(requests);
                news.wake.append(&mut link.waiting);
            }
            What::Answered(answer) => {
                link.failures = 0;
                link.answered(answer, &mut news);
            }
            What::Ended(error) => link.end(&error.context(&event.address), now, &mut news),
        }
        news
    }

    /// Gives up the streams that left a request without an answer for too long.
    pub(crate) fn expire(&mut self, now: Duration) -> News {
        let mut news = News::default();
        for (address, link) in &mut self.by_address {
            if link.deadline().is_some_and(|deadline| deadline <= now) {
                let message = format!(
                    "broker {address} did not answer within {:?} (request_timeout)",
                    self.request_timeout
                );
                link.end(&Error::new(ErrorKind::TimedOut, message), now, &mut news);
            }
        }
        news
    }

    /// When a request's time is over.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        self.by_address.values().filter_map(Link::deadline).min()
    }

    fn open(&mut self, address: &str, now: Duration) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let link = self
            .by_address
            .entry(address.to_owned())
            .or_insert_with(Link::new);
        link.serial = serial;
        link.state = match self.client.inner.connections.to(address) {
            Ok(channel) => {
                let sent = Arc::clone(&self.sent);
                let stream = Stream {
                    address: address.to_owned(),
                    serial,
                    events: self.events.clone(),
                };
                let task = tokio::spawn(stream.run(channel, self.request_timeout, move || sent.notify_one()));
                link.task = Some(task.abort_handle());
                State::Opening
            }
            Err(error) => State::Down {
                until: now + backoff::LONGEST,
                error,
            },
        };
    }
}

impl Link {
    fn new() -> Self {
        Self {
            serial: 0,
            state: State::Down {
                until: Duration::ZERO,
                error: Error::new(ErrorKind::Unreachable, "not opened"),
            },
            task: None,
            failures: 0,
            unanswered: BTreeMap::new(),
            waiting: BTreeSet::new(),
            outgoing: Vec::new(),
            outgoing_bytes: 0,
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.unanswered.values().next().map(|oldest| oldest.deadline)
    }

    fn dispatch(&mut self, correlation_id: u64, acks: Acks, request_timeout: Duration, now: Duration) {
        let outgoing = std::mem::take(&mut self.outgoing);
        self.outgoing_bytes = 0;
        let batches = outgoing.iter().map(|one| (one.queue, one.batch)).collect();
        let deadline = now + request_timeout;
        self.unanswered
            .insert(correlation_id, Unanswered { deadline, batches });
        let request = ProduceRequest {
            correlation_id,
            acks,
            // A broker that is alive says that its followers are slow before it counts as dead
            // itself.
            timeout: request_timeout.mul_f64(0.75),
            batches: outgoing.into_iter().map(|one| one.data).collect(),
        };
        if let State::Open(requests) = &self.state {
            // A stream that ended meanwhile says so by an event, which loses this request with the
            // others.
            let _ = requests.try_send(request);
        }
    }

    fn answered(&mut self, answer: ProduceAnswer, news: &mut News) {
        let Some(sent) = self.unanswered.remove(&answer.correlation_id) else {
            return;
        };
        let mut outcomes = answer.outcomes.into_iter();
        for (queue, batch) in sent.batches {
            let outcome = match outcomes.next() {
                Some(outcome) => Outcome::Answered(outcome),
                None => Outcome::Lost(crate::wire::malformed("a produce answer without every partition")),
            };
            news.outcomes.push((queue, batch, outcome));
        }
    }

    fn end(&mut self, error: &Error, now: Duration, news: &mut News) {
        tracing::debug!(%error, "a produce stream ended");
        self.stop();
        self.failures += 1;
        self.state = State::Down {
            until: now + backoff::after(self.failures),
            error: error.clone(),
        };
        for sent in std::mem::take(&mut self.unanswered).into_values() {
            let lost = |(queue, batch)| (queue, batch, Outcome::Lost(error.clone()));
            news.outcomes.extend(sent.batches.into_iter().map(lost));
        }
        news.wake.append(&mut self.waiting);
    }
}

/// The task of one stream.
struct Stream {
    address: String,
    serial: u64,
    events: mpsc::Sender<LinkEvent>,
}

impl Stream {
    async fn run(self, channel: Channel, timeout: Duration, on_sent: impl Fn() + Send + 'static) {
        let (requests, queue) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let timeout = timeout.min(OPEN_TIMEOUT);
        let opened = tokio::time::timeout(timeout, open(channel, queue, on_sent)).await;
        let late = |_| {
            Err(Error::new(
                ErrorKind::TimedOut,
                format!("no stream within {timeout:?}"),
            ))
        };
        let mut answers = match opened.unwrap_or_else(late) {
            Ok(answers) => answers,
            Err(error) => return self.tell(What::Ended(error)).await,
        };
        self.tell(What::Opened(requests)).await;
        loop {
            match answers.next().await {
                Ok(answer) => self.tell(What::Answered(answer)).await,
                Err(error) => return self.tell(What::Ended(error)).await,
            }
        }
    }

    /// The driver always reads on, until it ends, and this task with it.
    async fn tell(&self, what: What) {
        let event = LinkEvent {
            address: self.address.clone(),
            serial: self.serial,
            what,
        };
        let _ = self.events.send(event).await;
    }
}
