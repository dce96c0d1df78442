//! Calling an election early when the leader's process is gone.
//!
//! A follower that has heard nothing for two heartbeats dials its leader. If the connection is refused, nothing listens
//! there: it waits until the leader's lease has run out (before that nobody may grant a vote) and a short random time
//! more, so that two followers seldom meet, and calls an election. Any other failure is silence, and left to Raft's own
//! timeout: the lease and an election timeout. openraft waits two of its longest election timeouts longer on a node that was
//! ever refused a vote for a log shorter than another's, until it leads itself. A node that was cut off for a while is such a one for
//! good, so that half a cluster may be slow ever after. So an election is called here, too, when Raft's own time for it is over.

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
/// Range of the random wait after the lease, milliseconds.
const SPREAD_MS: std::ops::Range<u64> = 10..150;

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
        let lease = self.timings.election_max;
        let (wait, why) = match self.peers.dial(leader, DIAL_TIMEOUT).await {
            Dial::Refused => (lease + within(SPREAD_MS), "refuses connections"),
            Dial::Connected | Dial::Unclear => {
                let spread = self
                    .timings
                    .election_max
                    .saturating_sub(self.timings.election_min);
                let own = lease + self.timings.election_max;
                (own + within(0..spread.as_millis().max(1) as u64), "is silent")
            }
        };
        tokio::time::sleep_until((last + wait).into()).await;
        if self.contact.at() == last && self.followed_leader() == Some(leader) {
            tracing::info!(%leader, "the metadata leader {why}: calling an election");
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

fn within(range_ms: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rand::rng().random_range(range_ms))
}
