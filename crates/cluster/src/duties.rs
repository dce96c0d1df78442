//! Whom the metadata leader fences: the duties of one leadership towards the other brokers.
//!
//! 1. *Silence* is judged by time: a broker that sends no heartbeat for a session's length is
//!    fenced ([`SessionTable`]).
//! 2. *Death* is judged by connection. A broker whose stream broke is a suspect. A suspect is
//!    dialled again and again until it is heard, or nothing listens there ([`RefusalCounter`]),
//!    which fences it. One dial that connects proves nothing: a dying process may lose its
//!    connections a moment before its listener.
//! 3. A broker that is unfenced and was never heard in this leadership is a suspect, too. Its
//!    stream may have broken with the leader before, and would never break here.
//! 4. A fencing that failed is proposed again while its ground lasts.
//!
//! Time is passed in as the duration since any fixed moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_types::BrokerId;

use crate::ids::BrokerIncarnation;
use crate::image::ClusterImage;
use crate::sessions::{Dial, REFUSAL_WINDOW, REFUSALS_TO_FENCE, RefusalCounter, SessionTable, Verdict};

/// How long one dial may take. A host that refuses does so at once.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(150);
/// A suspect is dialled again so long after a dial that was not refused, or a fencing that ended.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// How soon a silent broker is fenced again where that failed.
const RETRY: Duration = Duration::from_millis(200);

/// What the driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Dial the broker's peer listener; tell [`Duties::dialled`].
    Dial(DialOf),
    /// Propose to fence the broker; tell [`Duties::fencing_ended`].
    Fence(BrokerIncarnation, Ground),
}

/// A dial that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialOf {
    pub broker: BrokerIncarnation,
    began: Duration,
}

/// Why a broker is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// It sent no heartbeat for a session's length.
    Silent,
    /// Nothing listens at its address.
    Refuses,
}

/// One metadata leadership.
#[derive(Debug)]
pub struct Duties {
    me: BrokerId,
    table: SessionTable,
    suspects: BTreeMap<BrokerIncarnation, Suspect>,
    /// Brokers that were heard or suspected in this leadership.
    met: BTreeSet<BrokerIncarnation>,
    /// Brokers that are fenced for their silence: `None` while that is under way, else when to
    /// propose it again.
    silent: BTreeMap<BrokerIncarnation, Option<Duration>>,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    refusals: RefusalCounter,
    next: Next,
}

/// What comes next for a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is dialled then.
    Dial(Duration),
    /// The dial that began then is answered.
    Answer(Duration),
    /// It is fenced.
    Fence,
    /// That is under way.
    Fencing,
}

impl Suspect {
    fn from(at: Duration) -> Self {
        Self {
            refusals: RefusalCounter::default(),
            next: Next::Dial(at),
        }
    }

    fn judge(&mut self, outcome: Dial, began: Duration, now: Duration) {
        // The dials of one verdict fit the window, with room for their own time.
        let redial = REFUSAL_WINDOW / (REFUSALS_TO_FENCE + 1);
        self.next = match self.refusals.dialled(outcome, began) {
            Verdict::DialAgain => Next::Dial(now + redial),
            Verdict::LeaveToSession => Next::Dial(now + DIAL_AGAIN),
            Verdict::Fence => Next::Fence,
        };
    }

    /// What is to be done about it by now.
    fn advance(&mut self, broker: BrokerIncarnation, now: Duration) -> Option<Duty> {
        if let Next::Answer(began) = self.next
            && now.saturating_sub(began) >= DIAL_TIMEOUT
        {
            self.judge(Dial::Unclear, began, now);
        }
        match self.next {
            Next::Dial(at) if at <= now => {
                self.next = Next::Answer(now);
                Some(Duty::Dial(DialOf { broker, began: now }))
            }
            Next::Fence => {
                self.next = Next::Fencing;
                Some(Duty::Fence(broker, Ground::Refuses))
            }
            Next::Dial(_) | Next::Answer(_) | Next::Fencing => None,
        }
    }

    fn wake(&self) -> Option<Duration> {
        match self.next {
            Next::Dial(at) => Some(at),
            Next::Answer(began) => Some(began + DIAL_TIMEOUT),
            Next::Fence => Some(Duration::ZERO),
            Next::Fencing => None,
        }
    }
}

impl Duties {
    /// The duties of broker `me`, which leads from now on. Every unfenced broker has a fresh
    /// session of this length, and is a suspect.
    pub fn begin(me: BrokerId, timeout: Duration, image: &ClusterImage, now: Duration) -> Self {
        let mut duties = Self {
            me,
            table: SessionTable::granted(timeout, image, now),
            suspects: BTreeMap::new(),
            met: BTreeSet::new(),
            silent: BTreeMap::new(),
        };
        duties.follow(image, now);
        duties
    }

    /// The metadata changed.
    pub fn follow(&mut self, image: &ClusterImage, now: Duration) {
        self.table.follow(image, now);
        self.suspects.retain(|broker, _| image.is_unfenced_as(*broker));
        self.silent.retain(|broker, _| image.is_unfenced_as(*broker));
        self.met.retain(|met| {
            let known = image.broker(met.broker);
            known.is_some_and(|known| known.epoch == met.epoch)
        });
        for broker in image.brokers.values().filter(|broker| !broker.fenced) {
            let incarnation = BrokerIncarnation {
                broker: broker.id,
                epoch: broker.epoch,
            };
            if broker.id != self.me && self.met.insert(incarnation) {
                self.suspects.insert(incarnation, Suspect::from(now));
            }
        }
    }

    /// A broker sent a heartbeat.
    pub fn heard(&mut self, broker: BrokerIncarnation, now: Duration) {
        self.table.heard(broker, now);
        self.suspects.remove(&broker);
        self.met.insert(broker);
    }

    /// A broker's stream broke: it may be dead, or it only changed its mind.
    pub fn broken(&mut self, broker: BrokerIncarnation, now: Duration) {
        if self.table.has(broker) {
            self.suspects.entry(broker).or_insert_with(|| Suspect::from(now));
        } else {
            // It is a suspect once the metadata have it unfenced.
            self.met.remove(&broker);
        }
    }

    /// A dial came to its end.
    pub fn dialled(&mut self, dial: DialOf, outcome: Dial, now: Duration) {
        let suspect = self.suspects.get_mut(&dial.broker);
        if let Some(suspect) = suspect.filter(|suspect| suspect.next == Next::Answer(dial.began)) {
            suspect.judge(outcome, dial.began, now);
        }
    }

    /// A fencing came to its end, whatever that is.
    pub fn fencing_ended(&mut self, broker: BrokerIncarnation, ground: Ground, now: Duration) {
        match ground {
            Ground::Silent => {
                if let Some(again) = self.silent.get_mut(&broker) {
                    *again = Some(now + RETRY);
                }
            }
            Ground::Refuses => {
                if let Some(suspect) = self.suspects.get_mut(&broker) {
                    *suspect = Suspect::from(now + DIAL_AGAIN);
                }
            }
        }
    }

    /// Something that is due, until nothing is.
    pub fn advance(&mut self, now: Duration) -> Option<Duty> {
        let mut suspects = self.suspects.iter_mut();
        let of_suspect = suspects.find_map(|(broker, suspect)| suspect.advance(*broker, now));
        if of_suspect.is_some() {
            return of_suspect;
        }
        let broker = self.silences().find(|(_, at)| *at <= now)?.0;
        self.silent.insert(broker, None);
        Some(Duty::Fence(broker, Ground::Silent))
    }

    /// When time has something to do here, if nothing else happens.
    pub fn next_wake(&self) -> Option<Duration> {
        let dials = self.suspects.values().filter_map(Suspect::wake);
        dials.chain(self.silences().map(|(_, at)| at)).min()
    }

    /// When each broker is fenced for its silence if it is not heard before. Those whose fencing is
    /// under way are left out.
    fn silences(&self) -> impl Iterator<Item = (BrokerIncarnation, Duration)> {
        self.table.deadlines().filter_map(|(broker, deadline)| {
            let at = match self.silent.get(&broker) {
                None => deadline,
                Some(again) => deadline.max((*again)?),
            };
            Some((broker, at))
        })
    }
}

#[cfg(test)]
mod tests;
