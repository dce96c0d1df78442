//! Drives this broker's own session with the metadata leader, and the stream of its heartbeats.

use std::time::Duration;

use tidelog_cluster::command::RegisterBroker;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::session::{BrokerSession, Heartbeats, Loss, RETRY, Step};
use tidelog_cluster::sessions::HeartbeatAnswer;
use tidelog_cluster::{Accepted, Command};
use tidelog_types::{BrokerEpoch, BrokerId};

use super::metadata::{Fate, Purpose};
use super::{Process, Use};
use crate::context::Context;
use crate::message::{Lane, Message};
use crate::network::Handle;

/// How long a stream may take to come about.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Where this broker stands.
#[derive(Debug)]
pub(super) struct Registration {
    /// By this process's own clock.
    session: BrokerSession,
    /// The leader that it was last told of.
    leader: Option<BrokerId>,
    stream: Option<Stream>,
    /// No stream is opened before then, unless somebody else leads than did.
    open_at: Option<(BrokerId, Duration)>,
    draining: bool,
    leaving: bool,
    left: bool,
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    leader: BrokerId,
    open_by: Duration,
    is_open: bool,
    /// By this process's own clock.
    heartbeats: Heartbeats,
}

impl Registration {
    pub(super) fn new(broker: BrokerId, session: Duration) -> Self {
        Self {
            session: BrokerSession::new(broker, session),
            leader: None,
            stream: None,
            open_at: None,
            draining: false,
            leaving: false,
            left: false,
        }
    }

    /// The newest registration; `None` before the first, and from the loss of one to the next.
    pub(super) fn epoch(&self) -> Option<BrokerEpoch> {
        self.session.epoch()
    }
}

impl Process {
    /// Whether this broker's session lasts, by its own clock.
    pub(super) fn session_lasts(&self, context: &Context) -> bool {
        !self.registration.leaving && self.local(context) < self.registration.session.serves_until()
    }

    /// Whether an orderly stop is through.
    pub(super) fn has_left(&self) -> bool {
        self.registration.left
    }

    pub(super) fn incarnation(&self) -> Option<BrokerIncarnation> {
        self.registration.session.incarnation()
    }

    pub(super) fn tick_registration(&mut self, context: &mut Context) {
        let leader = self.raft.leader();
        if std::mem::replace(&mut self.registration.leader, leader) != leader {
            self.registration.session.leader_changed();
        }
        // Who stops and is not registered need not be any more.
        while !(self.registration.draining && self.registration.epoch().is_none()) {
            let local = self.local(context);
            let step = self.registration.session.advance(local, &self.applied.image);
            let Some(step) = step else { break };
            self.perform_step(step, context);
        }
        if let Some(epoch) = self.registration.epoch()
            && !self.registration.leaving
        {
            self.keep_stream(epoch, context);
        }
    }

    fn perform_step(&mut self, step: Step, context: &mut Context) {
        let timeout = context.config.session;
        match step {
            Step::Register => {
                let command = Command::RegisterBroker(RegisterBroker {
                    broker: self.broker,
                    directory: self.disk.directory,
                    peer_address: String::new(),
                    listeners: Vec::new(),
                    feature_level: 1,
                });
                self.propose(command, Purpose::Register, timeout, context);
            }
            Step::Unfence(incarnation) => {
                let command = Command::UnfenceBroker(incarnation);
                self.propose(command, Purpose::Unfence(incarnation), timeout, context);
            }
            Step::Lost { why, .. } => {
                context.history.seen.self_fencings += u64::from(why == Loss::Silence);
                self.drop_stream(context);
                self.registration.open_at = None;
                self.registration.left = self.registration.draining;
                self.follow_soon(context);
            }
        }
    }

    /// Moves every leadership away that another broker can take (R11).
    pub(super) fn drain(&mut self, context: &mut Context) {
        if self.registration.draining {
            return;
        }
        self.registration.draining = true;
        match self.incarnation() {
            Some(incarnation) => {
                let timeout = Duration::from_secs(3);
                self.propose(
                    Command::DrainBroker(incarnation),
                    Purpose::Drain,
                    timeout,
                    context,
                );
            }
            None => self.registration.left = true,
        }
    }

    pub(super) fn registration_fated(&mut self, purpose: &Purpose, fate: Fate, context: &mut Context) {
        let local = self.local(context);
        let session = &mut self.registration.session;
        let accepted = fate.map(|outcome| (outcome.index, outcome.result));
        match (purpose, accepted) {
            (Purpose::Register, Some((index, Ok(Accepted::BrokerRegistered { epoch })))) => {
                session.registered(epoch, index, local);
                self.follow_soon(context);
            }
            (Purpose::Register, _) => session.not_registered(local),
            (Purpose::Unfence(incarnation), Some((index, Ok(_)))) => session.unfenced(*incarnation, index),
            (Purpose::Unfence(incarnation), Some((_, Err(_)))) => {
                if let Some(lost) = session.unfencing_refused(*incarnation) {
                    self.perform_step(lost, context);
                }
            }
            (Purpose::Unfence(incarnation), None) => session.unfencing_failed(*incarnation, local),
            (Purpose::Drain, _) => self.leave(context),
            (Purpose::Leave, _) => self.registration.left = true,
            _ => {}
        }
    }

    fn leave(&mut self, context: &mut Context) {
        let incarnation = self.incarnation();
        self.registration.leaving = true;
        self.drop_stream(context);
        self.fence_replicas(context);
        match incarnation {
            Some(incarnation) => {
                let timeout = Duration::from_secs(2);
                self.propose(
                    Command::FenceBroker(incarnation),
                    Purpose::Leave,
                    timeout,
                    context,
                );
            }
            None => self.registration.left = true,
        }
    }

    fn drop_stream(&mut self, context: &mut Context) {
        if let Some(stream) = self.registration.stream.take() {
            self.uses.remove(&stream.handle);
            context.close(stream.handle);
        }
    }

    fn keep_stream(&mut self, epoch: BrokerEpoch, context: &mut Context) {
        let leader = self.raft.leader();
        let now = context.now;
        if let Some(stream) = &self.registration.stream {
            let (known, is_late) = (stream.leader, !stream.is_open && stream.open_by <= now);
            if is_late || leader.is_some_and(|leader| leader != known) {
                self.drop_stream(context);
                self.registration.open_at = is_late.then_some((known, now + RETRY));
            }
        }
        let local = self.local(context);
        match (&mut self.registration.stream, leader) {
            (Some(stream), _) => {
                if stream.is_open
                    && let Some(sequence) = stream.heartbeats.beat(local)
                {
                    context.say(stream.handle, Message::Heartbeat { epoch, sequence });
                }
            }
            (None, Some(leader))
                if self
                    .registration
                    .open_at
                    .is_none_or(|(refused, at)| at <= now || leader != refused) =>
            {
                let handle = context.open(self.address, leader, Lane::Session);
                self.uses.insert(handle, Use::OwnSession);
                self.registration.stream = Some(Stream {
                    handle,
                    leader,
                    open_by: now + OPEN_TIMEOUT,
                    is_open: false,
                    heartbeats: Heartbeats::new(context.config.heartbeat, local),
                });
            }
            (None, _) => {}
        }
    }

    pub(super) fn session_opened(&mut self, context: &mut Context) {
        if let Some(stream) = &mut self.registration.stream {
            stream.is_open = true;
        }
        if let Some(epoch) = self.registration.epoch() {
            self.keep_stream(epoch, context);
        }
    }

    /// Whoever leads without a quorum ends every stream at once: the next one is opened after a
    /// pause.
    pub(super) fn session_closed(&mut self, context: &Context) {
        if let Some(stream) = self.registration.stream.take() {
            self.registration.open_at = Some((stream.leader, context.now + RETRY));
        }
    }

    pub(super) fn heartbeat_answered(
        &mut self,
        sequence: u64,
        stale: bool,
        fenced: bool,
        context: &mut Context,
    ) {
        let Some(stream) = &mut self.registration.stream else {
            return;
        };
        let Some(sent) = stream.heartbeats.answered(sequence) else {
            return;
        };
        let answer = HeartbeatAnswer {
            stale_epoch: stale,
            fenced,
        };
        if let Some(lost) = self.registration.session.heartbeat_answered(sent, answer) {
            self.perform_step(lost, context);
        }
    }
}
