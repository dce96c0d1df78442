//! This broker's own session with the metadata leader.
//!
//! 1. *Register*: propose it, wherever the leader is. The broker epoch is the log index of the registration.
//! 2. *Catch up*: apply the metadata up to that index, then propose to be unfenced.
//! 3. *Serve*: a heartbeat every half second on a stream to the metadata leader, to the next one after an election. Each answer
//!    extends the time this broker may serve ([`SelfFence`]).
//! 4. Back to 1 when the leader says that the registration is over or fenced, and when no heartbeat was answered for a session's
//!    length: then this broker fences itself first.
//! 5. *Drain* and *leave* at the end (R11).

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidelog_cluster::command::{BrokerIncarnation, RegisterBroker};
use tidelog_cluster::image::Listener;
use tidelog_cluster::{Accepted, Command, MetadataIndex};
use tidelog_metadata::{Metadata, ProposeError};
use tidelog_types::{BrokerEpoch, PartitionError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ControllerConfig;
use super::session::{SessionNews, SessionStream};
use super::status::{BrokerStatus, SelfFence};

/// The protocol and storage features that this build speaks.
pub const FEATURE_LEVEL: u32 = 1;
/// How soon something that failed is tried again, unless the metadata leader changes sooner.
const RETRY: Duration = Duration::from_millis(100);

/// What a broker registers with.
#[derive(Debug, Clone)]
pub struct RegistrationConfig {
    /// Where other brokers reach it, "host:port".
    pub peer_address: String,
    /// Where clients reach it, as advertised.
    pub listeners: Vec<Listener>,
    /// Timings.
    pub timings: ControllerConfig,
}

/// Why an orderly departure did not go through. The broker may stop all the same: it is fenced for its silence then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeaveError {
    /// It is not registered at this moment.
    #[error("the broker is not registered at this moment")]
    NotRegistered,
    /// The metadata leader could not be asked in time.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The registration is over.
    #[error(transparent)]
    Refused(#[from] PartitionError),
}

/// The session. Cheap to clone; [`Registration::leave`] ends it for all clones.
#[derive(Clone)]
pub struct Registration {
    metadata: Metadata,
    status: Arc<watch::Sender<BrokerStatus>>,
    fence: SelfFence,
    tasks: TaskTracker,
    /// Ends the session task.
    pub(super) stop: CancellationToken,
}

impl Registration {
    /// Begins to register. Must be called on a tokio runtime, when what the broker holds is loaded: it serves as soon as it is
    /// registered and has caught up.
    pub fn start(metadata: Metadata, config: RegistrationConfig) -> Self {
        let registration = Self {
            status: Arc::new(watch::Sender::new(BrokerStatus::FENCED)),
            fence: SelfFence::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metadata,
        };
        let task = SessionTask {
            metadata: registration.metadata.clone(),
            status: Arc::clone(&registration.status),
            fence: registration.fence.clone(),
            config,
        };
        let stop = registration.stop.clone();
        registration.tasks.spawn(async move {
            stop.run_until_cancelled(task.run()).await;
        });
        registration.tasks.close();
        registration
    }

    /// How this broker stands; the partitions and readiness follow it.
    pub fn status(&self) -> watch::Receiver<BrokerStatus> {
        self.status.subscribe()
    }

    /// The time this broker may serve, for those who must notice at once.
    pub fn self_fence(&self) -> SelfFence {
        self.fence.clone()
    }

    /// Moves every leadership away that another broker can take, and waits until this broker's own image shows it (R11). Answers
    /// how many partitions it still leads because nobody else can.
    pub async fn drain(&self, timeout: Duration) -> Result<u32, LeaveError> {
        self.status.send_modify(|status| status.draining = true);
        let command = Command::DrainBroker(self.incarnation()?);
        let outcome = self.metadata.propose(command, timeout).await?;
        let accepted = outcome.result?;
        let _ = tokio::time::timeout(timeout, self.metadata.wait_for_index(outcome.index)).await;
        match accepted {
            Accepted::BrokerDrained { still_leading } => Ok(still_leading),
            other => unreachable!("a drained broker is answered as such, not with {other:?}"),
        }
    }

    /// Ends the session and has this broker fenced, so that nobody waits for it. Call it when nothing is served any more.
    pub async fn leave(&self, timeout: Duration) -> Result<(), LeaveError> {
        let incarnation = self.incarnation();
        self.stop.cancel();
        self.tasks.wait().await;
        self.fence.end();
        self.status.send_replace(BrokerStatus {
            draining: true,
            ..BrokerStatus::FENCED
        });
        let outcome = self
            .metadata
            .propose(Command::FenceBroker(incarnation?), timeout)
            .await?;
        outcome.result?;
        Ok(())
    }

    fn incarnation(&self) -> Result<BrokerIncarnation, LeaveError> {
        let epoch = self.status.borrow().epoch.ok_or(LeaveError::NotRegistered)?;
        Ok(BrokerIncarnation {
            broker: self.metadata.broker(),
            epoch,
        })
    }
}

struct SessionTask {
    metadata: Metadata,
    status: Arc<watch::Sender<BrokerStatus>>,
    fence: SelfFence,
    config: RegistrationConfig,
}

impl SessionTask {
    async fn run(self) {
        loop {
            let (epoch, index) = self.register().await;
            self.set(|status| {
                *status = BrokerStatus {
                    epoch: Some(epoch),
                    ..*status
                }
            });
            tracing::info!(%epoch, "registered");
            let lost = tokio::select! {
                why = self.keep(epoch) => why,
                why = self.serve(epoch, index) => why,
            };
            self.fence.end();
            self.set(|status| {
                *status = BrokerStatus {
                    draining: status.draining,
                    ..BrokerStatus::FENCED
                }
            });
            if self.status.borrow().draining {
                tracing::info!(%epoch, why = lost, "the session is lost while the broker is being stopped");
                return;
            }
            // Without metadata there is nothing to keep up with: every further registration would be lost at once.
            if self.metadata.leader_watch().has_changed().is_err() {
                tracing::info!(%epoch, why = lost, "the session is lost");
                return;
            }
            tracing::warn!(%epoch, why = lost, "the session is lost: registering anew");
        }
    }

    fn set(&self, change: impl FnOnce(&mut BrokerStatus)) {
        self.status.send_if_modified(|status| {
            let before = *status;
            change(status);
            *status != before
        });
    }

    /// Registers, however long it takes.
    async fn register(&self) -> (BrokerEpoch, MetadataIndex) {
        let command = Command::RegisterBroker(RegisterBroker {
            broker: self.metadata.broker(),
            directory: self.metadata.directory(),
            peer_address: self.config.peer_address.clone(),
            listeners: self.config.listeners.clone(),
            feature_level: FEATURE_LEVEL,
        });
        loop {
            match self
                .metadata
                .propose(command.clone(), self.config.timings.session_timeout)
                .await
            {
                Ok(outcome) => match outcome.result {
                    Ok(Accepted::BrokerRegistered { epoch }) => return (epoch, outcome.index),
                    Ok(other) => unreachable!("a registration is answered as such, not with {other:?}"),
                    Err(refusal) => tracing::error!(%refusal, "this broker may not register"),
                },
                Err(error) => tracing::warn!(%error, "not registered yet"),
            }
            self.pause().await;
        }
    }

    /// Waits a moment, or until somebody else leads the metadata.
    async fn pause(&self) {
        let mut leaders = self.metadata.leader_watch();
        leaders.mark_unchanged();
        let _ = tokio::time::timeout(RETRY, leaders.changed()).await;
    }

    /// Has this broker unfenced once it knows what was decided up to its registration. Ends when it is fenced again, or if that fails for
    /// good, and says why.
    async fn serve(&self, epoch: BrokerEpoch, index: MetadataIndex) -> &'static str {
        self.metadata.wait_for_index(index).await;
        let command = Command::UnfenceBroker(BrokerIncarnation {
            broker: self.metadata.broker(),
            epoch,
        });
        loop {
            match self
                .metadata
                .propose(command.clone(), self.config.timings.session_timeout)
                .await
            {
                Ok(outcome) => match outcome.result {
                    Ok(_) => {
                        self.metadata.wait_for_index(outcome.index).await;
                        break;
                    }
                    Err(refusal) => {
                        tracing::warn!(%refusal, "not unfenced");
                        return "not unfenced";
                    }
                },
                Err(error) => tracing::warn!(%error, "not unfenced yet"),
            }
            self.pause().await;
        }
        // From here on, an image without it is one of a later fencing, also where those in between were skipped.
        let mut images = self.metadata.subscribe();
        let fenced = images.wait_for(|image| self.unfenced_in(image, epoch) != Some(true));
        match fenced.await {
            Ok(_) => "fenced",
            Err(_) => "the metadata stopped",
        }
    }

    /// Keeps the session until it is lost, and says why it was.
    async fn keep(&self, epoch: BrokerEpoch) -> &'static str {
        let session = self.config.timings.session_timeout;
        let mut images = self.metadata.subscribe();
        let mut leaders = self.metadata.leader_watch();
        let mut last_answered = std::time::Instant::now();
        let mut stream: Option<SessionStream> = None;
        let mut was_unfenced = false;
        loop {
            if let Some(unfenced) = self.unfenced_in(&images.borrow_and_update(), epoch) {
                was_unfenced |= unfenced;
                // Served only with an answered heartbeat of this registration: `fence` starts at none.
                self.set(|status| status.fenced = !(unfenced && self.fence.serves()));
            } else {
                return "registered anew by another";
            }
            let deadline = Instant::from_std(last_answered + session);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return "no heartbeat was answered for a session's length",
                changed = images.changed() => if changed.is_err() { return "the metadata stopped" },
                changed = leaders.changed() => {
                    if changed.is_err() { return "the metadata stopped" }
                    stream = None;
                }
                opened = self.open(), if stream.is_none() => stream = opened,
                news = next(&mut stream, epoch, &self.metadata), if stream.is_some() => match news {
                    SessionNews::Answered { stale: true, .. } => return "registered anew",
                    SessionNews::Answered { sent, fenced, .. } => {
                        // A leader that knows better than this broker's image does not prolong what it ended; a new one that
                        // knows less will catch up.
                        if !(fenced && was_unfenced) {
                            last_answered = sent;
                            self.fence.extend(sent, session);
                        }
                    }
                    SessionNews::Broken => {
                        stream = None;
                        // Whoever leads without a quorum ends every stream at once.
                        self.pause().await;
                    }
                }
            }
        }
    }

    /// Whether the image has this registration unfenced; `None` if it has a newer one.
    fn unfenced_in(&self, image: &tidelog_cluster::ClusterImage, epoch: BrokerEpoch) -> Option<bool> {
        match image.broker(self.metadata.broker()) {
            Some(broker) if broker.epoch > epoch => None,
            Some(broker) => Some(broker.epoch == epoch && !broker.fenced),
            None => Some(false),
        }
    }

    /// Opens a stream to whoever leads; after a pause if there is none, or it does not answer.
    async fn open(&self) -> Option<SessionStream> {
        let opened = match self.metadata.leader() {
            Some(leader) => {
                let interval = self.config.timings.heartbeat_interval;
                SessionStream::open(&self.metadata, leader.broker, interval).await
            }
            None => None,
        };
        if opened.is_none() {
            tokio::time::sleep(RETRY).await;
        }
        opened
    }
}

/// News of a stream, if there is one.
async fn next(stream: &mut Option<SessionStream>, epoch: BrokerEpoch, metadata: &Metadata) -> SessionNews {
    match stream {
        Some(stream) => stream.news(epoch, metadata).await,
        None => std::future::pending().await,
    }
}
