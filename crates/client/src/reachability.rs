//! Which brokers answer, and what is worth a line in the log about it. No I/O and no clock.
//!
//! 1. Every call over a connection says here how it ended: a broker of the cluster answered,
//!    whatever it said, or nobody did. An answer of somebody else, such as another cluster's
//!    broker, counts as none.
//! 2. An address that was thought to answer and does not is told once, with its broker and the
//!    cause; that it answers again, once, too. Each is told at once, but an address is not told as
//!    lost twice within [`LOST_AT_MOST_EVERY`].
//! 3. While nobody answers, that is told every [`SILENCE_EVERY`], with all addresses.
//!
//! A call that took too long says nothing of an address that answered another call meanwhile: that
//! broker is slow, not gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::BrokerId;
use tokio::time::Instant;

/// An address that comes and goes is told as lost once in so long.
pub(crate) const LOST_AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// How often it is told that nobody answers.
pub(crate) const SILENCE_EVERY: Duration = Duration::from_mins(1);
/// Most addresses that are remembered: those of brokers that moved away are forgotten beyond it.
const MAX_ADDRESSES: usize = 1_024;
/// Most addresses that one line names.
const MAX_NAMED: usize = 8;

/// What is known of the addresses that were called.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    by_address: BTreeMap<Arc<str>, Seen>,
    /// Whose addresses they are, as brokers advertise them. The others come from the application.
    brokers: BTreeMap<String, BrokerId>,
    /// While nobody answers.
    silent: Option<Outage>,
}

/// What was heard of one address.
#[derive(Debug, Default)]
struct Seen {
    last_answer: Option<Instant>,
    down: Option<Down>,
    /// Whether the log says that it does not answer, and when it last said so.
    is_told: bool,
    told: Option<Instant>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    last_failure: Instant,
    cause: String,
}

/// Something that does not pass, and is told every [`SILENCE_EVERY`] as long as it lasts.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    told: Instant,
}

impl Outage {
    /// One that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            told: now,
        }
    }

    /// How long it lasts, if it is time to say so; it is taken as said.
    pub(crate) fn is_due(&mut self, now: Instant) -> Option<Duration> {
        if now - self.told < SILENCE_EVERY {
            return None;
        }
        self.told = now;
        Some(now - self.since)
    }
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An address does not answer.
    Lost {
        address: Arc<str>,
        /// The broker that advertises it; `None` if no broker is known to.
        broker: Option<BrokerId>,
        /// Whether it ever answered.
        was_reached: bool,
        cause: String,
    },
    /// It answers again.
    Back {
        address: Arc<str>,
        broker: Option<BrokerId>,
        after: Duration,
    },
    /// No address answers.
    Silence {
        since: Duration,
        /// Those that were tried in the last minute, and why they do not answer.
        causes: Vec<(Arc<str>, String)>,
    },
}

impl Reachability {
    /// Takes note of whose addresses these are.
    pub(crate) fn advertised<'a>(&mut self, brokers: impl IntoIterator<Item = (BrokerId, &'a str)>) {
        for (broker, address) in brokers {
            if self.brokers.get(address) != Some(&broker) {
                self.brokers.insert(address.to_owned(), broker);
            }
        }
        while self.brokers.len() > MAX_ADDRESSES {
            self.brokers.pop_first();
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self, address: &Arc<str>, now: Instant) -> Vec<Notice> {
        self.silent = None;
        let broker = self.brokers.get(&**address).copied();
        let seen = self.seen(address);
        seen.last_answer = Some(now);
        let down = seen.down.take();
        let was_told = std::mem::take(&mut seen.is_told);
        let after = down.map(|down| now - down.since).filter(|_| was_told);
        let back = after.map(|after| Notice::Back {
            address: Arc::clone(address),
            broker,
            after,
        });
        back.into_iter().collect()
    }

    /// A call that began then was not answered.
    pub(crate) fn failed(
        &mut self,
        address: &Arc<str>,
        cause: &str,
        began: Instant,
        now: Instant,
    ) -> Vec<Notice> {
        let broker = self.brokers.get(&**address).copied();
        let seen = self.seen(address);
        if seen.last_answer.is_some_and(|at| at >= began) {
            return Vec::new();
        }
        let down = seen.down.get_or_insert_with(|| Down {
            since: now,
            last_failure: now,
            cause: String::new(),
        });
        down.last_failure = now;
        cause.clone_into(&mut down.cause);
        let mut notices = Vec::new();
        if !seen.is_told && seen.told.is_none_or(|at| now - at >= LOST_AT_MOST_EVERY) {
            seen.is_told = true;
            seen.told = Some(now);
            notices.push(Notice::Lost {
                address: Arc::clone(address),
                broker,
                was_reached: seen.last_answer.is_some(),
                cause: cause.to_owned(),
            });
        }
        notices.extend(self.silence(now));
        notices
    }

    /// Whether it is time to say that nobody answers. A failure has the client ask the other
    /// brokers for metadata, so where one of them is alive an answer comes long before.
    fn silence(&mut self, now: Instant) -> Option<Notice> {
        let since = self.silent.get_or_insert_with(|| Outage::new(now)).is_due(now)?;
        let recent = |down: &&Down| now - down.last_failure <= SILENCE_EVERY;
        let cause = |(address, seen): (&Arc<str>, &Seen)| {
            let down = seen.down.as_ref().filter(recent)?;
            Some((Arc::clone(address), down.cause.clone()))
        };
        let causes = self.by_address.iter().filter_map(cause).collect();
        Some(Notice::Silence { since, causes })
    }

    fn seen(&mut self, address: &Arc<str>) -> &mut Seen {
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(address) {
            let oldest = self
                .by_address
                .iter()
                .min_by_key(|(_, seen)| {
                    seen.last_answer
                        .max(seen.down.as_ref().map(|down| down.last_failure))
                })
                .map(|(address, _)| Arc::clone(address));
            if let Some(oldest) = oldest {
                self.by_address.remove(&oldest);
            }
        }
        self.by_address.entry(Arc::clone(address)).or_default()
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost {
                address,
                broker: Some(broker),
                was_reached: false,
                cause,
            } => write!(
                f,
                "broker {broker} cannot be reached at {address}, the address that it advertises: {cause}; it is tried again"
            ),
            Self::Lost {
                address,
                broker: Some(broker),
                was_reached: true,
                cause,
            } => write!(
                f,
                "broker {broker} does not answer any more at {address}, the address that it advertises: {cause}; it is tried again"
            ),
            Self::Lost {
                address,
                broker: None,
                was_reached,
                cause,
            } => {
                let verb = if *was_reached {
                    "does not answer any more"
                } else {
                    "cannot be reached"
                };
                write!(f, "a broker {verb} at {address}: {cause}; it is tried again")
            }
            Self::Back {
                address,
                broker,
                after,
            } => {
                match broker {
                    Some(broker) => write!(f, "broker {broker} answers at {address}")?,
                    None => write!(f, "a broker answers at {address}")?,
                }
                write!(f, ", after {:.1} s in which it did not", after.as_secs_f64())
            }
            Self::Silence { since, causes } => {
                write!(f, "no broker has answered for {} s", since.as_secs())?;
                for (at, (address, cause)) in causes.iter().take(MAX_NAMED).enumerate() {
                    let before = if at == 0 { ": " } else { "; " };
                    write!(f, "{before}{address}: {cause}")?;
                }
                if causes.len() > MAX_NAMED {
                    write!(f, "; and {} more", causes.len() - MAX_NAMED)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
