//! One metadata leadership: sessions judged, brokers fenced, from the election to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_cluster::command::BrokerIncarnation;
use tidelog_cluster::sessions::SessionTable;
use tidelog_cluster::{ClusterImage, Command};
use tidelog_metadata::Metadata;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ControllerConfig;
use super::service::SessionEvent;
use super::suspicion::refuses_connections;
use super::upkeep;

/// How long a proposal of the controller may take; what it wanted is looked at again then.
pub(super) const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a fencing that could not be proposed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How long after a dial that was not refused a suspect is dialled again.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// With nobody to fence, when to look again.
const IDLE: Duration = Duration::from_hours(1);

/// Runs the duties whenever this broker leads the metadata.
pub(super) async fn run(
    metadata: Metadata,
    config: ControllerConfig,
    mut events: mpsc::Receiver<SessionEvent>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut leaders = metadata.leader_watch();
    loop {
        let leader = *leaders.borrow_and_update();
        if let Some(leader) = leader.filter(|leader| leader.broker == metadata.broker()) {
            tracing::info!(term = leader.term, "this broker leads the metadata");
            let ended = stop.child_token();
            let leadership = Leadership::new(metadata.clone(), config, tasks.clone(), ended.clone());
            tokio::select! {
                () = stop.cancelled() => return,
                () = leadership.lead(&mut events) => return,
                changed = leaders.changed() => {
                    // What this leadership still had under way is the next one's business.
                    ended.cancel();
                    if changed.is_err() { return }
                }
            }
        } else {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = leaders.changed() => if changed.is_err() { return },
                // What comes in between leaderships is about sessions that this broker does not keep.
                event = events.recv() => if event.is_none() { return },
            }
        }
    }
}

pub(super) struct Leadership {
    metadata: Metadata,
    config: ControllerConfig,
    started: Instant,
    /// Brokers that are being fenced: one proposal each.
    fencing: Arc<Mutex<BTreeSet<BrokerIncarnation>>>,
    /// Brokers whose stream broke and that were not heard of since: one dialling task each.
    suspects: Arc<Mutex<BTreeSet<BrokerIncarnation>>>,
    tasks: TaskTracker,
    /// Ends the tasks of this leadership.
    ended: CancellationToken,
}

impl Leadership {
    fn new(
        metadata: Metadata,
        config: ControllerConfig,
        tasks: TaskTracker,
        ended: CancellationToken,
    ) -> Self {
        Self {
            metadata,
            config,
            started: Instant::now(),
            fencing: Arc::default(),
            suspects: Arc::default(),
            tasks,
            ended,
        }
    }

    /// Keeps sessions until it is dropped, or nobody can report to it any more.
    async fn lead(&self, events: &mut mpsc::Receiver<SessionEvent>) {
        let mut images = self.metadata.subscribe();
        let image = Arc::clone(&images.borrow_and_update());
        let mut sessions = SessionTable::granted(self.config.session_timeout, &image, self.now());
        self.dial_everybody(&image);
        self.spawn(upkeep::run(self.metadata.clone(), self.config.balance_interval));
        let mut retry_at = self.started;
        loop {
            let deadline = sessions
                .next_deadline()
                .map_or(self.started + self.now() + IDLE, |at| self.started + at);
            tokio::select! {
                event = events.recv() => match event {
                    Some(SessionEvent::Heard(broker)) => {
                        sessions.heard(broker, self.now());
                        self.suspects.lock().remove(&broker);
                    }
                    Some(SessionEvent::Broken(broker)) => self.suspect(broker),
                    None => return,
                },
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sessions.follow(&images.borrow_and_update(), self.now());
                }
                () = sleep_until(deadline.max(retry_at)) => {
                    for broker in sessions.expired(self.now()) {
                        self.fence(broker, "it was silent for a whole session");
                    }
                    retry_at = Instant::now() + RETRY;
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A new leader does not know whose streams broke with its predecessor: it dials every broker.
    fn dial_everybody(&self, image: &ClusterImage) {
        for broker in image
            .brokers
            .values()
            .filter(|broker| !broker.fenced && broker.id != self.metadata.broker())
        {
            self.suspect(BrokerIncarnation {
                broker: broker.id,
                epoch: broker.epoch,
            });
        }
    }

    /// Dials a broker until nothing listens there, which fences it, or it is heard again. A dying process may lose its
    /// connections a moment before its listener: one dial that connects proves nothing.
    fn suspect(&self, broker: BrokerIncarnation) {
        if !self.metadata.image().is_unfenced_as(broker) || !self.suspects.lock().insert(broker) {
            return;
        }
        let (metadata, suspects) = (self.metadata.clone(), Arc::clone(&self.suspects));
        self.spawn(async move {
            while suspects.lock().contains(&broker) && metadata.image().is_unfenced_as(broker) {
                if refuses_connections(metadata.peers(), broker.broker).await {
                    propose_fencing(&metadata, broker, "its process is gone: connections are refused").await;
                }
                tokio::time::sleep(DIAL_AGAIN).await;
            }
            suspects.lock().remove(&broker);
        });
    }

    /// Fences a broker, unless that is under way.
    fn fence(&self, broker: BrokerIncarnation, why: &'static str) {
        if !self.fencing.lock().insert(broker) {
            return;
        }
        let (metadata, fencing) = (self.metadata.clone(), Arc::clone(&self.fencing));
        self.spawn(async move {
            propose_fencing(&metadata, broker, why).await;
            fencing.lock().remove(&broker);
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            ended.run_until_cancelled(task).await;
        });
    }
}

async fn propose_fencing(metadata: &Metadata, broker: BrokerIncarnation, why: &str) {
    tracing::warn!(broker = %broker.broker, epoch = %broker.epoch, why, "fencing a broker");
    match metadata
        .propose(Command::FenceBroker(broker), PROPOSE_TIMEOUT)
        .await
    {
        // Refused: it was registered anew meanwhile, and lives.
        Ok(outcome) => tracing::debug!(?outcome, "fenced"),
        Err(error) => tracing::warn!(%error, broker = %broker.broker, "fencing failed"),
    }
}
