//! Calling an election early when the leader's process is gone.
//!
//! A follower that has heard nothing for two heartbeats dials its leader. If the connection is
//! refused, nothing listens there: it waits until the leader's lease has run out (before that
//! nobody may grant a vote) and a short random time more, so that two followers seldom meet, and
//! calls an election. Any other failure is silence, and left to Raft's own timeout: the lease and
//! an election timeout. openraft waits two of its longest election timeouts longer on a node that
//! was ever refused a vote for a log shorter than another's, until it leads itself. A node that was
//! cut off for a while is such a one for good, so that half a cluster may be slow ever after. So an
//! election is called here, too, when Raft's own time for it is over.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use rand::RngExt;
use tidelog_cluster::sessions::Dial;
use tidelog_types::BrokerId;
use tokio_util::sync::CancellationToken;

use crate::config::RaftConfig;
use crate::contact::LastContact;
use crate::node_id::RaftNodeId;
use crate::peer::PeerPool;
use crate::raft_types::Raft;

const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// How long after the lease nobody calls yet: other voters heard of the leader a moment later.
const MARGIN: Duration = Duration::from_millis(10);
/// Longest random wait after that.
const SPREAD: Duration = Duration::from_millis(140);

pub(crate) struct EarlyElection {
    pub(crate) raft: Raft,
    pub(crate) peers: PeerPool,
    pub(crate) contact: Arc<LastContact>,
    pub(crate) timings: RaftConfig,
}

impl EarlyElection {
    pub(crate) async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.watch()).await.is_some() {}
    }

    /// Waits for one suspicion, and follows it up.
    async fn watch(&self) {
        let quiet = self.timings.heartbeat * 2;
        tokio::time::sleep(
            quiet
                .saturating_sub(self.contact.age())
                .max(self.timings.heartbeat / 4),
        )
        .await;
        let Some(leader) = self.followed_leader() else {
            return;
        };
        let last = self.contact.at();
        if self.contact.age() < quiet {
            return;
        }
        let dial = self.peers.dial(leader, DIAL_TIMEOUT).await;
        let patience = Patience::with(dial, &self.timings);
        let wait = patience.at_least + within(patience.and_up_to);
        tokio::time::sleep_until((last + wait).into()).await;
        if self.contact.at() == last && self.followed_leader() == Some(leader) {
            tracing::info!(%leader, "the metadata leader {}: calling an election", patience.since_it);
            if let Err(error) = self.raft.trigger().elect().await {
                tracing::warn!(%error, "raft stopped");
            }
            // The next attempt, if this one fails, is a whole round later.
            self.contact.note();
        }
    }

    /// Whom this node follows, if it may vote.
    fn followed_leader(&self) -> Option<BrokerId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state != ServerState::Follower {
            return None;
        }
        metrics
            .current_leader
            .filter(|leader| *leader != metrics.id)
            .and_then(|node| RaftNodeId(node).broker())
    }
}

/// How long after the last word of a leader an election is called.
#[derive(Debug, PartialEq, Eq)]
struct Patience {
    at_least: Duration,
    /// A random wait on top.
    and_up_to: Duration,
    /// Why, as the end of a sentence.
    since_it: &'static str,
}

impl Patience {
    /// By what came of dialling it. Before the lease is over nobody may grant a vote.
    fn with(dial: Dial, timings: &RaftConfig) -> Self {
        let lease = timings.election_max;
        match dial {
            Dial::Refused => Self {
                at_least: lease + MARGIN,
                and_up_to: SPREAD,
                since_it: "refuses connections",
            },
            Dial::Connected | Dial::Unclear => Self {
                at_least: lease + timings.election_max,
                and_up_to: timings.election_max.saturating_sub(timings.election_min),
                since_it: "is silent",
            },
        }
    }
}

fn within(longest: Duration) -> Duration {
    Duration::from_millis(rand::rng().random_range(0..=longest.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_refuses_is_succeeded_after_its_lease_and_a_silent_one_after_raft_s_own_time() {
        let timings = RaftConfig::default();
        let lease = timings.election_max;
        let refused = Patience::with(Dial::Refused, &timings);
        assert!(refused.at_least > lease, "before that nobody may vote");
        for dial in [Dial::Connected, Dial::Unclear] {
            let silent = Patience::with(dial, &timings);
            // Raft calls one between the lease and the shortest, and the lease and the longest
            // election timeout: not before it.
            assert_eq!(silent.at_least, lease + timings.election_max);
            assert!(refused.at_least + refused.and_up_to < silent.at_least);
            // openraft's own wait, on a node that was refused a vote once, is two of the longest
            // more.
            assert!(silent.at_least + silent.and_up_to < lease + 3 * timings.election_max);
        }
    }

    #[test]
    fn two_followers_seldom_call_at_the_same_moment() {
        let waits: std::collections::BTreeSet<_> = (0..100).map(|_| within(SPREAD)).collect();
        assert!(waits.len() > 10, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= SPREAD));
    }
}
