//! The task that sends: owns the lines, the links and the timers, and does everything in turns.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tidelog_producer::{Identity, Line};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::builder::Settings;
use super::handle::Shared;
use super::links::{LinkEvent, Links, News};
use super::partition::Partition;
use super::queue::closed;
use crate::backoff;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::wire::produce::init_producer;

/// How long one broker may take to give a producer id: there are others.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer's task: see the module.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    context: Context,
    partitions: HashMap<u64, Partition>,
    events: mpsc::Receiver<LinkEvent>,
    /// Partitions to visit in this turn.
    due: BTreeSet<u64>,
}

/// Which partition asked for the epoch after which, if one did, and what it was told.
type ToldIdentity = (Option<(u64, Identity)>, Result<Identity>);

/// What partitions use.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) links: Links,
    started: Instant,
    /// What a new line begins with.
    identity: Option<Identity>,
    identities: FuturesUnordered<BoxFuture<'static, ToldIdentity>>,
    identity_failures: u32,
    timers: BTreeSet<(Duration, u64)>,
}

impl Context {
    /// Time since the driver began.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// Moves a partition's timer from where it is to where it should be.
    pub(crate) fn set_timer(&mut self, queue: u64, set: &mut Option<Duration>, wake: Option<Duration>) {
        if *set == wake {
            return;
        }
        if let Some(at) = set.take() {
            self.timers.remove(&(at, queue));
        }
        if let Some(at) = wake {
            self.timers.insert((at, queue));
        }
        *set = wake;
    }

    /// Asks any broker for a producer id, or for a partition's next epoch.
    pub(crate) fn ask_identity(&mut self, current: Option<(u64, Identity)>, pause: Duration) {
        let client = self.client.clone();
        self.identities.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let asked = async {
                let channel = client.inner.any_channel()?;
                init_producer(channel, current.map(|(_, identity)| identity), IDENTITY_TIMEOUT).await
            };
            (current, asked.await)
        }));
    }
}

impl Driver {
    pub(crate) fn new(client: Client, settings: Settings, shared: Arc<Shared>) -> Self {
        let (links, events) = Links::new(client.clone(), &settings);
        let context = Context {
            client,
            settings,
            links,
            started: Instant::now(),
            identity: None,
            identities: FuturesUnordered::new(),
            identity_failures: 0,
            timers: BTreeSet::new(),
        };
        Self {
            shared,
            context,
            partitions: HashMap::new(),
            events,
            due: BTreeSet::new(),
        }
    }

    /// Runs until the last handle is gone or the producer was closed.
    pub(crate) async fn run(mut self) {
        let _ended = self.shared.ended.clone().drop_guard();
        let shared = Arc::clone(&self.shared);
        let sent = Arc::clone(&self.context.links.sent);
        let mut metadata = self.context.client.inner.metadata.subscribe();
        if self.context.settings.idempotent {
            self.context.ask_identity(None, Duration::ZERO);
        }
        loop {
            self.turn();
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = shared.abort.cancelled() => break,
                Some(event) = self.events.recv() => self.on_events(event),
                Some((asked, told)) = self.context.identities.next(), if !self.context.identities.is_empty() => {
                    self.on_identity(asked, told);
                }
                () = shared.wake.notified() => {}
                () = sent.notified() => {}
                Ok(()) = metadata.changed() => {
                    metadata.borrow_and_update();
                    shared.topics.refresh();
                    let working = self.partitions.iter().filter(|(_, partition)| partition.has_work());
                    self.due.extend(working.map(|(id, _)| *id));
                }
                () = tokio::time::sleep_until(wake.unwrap_or(self.context.started)), if wake.is_some() => {}
            }
        }
        self.abort();
    }

    /// Everything that can be done without waiting. All partitions that are due are visited before
    /// anything is sent, so that what goes to one broker goes together.
    fn turn(&mut self) {
        let now = self.context.now();
        let news = self.context.links.expire(now);
        self.on_news(news);
        self.take_retired();
        self.take_scheduled();
        self.take_timers(now);
        while !self.due.is_empty() {
            for id in std::mem::take(&mut self.due) {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.visit(&mut self.context);
                }
            }
            self.due = self.context.links.dispatch(now);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let timer = self.context.timers.first().map(|(at, _)| *at);
        let wake = [timer, self.context.links.next_wake()]
            .into_iter()
            .flatten()
            .min()?;
        Some(self.context.instant(wake))
    }

    /// What waits for a topic that is gone fails, and so does what is on its way there: of that
    /// nobody knows whether it was written. Late answers find no partition.
    fn take_retired(&mut self) {
        for (topic, error) in self.shared.topics.take_retired() {
            for queue in topic.queues() {
                if let Some(mut partition) = self.partitions.remove(&queue.id) {
                    partition.retire(&error, &mut self.context);
                }
                for batch in queue.retire() {
                    let error = error.clone().context(&queue.partition);
                    batch.settler.settle(Err(error));
                }
                queue.settled();
                self.due.remove(&queue.id);
            }
        }
    }

    fn take_scheduled(&mut self) {
        let settings = self.context.settings.line();
        for (queue, topic) in self.shared.take_scheduled() {
            // What was put into it before it was retired has failed.
            if queue.is_retired() {
                continue;
            }
            let id = queue.id;
            self.partitions.entry(id).or_insert_with(|| {
                let line = Line::new(settings, self.context.identity);
                Partition::new(queue, topic, line)
            });
            self.due.insert(id);
        }
    }

    fn take_timers(&mut self, now: Duration) {
        while let Some(&(at, id)) = self.context.timers.first()
            && at <= now
        {
            self.context.timers.pop_first();
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.timer_rang();
                self.due.insert(id);
            }
        }
    }

    /// Takes this event and those that came with it, so that one turn answers them all.
    fn on_events(&mut self, first: LinkEvent) {
        let mut next = Some(first);
        while let Some(event) = next {
            let news = self.context.links.on_event(event, self.context.now());
            self.on_news(news);
            next = self.events.try_recv().ok();
        }
    }

    fn on_news(&mut self, news: News) {
        self.due.extend(news.wake);
        for (id, batch, outcome) in news.outcomes {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.attempted(batch, outcome, &mut self.context);
                self.due.insert(id);
            }
        }
    }

    fn on_identity(&mut self, asked: Option<(u64, Identity)>, told: Result<Identity>) {
        match told {
            Ok(identity) => {
                self.context.identity_failures = 0;
                self.identified(asked.map(|(id, _)| id), identity);
            }
            Err(error) => {
                let error = error.context("no producer id");
                tracing::debug!(%error, "asking again");
                for partition in self.partitions.values_mut() {
                    if partition.line.needs_identity() {
                        partition.line.note(&error);
                    }
                }
                self.context.identity_failures += 1;
                let pause = backoff::after(self.context.identity_failures);
                self.context.ask_identity(asked, pause);
            }
        }
    }

    fn identified(&mut self, only: Option<u64>, identity: Identity) {
        if only.is_none() {
            self.context.identity = Some(identity);
        }
        for (id, partition) in &mut self.partitions {
            let concerned = match only {
                Some(only) => *id == only,
                None => partition.line.needs_identity(),
            };
            if concerned {
                partition.line.identified(identity);
                self.due.insert(*id);
            }
        }
    }

    fn abort(&mut self) {
        let error = self.shared.abort_reason.get().cloned().unwrap_or_else(|| {
            Error::new(
                closed().kind(),
                "the producer was dropped before the record was acknowledged; close it to wait",
            )
        });
        for partition in self.partitions.values_mut() {
            partition.abort(&error);
        }
        self.shared.abandon(&error);
    }
}
