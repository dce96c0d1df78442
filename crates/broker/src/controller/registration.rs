//! Drives this broker's own session with the metadata leader: [`tidelog_cluster::session`] decides,
//! this proposes, keeps a stream of heartbeats to the metadata leader, to the next one after an
//! election, and tells how the broker stands. *Drain* and *leave* end it (R11).

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use thiserror::Error;
use tidelog_cluster::command::RegisterBroker;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::ids::Listener;
use tidelog_cluster::session::{BrokerSession, RETRY, Step};
use tidelog_cluster::{Accepted, Command, Outcome};
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

/// What a broker registers with.
#[derive(Debug, Clone)]
pub struct RegistrationConfig {
    /// Where other brokers reach it, "host:port".
    pub peer_address: String,
    /// Where clients reach it, as advertised.
    pub listeners: Vec<Listener>,
    pub timings: ControllerConfig,
}

/// Why an orderly departure did not go through. The broker may stop all the same: it is fenced for
/// its silence then.
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
    /// Begins to register. Must be called on a tokio runtime, when what the broker holds is loaded:
    /// it serves as soon as it is registered and has caught up.
    pub fn start(metadata: Metadata, config: RegistrationConfig) -> Self {
        let registration = Self {
            status: Arc::new(watch::Sender::new(BrokerStatus::FENCED)),
            fence: SelfFence::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metadata,
        };
        let task = SessionTask::new(&registration, config);
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

    /// Moves every leadership away that another broker can take, and waits until this broker's own
    /// image shows it (R11). Answers how many partitions it still leads because nobody else can.
    pub async fn drain(&self, timeout: Duration) -> Result<u32, LeaveError> {
        self.status.send_modify(|status| status.draining = true);
        let command = Command::DrainBroker(self.incarnation()?);
        let outcome = self.metadata.propose(command, timeout).await?;
        let accepted = outcome.result?;
        let _ = tokio::time::timeout(timeout, self.metadata.wait_for_index(outcome.index)).await;
        match accepted {
            Accepted::BrokerDrained { still_leading } => Ok(still_leading),
            other => {
                let what = format!("draining was answered with something else: {other:?}");
                Err(ProposeError::Indeterminate(what).into())
            }
        }
    }

    /// Ends the session and has this broker fenced, so that nobody waits for it. Call it when
    /// nothing is served any more.
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
    started: Instant,
    session: BrokerSession,
    /// What was proposed and is not answered: one at a time.
    proposed: Option<BoxFuture<'static, Proposed>>,
    stream: Option<SessionStream>,
    /// No stream is opened before then.
    open_at: Option<Instant>,
}

/// What became of a step that was proposed.
type Proposed = (Step, Result<Outcome, ProposeError>);

impl SessionTask {
    fn new(registration: &Registration, config: RegistrationConfig) -> Self {
        let metadata = registration.metadata.clone();
        Self {
            status: Arc::clone(&registration.status),
            fence: registration.fence.clone(),
            started: Instant::now(),
            session: BrokerSession::new(metadata.broker(), config.timings.session_timeout),
            proposed: None,
            stream: None,
            open_at: None,
            metadata,
            config,
        }
    }

    /// Runs until the session is lost while the broker is being stopped, or the metadata stop.
    async fn run(mut self) {
        let mut images = self.metadata.subscribe();
        let mut leaders = self.metadata.leader_watch();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            while let Some(step) = self.session.advance(self.started.elapsed(), &image) {
                if self.perform(step) == Goes::Ends {
                    return;
                }
            }
            self.tell();
            let registered = self.session.epoch();
            let wake = self.session.next_wake().map(|at| self.started + at);
            let may_open = registered.is_some() && self.stream.is_none();
            let lost = tokio::select! {
                proposed = answered(&mut self.proposed) => self.fated(proposed),
                () = sleep_until(wake) => None,
                changed = images.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return self.metadata_stopped(),
                },
                changed = leaders.changed() => {
                    if changed.is_err() {
                        return self.metadata_stopped();
                    }
                    (self.stream, self.open_at) = (None, None);
                    self.session.leader_changed();
                    None
                }
                opened = open(&self.metadata, &self.config, self.open_at), if may_open => {
                    self.stream = opened;
                    None
                }
                news = next(&mut self.stream, registered, &self.metadata) => self.heard(news),
            };
            if let Some(lost) = lost
                && self.perform(lost) == Goes::Ends
            {
                return;
            }
        }
    }

    fn perform(&mut self, step: Step) -> Goes {
        match step {
            Step::Register => {
                let command = Command::RegisterBroker(RegisterBroker {
                    broker: self.metadata.broker(),
                    directory: self.metadata.directory(),
                    peer_address: self.config.peer_address.clone(),
                    listeners: self.config.listeners.clone(),
                    feature_level: FEATURE_LEVEL,
                });
                self.propose(step, command);
            }
            Step::Unfence(incarnation) => self.propose(step, Command::UnfenceBroker(incarnation)),
            Step::Lost { epoch, why } => {
                (self.proposed, self.stream, self.open_at) = (None, None, None);
                self.fence.end();
                self.tell();
                if self.status.borrow().draining {
                    tracing::info!(%epoch, %why, "the session is lost while the broker is being stopped");
                    return Goes::Ends;
                }
                tracing::warn!(%epoch, %why, "the session is lost: registering anew");
            }
        }
        Goes::On
    }

    fn propose(&mut self, step: Step, command: Command) {
        let (metadata, timeout) = (self.metadata.clone(), self.config.timings.session_timeout);
        self.proposed = Some(Box::pin(async move {
            (step, metadata.propose(command, timeout).await)
        }));
    }

    /// A proposal was answered, or will not be.
    fn fated(&mut self, (step, fate): Proposed) -> Option<Step> {
        let now = self.started.elapsed();
        let decided = fate.map(|outcome| (outcome.index, outcome.result));
        match (step, decided) {
            (Step::Register, Ok((index, Ok(Accepted::BrokerRegistered { epoch })))) => {
                tracing::info!(%epoch, "registered");
                self.session.registered(epoch, index, now);
            }
            (Step::Register, refused) => {
                match refused {
                    Ok((_, Err(refusal))) => tracing::error!(%refusal, "this broker may not register"),
                    Ok((_, Ok(other))) => {
                        tracing::error!(?other, "a registration was answered with something else");
                    }
                    Err(error) => tracing::warn!(%error, "not registered yet"),
                }
                self.session.not_registered(now);
            }
            (Step::Unfence(incarnation), Ok((index, Ok(_)))) => self.session.unfenced(incarnation, index),
            (Step::Unfence(incarnation), Ok((_, Err(refusal)))) => {
                tracing::warn!(%refusal, "not unfenced");
                return self.session.unfencing_refused(incarnation);
            }
            (Step::Unfence(incarnation), Err(error)) => {
                tracing::warn!(%error, "not unfenced yet");
                self.session.unfencing_failed(incarnation, now);
            }
            (Step::Lost { .. }, _) => {}
        }
        None
    }

    fn heard(&mut self, news: SessionNews) -> Option<Step> {
        match news {
            SessionNews::Answered { sent, answer } => {
                let started = self.started.into_std();
                let before = self.session.serves_until();
                let lost = self
                    .session
                    .heartbeat_answered(sent.saturating_duration_since(started), answer);
                let until = self.session.serves_until();
                if until > before {
                    self.fence.extend(sent, started + until);
                }
                lost
            }
            SessionNews::Broken => {
                // Whoever leads without a quorum ends every stream at once.
                self.stream = None;
                self.open_at = Some(Instant::now() + RETRY);
                None
            }
        }
    }

    /// Tells how the broker stands. It serves only with an answered heartbeat of this registration.
    fn tell(&self) {
        let epoch = self.session.epoch();
        let fenced = !(self.session.is_unfenced() && self.fence.serves());
        self.status.send_if_modified(|status| {
            let before = *status;
            (status.epoch, status.fenced) = (epoch, fenced);
            *status != before
        });
    }

    /// Without metadata there is nothing to keep up with: every further registration would be lost
    /// at once.
    fn metadata_stopped(&self) {
        tracing::info!(epoch = ?self.session.epoch(), "the session ends: the metadata stopped");
        self.fence.end();
        self.status.send_modify(|status| {
            *status = BrokerStatus {
                draining: status.draining,
                ..BrokerStatus::FENCED
            }
        });
    }
}

/// Whether the task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    Ends,
}

/// What became of the proposal that is under way; never, if there is none.
async fn answered(proposed: &mut Option<BoxFuture<'static, Proposed>>) -> Proposed {
    match proposed {
        Some(future) => {
            let fate = future.await;
            *proposed = None;
            fate
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Opens a stream to whoever leads, not before then; after a pause if there is none, or it does not
/// answer.
async fn open(
    metadata: &Metadata,
    config: &RegistrationConfig,
    at: Option<Instant>,
) -> Option<SessionStream> {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
    let opened = match metadata.leader() {
        Some(leader) => {
            let interval = config.timings.heartbeat_interval;
            SessionStream::open(metadata, leader.broker, interval).await
        }
        None => None,
    };
    if opened.is_none() {
        tokio::time::sleep(RETRY).await;
    }
    opened
}

/// News of a stream; never, if there is none.
async fn next(
    stream: &mut Option<SessionStream>,
    epoch: Option<BrokerEpoch>,
    metadata: &Metadata,
) -> SessionNews {
    match (stream, epoch) {
        (Some(stream), Some(epoch)) => stream.news(epoch, metadata).await,
        _ => std::future::pending().await,
    }
}
