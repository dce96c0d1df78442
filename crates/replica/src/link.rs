//! The follower's side of one stream to a leader.
//!
//! 1. A partition that has something for its leader is queued ([`Link::queue`]): once, however much
//!    it has to say by then.
//! 2. While partitions follow the leader, the driver keeps a stream to it ([`Link::advance`]).
//! 3. When the stream has room for a message, [`Link::ask`] names the partitions to ask, and
//!    [`Link::request`] makes the message of what they want. What piles up while the stream is busy
//!    goes out as one message.
//! 4. Each answer is given to its partition, and what that made of it to the link
//!    ([`Link::taken`]): the partition fetches on, says nothing for now, or is refused and fetches
//!    again after a while.
//!
//! A partition that follows the leader no more is forgotten when it is asked next.
//!
//! A driver with threads keeps the link behind a mutex, and asks no partition while it holds that:
//! partitions queue themselves under their own locks. Time is passed in as the duration since any
//! fixed moment.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BrokerEpoch, BrokerId, TopicIdPartition};

use crate::messages::{FetchPosition, InvalidFetch};

/// A sign of life is given so often.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A refused partition is fetched again so long after the first refusal: mostly the leader has not
/// heard of its leadership yet.
const RETRY: Duration = Duration::from_millis(50);
/// Shortest and longest pause between a stream's end and the next attempt to open one.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Longest wait for a stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Most partitions that one message speaks of; the others go into the next one.
pub const MESSAGE_PARTITIONS: usize = 10_000;
const _: () = assert!(
    2 * 64 * MESSAGE_PARTITIONS <= MAX_GRPC_MESSAGE_BYTES,
    "a fetch or a durable end takes less than 64 bytes of a message"
);

/// Something that a partition has for its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWork {
    /// It can fetch.
    Fetch,
    /// Its durable end moved.
    Durable,
}

/// What the driver does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look which of these partitions follow the leader; tell [`Link::gone`] of the others.
    Look(Vec<TopicIdPartition>),
    /// Open a stream, as the broker of this registration; tell [`Link::opened`], or
    /// [`Link::closed`].
    Open(BrokerEpoch),
    /// Close the stream; tell [`Link::closed`].
    Close(Closing),
    /// Give a sign of life: an empty message. It can be left out while the stream has no room,
    /// since what fills the stream is one.
    Beat,
}

/// Why a stream is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It did not open in time.
    NotOpened,
    /// It was opened under a registration that is no longer the broker's.
    RegisteredAnew,
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOpened => "the replication stream did not open",
            Self::RegisteredAnew => "this broker was registered anew",
        })
    }
}

/// What a partition is to be asked: whom it follows, and what else is set here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which partition.
    pub partition: TopicIdPartition,
    /// What it fetches next ([`crate::Replica::next_fetch`]).
    pub fetch: bool,
    /// What it has on stable storage ([`crate::Replica::durable_report`]).
    pub durable: bool,
}

/// A partition's reply to an [`Ask`]. One that is gone has nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Whom it follows.
    pub follows: Option<BrokerId>,
    /// What it fetches next, if it was asked and may fetch.
    pub fetch: Option<FetchPosition>,
    /// What it has on stable storage, if it was asked and may tell.
    pub durable: Option<FetchPosition>,
}

/// One message to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What is fetched.
    pub fetches: Vec<(TopicIdPartition, FetchPosition)>,
    /// What is on stable storage.
    pub durable: Vec<(TopicIdPartition, FetchPosition)>,
}

impl Request {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.fetches.is_empty() && self.durable.is_empty()
    }
}

/// What a partition made of the leader's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may fetch on at once.
    FetchOn,
    /// Nothing for now: it reports itself when it may fetch, or the answer was to what it no longer
    /// asks.
    Silent,
    /// The leader refused the fetch, or the partition the answer.
    Refused,
}

impl From<Result<bool, &InvalidFetch>> for Taken {
    /// Of a taken answer: whether the follower may fetch on at once.
    fn from(taken: Result<bool, &InvalidFetch>) -> Self {
        match taken {
            Ok(true) => Self::FetchOn,
            Ok(false) | Err(InvalidFetch::Stale { .. }) => Self::Silent,
            Err(InvalidFetch::Gap { .. } | InvalidFetch::EpochOutOfOrder { .. }) => Self::Refused,
        }
    }
}

/// The stream to one leader, and what is to be said on it.
#[derive(Debug)]
pub struct Link {
    leader: BrokerId,
    message_partitions: usize,
    /// The broker's newest registration, as [`Self::advance`] was told.
    registration: Option<BrokerEpoch>,
    /// Partitions that follow the leader, as far as known.
    members: BTreeMap<TopicIdPartition, Member>,
    /// Members to be asked, each once.
    queue: VecDeque<TopicIdPartition>,
    refused: Vec<TopicIdPartition>,
    /// When they are fetched again.
    retry_at: Option<Duration>,
    /// The pause before the newest attempt to open a stream, without its jitter.
    pause: Duration,
    phase: Phase,
}

/// What a member is to be asked.
#[derive(Debug, Default)]
struct Member {
    is_queued: bool,
    fetch: bool,
    durable: bool,
}

#[derive(Debug)]
enum Phase {
    Closed {
        /// No stream is opened before then.
        open_at: Duration,
        /// Whether the members were looked at since the last stream.
        has_looked: bool,
    },
    Opening {
        since: Duration,
        epoch: BrokerEpoch,
    },
    Open {
        since: Duration,
        epoch: BrokerEpoch,
        beat_at: Duration,
    },
}

impl Link {
    /// A link to a leader that nothing follows yet. A message speaks of at most
    /// `message_partitions`.
    pub fn new(leader: BrokerId, message_partitions: usize) -> Self {
        Self {
            leader,
            message_partitions,
            registration: None,
            members: BTreeMap::new(),
            queue: VecDeque::new(),
            refused: Vec::new(),
            retry_at: None,
            pause: Duration::ZERO,
            phase: Phase::Closed {
                open_at: Duration::ZERO,
                has_looked: false,
            },
        }
    }

    /// A partition that follows the leader has something for it.
    pub fn queue(&mut self, partition: TopicIdPartition, work: LinkWork) {
        let member = self.members.entry(partition).or_default();
        match work {
            LinkWork::Fetch => member.fetch = true,
            LinkWork::Durable => member.durable = true,
        }
        member.enqueue(partition, &mut self.queue);
    }

    /// The next thing that is due; `registration` is the broker's newest, if it has one. To be
    /// called until there is none.
    pub fn advance(&mut self, now: Duration, registration: Option<BrokerEpoch>) -> Option<Step> {
        self.registration = registration;
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for partition in std::mem::take(&mut self.refused) {
                if self.has(partition) {
                    self.queue(partition, LinkWork::Fetch);
                }
            }
        }
        match &mut self.phase {
            Phase::Closed { open_at, has_looked } => {
                let epoch = registration?;
                if self.members.is_empty() || *open_at > now {
                    return None;
                }
                if !std::mem::replace(has_looked, true) {
                    return Some(Step::Look(self.take_out_all()));
                }
                self.phase = Phase::Opening { since: now, epoch };
                Some(Step::Open(epoch))
            }
            Phase::Opening { epoch, .. } | Phase::Open { epoch, .. } if registration != Some(*epoch) => {
                Some(Step::Close(Closing::RegisteredAnew))
            }
            Phase::Opening { since, .. } => {
                (*since + OPEN_TIMEOUT <= now).then_some(Step::Close(Closing::NotOpened))
            }
            Phase::Open { beat_at, .. } if *beat_at <= now => {
                *beat_at = now + HEARTBEAT;
                Some(Step::Beat)
            }
            Phase::Open { .. } => None,
        }
    }

    /// When time has something to do here.
    pub fn next_wake(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Closed { open_at, .. } => {
                return (self.registration.is_some() && !self.members.is_empty()).then_some(*open_at);
            }
            Phase::Opening { since, .. } => *since + OPEN_TIMEOUT,
            Phase::Open { beat_at, .. } => *beat_at,
        };
        Some(self.retry_at.map_or(phase, |at| at.min(phase)))
    }

    /// The stream is open. The leader knows nothing of an earlier one, so every partition fetches.
    pub fn opened(&mut self, now: Duration) {
        let Phase::Opening { epoch, .. } = self.phase else {
            return;
        };
        self.phase = Phase::Open {
            since: now,
            epoch,
            beat_at: now,
        };
        self.refused.clear();
        self.retry_at = None;
        if mutant::is_on(Mutant::ResumeStreamSilently) {
            return;
        }
        for (partition, member) in &mut self.members {
            member.fetch = true;
            member.enqueue(*partition, &mut self.queue);
        }
    }

    /// The stream is closed, or did not open. The next one is opened after a pause that doubles
    /// with every stream that did not last, longer by `jitter_per_mille` thousandths of itself,
    /// which the driver draws.
    pub fn closed(&mut self, now: Duration, jitter_per_mille: u32) {
        let has_lasted = match &self.phase {
            Phase::Closed { .. } => return,
            Phase::Opening { .. } => false,
            Phase::Open { since, .. } => now.saturating_sub(*since) > RECONNECT.1,
        };
        let (shortest, longest) = RECONNECT;
        self.pause = if has_lasted {
            shortest
        } else {
            (self.pause * 2).clamp(shortest, longest)
        };
        self.phase = Phase::Closed {
            open_at: now + self.pause * (1000 + jitter_per_mille) / 1000,
            has_looked: false,
        };
    }

    /// These partitions do not follow the leader. One that was queued since it was asked follows
    /// again, and stays.
    pub fn gone(&mut self, partitions: &[TopicIdPartition]) {
        for partition in partitions {
            let member = self.members.get(partition);
            if member.is_some_and(|member| !member.is_queued) {
                self.members.remove(partition);
            }
        }
    }

    /// Whether there is something to ask partitions for, and a stream to say it on.
    pub fn has_to_say(&self) -> bool {
        matches!(self.phase, Phase::Open { .. }) && !self.queue.is_empty()
    }

    /// Takes as many queued partitions as one message speaks of. The driver asks each, without a
    /// lock on the link, and hands their replies to [`Self::request`].
    pub fn ask(&mut self) -> Vec<Ask> {
        if !self.has_to_say() {
            return Vec::new();
        }
        let count = self.queue.len().min(self.message_partitions);
        let members = &mut self.members;
        let ask = |partition| Some(members.get_mut(&partition)?.take_out(partition));
        self.queue.drain(..count).filter_map(ask).collect()
    }

    /// The message that partitions' replies make; empty if none has anything for this leader. One
    /// that follows another leader, or none, is forgotten.
    pub fn request(&mut self, replies: Vec<(TopicIdPartition, Standing)>) -> Request {
        let leader = self.leader;
        let mut request = Request::default();
        for (partition, standing) in replies {
            if standing.follows != Some(leader) {
                self.gone(&[partition]);
                continue;
            }
            let with_id = |position| (partition, position);
            request.fetches.extend(standing.fetch.map(with_id));
            request.durable.extend(standing.durable.map(with_id));
        }
        request
    }

    /// Whether an answer for this partition concerns it.
    pub fn has(&self, partition: TopicIdPartition) -> bool {
        self.members.contains_key(&partition)
    }

    /// A partition dealt with an answer to its fetch.
    pub fn taken(&mut self, partition: TopicIdPartition, taken: Taken, now: Duration) {
        match taken {
            Taken::FetchOn => self.queue(partition, LinkWork::Fetch),
            // It may be silent because it follows no more, and would never be asked again.
            Taken::Silent => {
                if let Some(member) = self.members.get_mut(&partition) {
                    member.enqueue(partition, &mut self.queue);
                }
            }
            Taken::Refused if mutant::is_on(Mutant::ForgetRefusedFetch) => {}
            Taken::Refused => {
                self.refused.push(partition);
                self.retry_at.get_or_insert(now + RETRY);
            }
        }
    }

    /// Every member, none of them queued any more. What each is to be asked is kept.
    fn take_out_all(&mut self) -> Vec<TopicIdPartition> {
        self.queue.clear();
        for member in self.members.values_mut() {
            member.is_queued = false;
        }
        self.members.keys().copied().collect()
    }
}

impl Member {
    fn enqueue(&mut self, partition: TopicIdPartition, queue: &mut VecDeque<TopicIdPartition>) {
        if !std::mem::replace(&mut self.is_queued, true) {
            queue.push_back(partition);
        }
    }

    fn take_out(&mut self, partition: TopicIdPartition) -> Ask {
        self.is_queued = false;
        Ask {
            partition,
            fetch: std::mem::take(&mut self.fetch),
            durable: std::mem::take(&mut self.durable),
        }
    }
}

#[cfg(test)]
mod tests;
