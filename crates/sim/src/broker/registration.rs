//! This broker's own session with the metadata leader: register, catch up, serve, drain, leave.

use std::time::Duration;

use tidelog_cluster::command::{BrokerIncarnation, RegisterBroker};
use tidelog_cluster::{Accepted, Command};
use tidelog_types::{BrokerEpoch, BrokerId};

use super::metadata::{Fate, Purpose};
use super::{Process, Use};
use crate::context::Context;
use crate::message::{Lane, Message};
use crate::network::Handle;

const RETRY: Duration = Duration::from_millis(100);
/// How long a stream may take to come about.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Where this broker stands.
#[derive(Debug)]
pub(super) struct Registration {
    /// The newest registration; `None` before the first, and from the loss of one to the next.
    pub(super) epoch: Option<BrokerEpoch>,
    is_proposed: bool,
    retry_at: Duration,
    unfencing: Unfencing,
    was_unfenced: bool,
    /// By this process's own clock.
    last_answered: Duration,
    /// Until when this broker may serve, by its own clock.
    serves_until: Duration,
    stream: Option<Stream>,
    /// No stream is opened before then, unless somebody else leads than did.
    open_at: Option<(BrokerId, Duration)>,
    draining: bool,
    leaving: bool,
    left: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfencing {
    /// Not before the metadata is applied up to there.
    From(u64),
    Proposed,
    /// It was, at this index.
    At(u64),
    Done,
}

#[derive(Debug)]
struct Stream {
    handle: Handle,
    leader: BrokerId,
    open_by: Duration,
    is_open: bool,
    sequence: u64,
    /// When the heartbeat that is not answered yet was sent, by this process's own clock.
    unanswered: Option<Duration>,
    beat_at: Duration,
}

impl Registration {
    pub(super) fn new() -> Self {
        Self {
            epoch: None,
            is_proposed: false,
            retry_at: Duration::ZERO,
            unfencing: Unfencing::Done,
            was_unfenced: false,
            last_answered: Duration::ZERO,
            serves_until: Duration::ZERO,
            stream: None,
            open_at: None,
            draining: false,
            leaving: false,
            left: false,
        }
    }
}

impl Process {
    /// Whether this broker's session lasts, by its own clock.
    pub(super) fn session_lasts(&self, context: &Context) -> bool {
        self.local(context) < self.registration.serves_until
    }

    /// Whether an orderly stop is through.
    pub(super) fn has_left(&self) -> bool {
        self.registration.left
    }

    pub(super) fn incarnation(&self) -> Option<BrokerIncarnation> {
        let epoch = self.registration.epoch?;
        Some(BrokerIncarnation {
            broker: self.broker,
            epoch,
        })
    }

    pub(super) fn tick_registration(&mut self, context: &mut Context) {
        let session = context.config.session;
        let Some(epoch) = self.registration.epoch else {
            if !self.registration.is_proposed
                && !self.registration.draining
                && self.registration.retry_at <= context.now
            {
                self.register(context);
            }
            return;
        };
        match self.applied.image.broker(self.broker) {
            Some(broker) if broker.epoch > epoch => return self.lose_session(context),
            known => {
                let unfenced = known.is_some_and(|broker| broker.epoch == epoch && !broker.fenced);
                if let Unfencing::At(index) = self.registration.unfencing
                    && self.applied.index >= index
                {
                    // Several images may have gone by since: this one may show a fencing that came after.
                    self.registration.unfencing = Unfencing::Done;
                    self.registration.was_unfenced = true;
                }
                if self.registration.was_unfenced && !unfenced {
                    return self.lose_session(context);
                }
                self.registration.was_unfenced |= unfenced;
            }
        }
        if self.local(context) >= self.registration.last_answered + session {
            context.history.seen.self_fencings += 1;
            return self.lose_session(context);
        }
        if let Unfencing::From(index) = self.registration.unfencing
            && self.applied.index >= index
            && self.registration.retry_at <= context.now
            && let Some(incarnation) = self.incarnation()
        {
            self.registration.unfencing = Unfencing::Proposed;
            self.propose(
                Command::UnfenceBroker(incarnation),
                Purpose::Unfence,
                session,
                context,
            );
        }
        if !self.registration.leaving {
            self.keep_stream(epoch, context);
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
        let accepted = fate.map(|outcome| (outcome.index.0, outcome.result));
        match (purpose, accepted) {
            (Purpose::Register, Some((index, Ok(Accepted::BrokerRegistered { epoch })))) => {
                self.registered(epoch, index, context);
            }
            (Purpose::Register, _) => {
                self.registration.is_proposed = false;
                self.registration.retry_at = context.now + RETRY;
            }
            (Purpose::Unfence, Some((index, Ok(_)))) => {
                self.registration.unfencing = Unfencing::At(index);
            }
            (Purpose::Unfence, Some((_, Err(_)))) => self.lose_session(context),
            (Purpose::Unfence, None) => {
                self.registration.unfencing = Unfencing::From(0);
                self.registration.retry_at = context.now + RETRY;
            }
            (Purpose::Drain, _) => self.leave(context),
            (Purpose::Leave, _) => self.registration.left = true,
            _ => {}
        }
    }

    fn register(&mut self, context: &mut Context) {
        self.registration.is_proposed = true;
        let command = Command::RegisterBroker(RegisterBroker {
            broker: self.broker,
            directory: self.disk.directory,
            peer_address: String::new(),
            listeners: Vec::new(),
            feature_level: 1,
        });
        let timeout = context.config.session;
        self.propose(command, Purpose::Register, timeout, context);
    }

    fn registered(&mut self, epoch: BrokerEpoch, index: u64, context: &mut Context) {
        let local = self.local(context);
        self.registration = Registration {
            epoch: Some(epoch),
            unfencing: Unfencing::From(index),
            last_answered: local,
            draining: self.registration.draining,
            ..Registration::new()
        };
        self.follow_soon(context);
    }

    fn lose_session(&mut self, context: &mut Context) {
        self.drop_stream(context);
        let draining = self.registration.draining;
        self.registration = Registration {
            draining,
            left: draining,
            ..Registration::new()
        };
        self.follow_soon(context);
    }

    fn leave(&mut self, context: &mut Context) {
        let incarnation = self.incarnation();
        self.registration.leaving = true;
        self.registration.serves_until = Duration::ZERO;
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
                if stream.is_open && stream.unanswered.is_none() && stream.beat_at <= now {
                    stream.sequence += 1;
                    stream.unanswered = Some(local);
                    stream.beat_at = now + context.config.heartbeat;
                    let sequence = stream.sequence;
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
                    sequence: 0,
                    unanswered: None,
                    beat_at: now,
                });
            }
            (None, _) => {}
        }
    }

    pub(super) fn session_opened(&mut self, context: &mut Context) {
        if let Some(stream) = &mut self.registration.stream {
            stream.is_open = true;
        }
        if let Some(epoch) = self.registration.epoch {
            self.keep_stream(epoch, context);
        }
    }

    /// Whoever leads without a quorum ends every stream at once: the next one is opened after a pause.
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
        if stream.sequence != sequence {
            return;
        }
        let Some(sent) = stream.unanswered.take() else {
            return;
        };
        if stale {
            self.lose_session(context);
        } else if !(fenced && self.registration.was_unfenced) {
            let until = sent + context.config.session;
            self.registration.last_answered = sent;
            self.registration.serves_until = self.registration.serves_until.max(until);
        }
    }
}
