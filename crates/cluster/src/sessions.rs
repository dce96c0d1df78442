//! Who is alive, as the metadata leader sees it.
//!
//! Soft state of the broker that leads the metadata, not of the log: it only decides when to
//! *propose* a fencing. Two ways lead there. *Silence* is judged by time: a broker that sent no
//! heartbeat for a session's length. *Death* is judged by connection: when a broker's stream breaks
//! it is dialled, and refused connections (ECONNREFUSED and nothing else) on [`REFUSALS_TO_FENCE`]
//! dials within [`REFUSAL_WINDOW`] fence it at once. Fencing the living costs an election and is
//! safe; so is fencing nobody, until the session ends.
//!
//! Time is passed in as the duration since any fixed moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::BrokerIncarnation;
use crate::image::ClusterImage;

/// How long a broker may be silent before it is fenced.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// How often a broker sends a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// How many dials in a row must be refused.
pub const REFUSALS_TO_FENCE: u32 = 3;
/// How far apart the first and the last of those dials may be.
pub const REFUSAL_WINDOW: Duration = Duration::from_millis(200);

/// For how many of the longest election timeouts after a quorum of the voters last answered it a
/// metadata leader still answers heartbeats.
///
/// One that is cut off from the others believes for ever that it leads, and would keep up the
/// sessions of whoever still reaches it, its own among them: that broker would go on taking
/// produces that nobody can acknowledge. With this it fences itself as long after as its successor,
/// elected meanwhile, fences it. Two, so that a slow moment ends no session.
pub const ELECTIONS_WITHOUT_QUORUM: u32 = 2;

/// Whether a metadata leader answers heartbeats, by how long ago a quorum of the voters answered it
/// (`None` if that is not known) and the voters' longest election timeout.
pub fn answers_heartbeats(since_quorum_ack: Option<Duration>, election_max: Duration) -> bool {
    since_quorum_ack.is_some_and(|since| since <= ELECTIONS_WITHOUT_QUORUM * election_max)
}

/// After how many heartbeat intervals without contact to the metadata leader what a broker knows of
/// the cluster counts as stale.
///
/// It is less than a session: whoever asks such a broker who is alive is told what was true before,
/// and must be told that it was. An election of a metadata leader may take longer; nobody knows who
/// is alive meanwhile.
pub const HEARTBEATS_TO_STALE: u32 = 4;

/// Whether what a broker knows of the cluster is stale, by how long ago it last had contact with
/// the metadata leader (`None` if it never had) and how often it sends heartbeats. For the leader
/// itself, contact is that of a quorum of the voters.
pub fn is_stale(since_contact: Option<Duration>, heartbeat_interval: Duration) -> bool {
    since_contact.is_none_or(|since| since > HEARTBEATS_TO_STALE * heartbeat_interval)
}

/// What a heartbeat is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// A newer registration of the same broker is known: it must register again.
    pub stale_epoch: bool,
    /// It is not registered and unfenced under the epoch that it sent.
    pub fenced: bool,
}

impl HeartbeatAnswer {
    /// By what the metadata leader has applied. That it has not applied a registration yet is no
    /// reason to register again.
    pub fn of(image: &ClusterImage, incarnation: BrokerIncarnation) -> Self {
        let known = image.broker(incarnation.broker);
        Self {
            stale_epoch: known.is_some_and(|broker| broker.epoch > incarnation.epoch),
            fenced: !image.is_unfenced_as(incarnation),
        }
    }
}

/// The sessions of one metadata leadership. A new leader starts a new table.
#[derive(Debug, Clone)]
pub struct SessionTable {
    timeout: Duration,
    last_heard: BTreeMap<BrokerIncarnation, Duration>,
}

impl SessionTable {
    /// A table in which every unfenced broker has a fresh session: time fences nobody for a whole
    /// session after the metadata leader changed.
    pub fn granted(timeout: Duration, image: &ClusterImage, now: Duration) -> Self {
        let mut table = Self {
            timeout,
            last_heard: BTreeMap::new(),
        };
        table.follow(image, now);
        table
    }

    /// Notes who is registered and unfenced now: those without a session get a fresh one, the
    /// others' end.
    pub fn follow(&mut self, image: &ClusterImage, now: Duration) {
        self.last_heard
            .retain(|incarnation, _| image.is_unfenced_as(*incarnation));
        for broker in image.brokers.values().filter(|broker| !broker.fenced) {
            self.last_heard
                .entry(BrokerIncarnation {
                    broker: broker.id,
                    epoch: broker.epoch,
                })
                .or_insert(now);
        }
    }

    /// A heartbeat came. Those of brokers without a session, fenced or registered anew, count for
    /// nothing.
    pub fn heard(&mut self, incarnation: BrokerIncarnation, now: Duration) {
        if let Some(last) = self.last_heard.get_mut(&incarnation) {
            *last = (*last).max(now);
        }
    }

    /// Whether the broker is registered so and unfenced, by the newest image that was followed.
    pub fn has(&self, incarnation: BrokerIncarnation) -> bool {
        self.last_heard.contains_key(&incarnation)
    }

    /// When each broker's session ends if nothing more is heard of it. A broker stays in the table
    /// until [`SessionTable::follow`] sees it fenced.
    pub fn deadlines(&self) -> impl Iterator<Item = (BrokerIncarnation, Duration)> {
        self.last_heard
            .iter()
            .map(|(incarnation, last)| (*incarnation, *last + self.timeout))
    }
}

/// What a dial of a broker whose stream broke came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// ECONNREFUSED: the host answers, and nothing listens.
    Refused,
    Connected,
    /// Anything else: unreachable, timed out, a name that does not resolve. That is silence, and is
    /// left to time.
    Unclear,
}

/// What to do after a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    DialAgain,
    /// Nothing listens there: fence it now.
    Fence,
    /// It lives, or nobody can tell: time judges it, unless later dials are refused.
    LeaveToSession,
}

/// Counts the refused dials of one broker.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefusalCounter {
    first: Option<Duration>,
    count: u32,
}

impl RefusalCounter {
    /// Judges one more dial, begun at `now`.
    pub fn dialled(&mut self, dial: Dial, now: Duration) -> Verdict {
        if dial != Dial::Refused {
            *self = Self::default();
            return Verdict::LeaveToSession;
        }
        match self.first {
            Some(first) if now.saturating_sub(first) <= REFUSAL_WINDOW => self.count += 1,
            _ => {
                *self = Self {
                    first: Some(now),
                    count: 1,
                }
            }
        }
        if self.count >= REFUSALS_TO_FENCE {
            Verdict::Fence
        } else {
            Verdict::DialAgain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dial::{Connected, Refused, Unclear};
    use super::Verdict::{DialAgain, Fence, LeaveToSession};
    use super::*;
    use crate::testing::{self, incarnation};

    const SECOND: Duration = Duration::from_secs(1);

    fn image(brokers: &[(BrokerIncarnation, bool)]) -> ClusterImage {
        testing::image(1, brokers)
    }

    fn deadlines(table: &SessionTable) -> Vec<(BrokerIncarnation, Duration)> {
        table.deadlines().collect()
    }

    #[test]
    fn a_new_metadata_leader_grants_a_whole_session_before_time_fences_any() {
        let (one, two) = (incarnation(1, 5), incarnation(2, 6));
        let started = 100 * SECOND;
        let mut table =
            SessionTable::granted(SESSION_TIMEOUT, &image(&[(one, false), (two, false)]), started);
        table.heard(one, started + SECOND);
        assert_eq!(
            deadlines(&table),
            [(one, started + 7 * SECOND), (two, started + 6 * SECOND)]
        );
    }

    #[test]
    fn only_the_newest_registration_has_a_session() {
        let (old, new) = (incarnation(1, 5), incarnation(1, 9));
        let mut table = SessionTable::granted(SESSION_TIMEOUT, &image(&[(old, false)]), SECOND);
        table.follow(&image(&[(new, true)]), SECOND);
        assert_eq!(deadlines(&table), [], "a fenced broker has none");
        table.follow(&image(&[(new, false)]), 5 * SECOND);
        table.heard(old, 20 * SECOND);
        assert_eq!(deadlines(&table), [(new, 11 * SECOND)]);
        assert!(table.has(new) && !table.has(old));
    }

    #[test]
    fn a_leader_without_a_quorum_keeps_up_no_session() {
        for election_max in [SECOND, 10 * SECOND] {
            let answers = |since| answers_heartbeats(since, election_max);
            let longest = 2 * election_max;
            assert!(answers(Some(Duration::ZERO)) && answers(Some(longest)));
            assert!(!answers(Some(longest + Duration::from_millis(1))));
            assert!(!answers(None));
        }
    }

    #[test]
    fn a_heartbeat_is_answered_by_what_is_registered() {
        let (old, new) = (incarnation(1, 5), incarnation(1, 9));
        let answer = |known: &[(BrokerIncarnation, bool)], incarnation| {
            let HeartbeatAnswer { stale_epoch, fenced } = HeartbeatAnswer::of(&image(known), incarnation);
            (stale_epoch, fenced)
        };
        assert_eq!(answer(&[(new, false)], new), (false, false));
        assert_eq!(answer(&[(new, true)], new), (false, true));
        assert_eq!(answer(&[(new, false)], old), (true, true));
        // The leader has not applied the newest registration yet, or none.
        assert_eq!(answer(&[(old, false)], new), (false, true));
        assert_eq!(answer(&[], new), (false, true));
    }

    #[test]
    fn only_three_refused_dials_in_a_row_within_the_window_fence() {
        let at = Duration::from_millis;
        let run = |dials: &[(Dial, u64)]| {
            let mut counter = RefusalCounter::default();
            dials
                .iter()
                .map(|(dial, ms)| counter.dialled(*dial, at(*ms)))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            run(&[(Refused, 0), (Refused, 90), (Refused, 180)]),
            [DialAgain, DialAgain, Fence]
        );
        assert_eq!(
            run(&[(Refused, 0), (Refused, 90), (Refused, 210)]),
            [DialAgain, DialAgain, DialAgain]
        );
        assert_eq!(run(&[(Refused, 0), (Connected, 90)]), [DialAgain, LeaveToSession]);
        assert_eq!(
            run(&[(Refused, 0), (Refused, 50), (Unclear, 90), (Refused, 120)]),
            [DialAgain, DialAgain, LeaveToSession, DialAgain]
        );
    }
}
