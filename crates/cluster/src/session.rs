//! A broker's own session with the metadata leader, as the broker sees it.
//!
//! 1. *Register*. The broker epoch is the log index of the registration.
//! 2. *Catch up*: once the metadata are applied up to that index, ask to be unfenced.
//! 3. *Serve*. Each answered heartbeat extends the time in which the broker may serve, counted from
//!    when it was sent.
//! 4. Back to 1 when the registration is over or fenced, and when no heartbeat was answered for a
//!    session's length: then the broker fences itself first.
//!
//! Time is passed in as the duration since any fixed moment.

mod heartbeats;

use std::fmt;
use std::time::Duration;

use tidelog_types::{BrokerEpoch, BrokerId};

use crate::ids::BrokerIncarnation;
use crate::image::{ClusterImage, MetadataIndex};
use crate::sessions::HeartbeatAnswer;

pub use heartbeats::Heartbeats;

/// How soon a proposal that failed is made again, unless the metadata leader changes sooner.
pub const RETRY: Duration = Duration::from_millis(100);

/// What the driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Propose to register the broker; tell [`BrokerSession::registered`] or
    /// [`BrokerSession::not_registered`].
    Register,
    /// Propose to unfence this registration; tell [`BrokerSession::unfenced`],
    /// [`BrokerSession::unfencing_refused`] or [`BrokerSession::unfencing_failed`].
    Unfence(BrokerIncarnation),
    /// The registration is lost: stop to serve. The next step is to register anew.
    Lost { epoch: BrokerEpoch, why: Loss },
}

/// Why a registration is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A newer registration of the broker is known.
    RegisteredAnew,
    /// The metadata have it fenced.
    Fenced,
    /// The request to unfence it was refused.
    NotUnfenced,
    /// No heartbeat was answered for a session's length.
    Silence,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RegisteredAnew => "the broker was registered anew",
            Self::Fenced => "it was fenced",
            Self::NotUnfenced => "it was not unfenced",
            Self::Silence => "no heartbeat was answered for a session's length",
        })
    }
}

/// The session of one broker, from the start of its process on.
#[derive(Debug)]
pub struct BrokerSession {
    broker: BrokerId,
    timeout: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Unregistered(Proposal),
    Registered(Registered),
}

/// Something to propose.
#[derive(Debug, Clone, Copy)]
enum Proposal {
    /// To be made then.
    Due(Duration),
    UnderWay,
}

#[derive(Debug)]
struct Registered {
    epoch: BrokerEpoch,
    unfencing: Unfencing,
    /// Whether it was unfenced once: from then on an image that has it fenced is one of a later
    /// fencing.
    was_unfenced: bool,
    /// Whether the newest image has it unfenced.
    is_unfenced: bool,
    /// When the last answered heartbeat was sent, or the registration was made.
    last_answered: Duration,
    serves_until: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Unfencing {
    /// To be proposed once the metadata are applied up to there.
    From(MetadataIndex, Proposal),
    /// It was decided at this index.
    At(MetadataIndex),
    Done,
}

impl BrokerSession {
    /// A session of a broker that is not registered yet; `timeout` is a session's length.
    pub fn new(broker: BrokerId, timeout: Duration) -> Self {
        Self {
            broker,
            timeout,
            phase: Phase::Unregistered(Proposal::Due(Duration::ZERO)),
        }
    }

    /// The newest registration; `None` before the first, and from the loss of one to the next.
    pub fn epoch(&self) -> Option<BrokerEpoch> {
        self.known().map(|registered| registered.epoch)
    }

    /// The broker under its newest registration.
    pub fn incarnation(&self) -> Option<BrokerIncarnation> {
        let broker = self.broker;
        self.epoch().map(|epoch| BrokerIncarnation { broker, epoch })
    }

    /// Whether the newest image that was shown has the registration unfenced.
    pub fn is_unfenced(&self) -> bool {
        self.known().is_some_and(|registered| registered.is_unfenced)
    }

    /// Until when the broker may serve, if it is unfenced; zero before the first answered
    /// heartbeat.
    pub fn serves_until(&self) -> Duration {
        self.known()
            .map_or(Duration::ZERO, |registered| registered.serves_until)
    }

    /// When time has something to do here.
    pub fn next_wake(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Unregistered(proposal) => proposal.due(),
            Phase::Registered(registered) => {
                let retry = match registered.unfencing {
                    Unfencing::From(_, proposal) => proposal.due().filter(|at| !at.is_zero()),
                    Unfencing::At(_) | Unfencing::Done => None,
                };
                let silence = registered.last_answered + self.timeout;
                Some(retry.map_or(silence, |at| at.min(silence)))
            }
        }
    }

    /// Everything that is due, by the newest image.
    pub fn advance(&mut self, now: Duration, image: &ClusterImage) -> Option<Step> {
        let registered = match &mut self.phase {
            Phase::Unregistered(proposal) => return proposal.begin(now).then_some(Step::Register),
            Phase::Registered(registered) => registered,
        };
        let incarnation = BrokerIncarnation {
            broker: self.broker,
            epoch: registered.epoch,
        };
        if let Some(why) = registered.look(image, incarnation) {
            return self.lose(why);
        }
        if now >= registered.last_answered + self.timeout {
            return self.lose(Loss::Silence);
        }
        if let Unfencing::From(index, proposal) = &mut registered.unfencing
            && image.index >= *index
            && proposal.begin(now)
        {
            return Some(Step::Unfence(incarnation));
        }
        None
    }

    /// The broker was registered, by the entry of the metadata log with this index.
    pub fn registered(&mut self, epoch: BrokerEpoch, index: MetadataIndex, now: Duration) {
        self.phase = Phase::Registered(Registered {
            epoch,
            unfencing: Unfencing::From(index, Proposal::Due(Duration::ZERO)),
            was_unfenced: false,
            is_unfenced: false,
            last_answered: now,
            serves_until: Duration::ZERO,
        });
    }

    /// The registration was refused, or nobody knows whether it was made.
    pub fn not_registered(&mut self, now: Duration) {
        if let Phase::Unregistered(proposal) = &mut self.phase {
            *proposal = Proposal::Due(now + RETRY);
        }
    }

    /// This registration was unfenced, by the entry with this index. Here and below, news of an
    /// earlier registration changes nothing.
    pub fn unfenced(&mut self, incarnation: BrokerIncarnation, index: MetadataIndex) {
        if let Some(registered) = self.registered_as(incarnation) {
            registered.unfencing = Unfencing::At(index);
        }
    }

    /// This registration may not be unfenced: it is over.
    pub fn unfencing_refused(&mut self, incarnation: BrokerIncarnation) -> Option<Step> {
        self.registered_as(incarnation)?;
        self.lose(Loss::NotUnfenced)
    }

    /// Nobody knows whether this registration was unfenced.
    pub fn unfencing_failed(&mut self, incarnation: BrokerIncarnation, now: Duration) {
        if let Some(registered) = self.registered_as(incarnation)
            && let Unfencing::From(_, proposal) = &mut registered.unfencing
        {
            *proposal = Proposal::Due(now + RETRY);
        }
    }

    /// Another broker leads the metadata: what waits to be proposed again need not wait.
    pub fn leader_changed(&mut self) {
        let proposal = match &mut self.phase {
            Phase::Unregistered(proposal) => proposal,
            Phase::Registered(Registered {
                unfencing: Unfencing::From(_, proposal),
                ..
            }) => proposal,
            Phase::Registered(_) => return,
        };
        if let Proposal::Due(at) = proposal {
            *at = Duration::ZERO;
        }
    }

    /// The metadata leader answered the heartbeat that was sent then.
    pub fn heartbeat_answered(&mut self, sent: Duration, answer: HeartbeatAnswer) -> Option<Step> {
        let Phase::Registered(registered) = &mut self.phase else {
            return None;
        };
        if answer.stale_epoch {
            return self.lose(Loss::RegisteredAnew);
        }
        // A leader that knows better than this broker's image does not prolong what it ended; a new
        // one that knows less will catch up.
        if !(answer.fenced && registered.was_unfenced) {
            registered.last_answered = sent;
            registered.serves_until = registered.serves_until.max(sent + self.timeout);
        }
        None
    }

    fn known(&self) -> Option<&Registered> {
        match &self.phase {
            Phase::Unregistered(_) => None,
            Phase::Registered(registered) => Some(registered),
        }
    }

    /// The newest registration, if it is this one.
    fn registered_as(&mut self, incarnation: BrokerIncarnation) -> Option<&mut Registered> {
        match &mut self.phase {
            Phase::Registered(registered) if registered.epoch == incarnation.epoch => Some(registered),
            _ => None,
        }
    }

    fn lose(&mut self, why: Loss) -> Option<Step> {
        let epoch = self.epoch()?;
        self.phase = Phase::Unregistered(Proposal::Due(Duration::ZERO));
        Some(Step::Lost { epoch, why })
    }
}

impl Registered {
    /// Takes note of an image; why the registration is lost by it, if it is.
    fn look(&mut self, image: &ClusterImage, incarnation: BrokerIncarnation) -> Option<Loss> {
        let known = image.broker(incarnation.broker);
        if known.is_some_and(|broker| broker.epoch > self.epoch) {
            return Some(Loss::RegisteredAnew);
        }
        self.is_unfenced = image.is_unfenced_as(incarnation);
        if let Unfencing::At(index) = self.unfencing
            && image.index >= index
        {
            // Images in between may have been skipped: one without it is one of a fencing that came
            // after.
            self.unfencing = Unfencing::Done;
            self.was_unfenced = true;
        }
        if self.was_unfenced && !self.is_unfenced {
            return Some(Loss::Fenced);
        }
        self.was_unfenced |= self.is_unfenced;
        None
    }
}

impl Proposal {
    /// When it is to be made.
    fn due(self) -> Option<Duration> {
        match self {
            Self::Due(at) => Some(at),
            Self::UnderWay => None,
        }
    }

    /// Whether it is to be made now; it is taken as made.
    fn begin(&mut self, now: Duration) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            *self = Self::UnderWay;
        }
        is_due
    }
}

#[cfg(test)]
mod tests;
