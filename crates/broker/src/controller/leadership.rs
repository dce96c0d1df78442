//! One metadata leadership: sessions judged, brokers fenced, from the election to its end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidelog_cluster::Command;
use tidelog_cluster::duties::{DIAL_TIMEOUT, DialOf, Duties, Duty, Ground};
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::sessions::Dial;
use tidelog_metadata::Metadata;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::service::SessionEvent;
use super::upkeep;
use super::{ControllerConfig, PROPOSE_TIMEOUT};

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
                // What comes in between leaderships is about sessions that this broker does not
                // keep.
                event = events.recv() => if event.is_none() { return },
            }
        }
    }
}

pub(super) struct Leadership {
    metadata: Metadata,
    config: ControllerConfig,
    started: Instant,
    tasks: TaskTracker,
    /// Ends the tasks of this leadership.
    ended: CancellationToken,
}

/// A duty that is done.
enum Done {
    Dialled(DialOf, Dial),
    Fenced(BrokerIncarnation, Ground),
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
            tasks,
            ended,
        }
    }

    /// Does what [`Duties`] asks for until it is dropped, or nobody can report to it any more.
    async fn lead(&self, events: &mut mpsc::Receiver<SessionEvent>) {
        let mut images = self.metadata.subscribe();
        let image = Arc::clone(&images.borrow_and_update());
        let timeout = self.config.session_timeout;
        let mut duties = Duties::begin(self.metadata.broker(), timeout, &image, self.now());
        self.spawn(upkeep::run(self.metadata.clone(), self.config.balance_interval));
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(duty) = duties.advance(self.now()) {
                under_way.push(self.perform(duty));
            }
            let wake = duties.next_wake().unwrap_or_else(|| self.now() + IDLE);
            tokio::select! {
                event = events.recv() => match event {
                    Some(SessionEvent::Heard(broker)) => duties.heard(broker, self.now()),
                    Some(SessionEvent::Broken(broker)) => duties.broken(broker, self.now()),
                    None => return,
                },
                changed = images.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    duties.follow(&images.borrow_and_update(), self.now());
                }
                Some(done) = under_way.next() => match done {
                    Done::Dialled(dial, outcome) => duties.dialled(dial, outcome, self.now()),
                    Done::Fenced(broker, ground) => duties.fencing_ended(broker, ground, self.now()),
                },
                () = sleep_until(self.started + wake) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn perform(&self, duty: Duty) -> Done {
        match duty {
            Duty::Dial(dial) => {
                let peers = self.metadata.peers();
                Done::Dialled(dial, peers.dial(dial.broker.broker, DIAL_TIMEOUT).await)
            }
            Duty::Fence(broker, ground) => {
                propose_fencing(&self.metadata, broker, ground).await;
                Done::Fenced(broker, ground)
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            ended.run_until_cancelled(task).await;
        });
    }
}

async fn propose_fencing(metadata: &Metadata, broker: BrokerIncarnation, ground: Ground) {
    let why = match ground {
        Ground::Silent => "it was silent for a whole session",
        Ground::Refuses => "its process is gone: connections are refused",
    };
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
