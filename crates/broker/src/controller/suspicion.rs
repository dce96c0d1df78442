//! Dialling a broker whose stream broke.

use std::time::Duration;

use tidelog_cluster::sessions::{REFUSAL_WINDOW, REFUSALS_TO_FENCE, RefusalCounter, Verdict};
use tidelog_metadata::peer::PeerPool;
use tidelog_types::BrokerId;
use tokio::time::Instant;

/// How long one dial may take. A host that refuses does so at once.
const DIAL_TIMEOUT: Duration = Duration::from_millis(150);
/// Dials that begin a window anew, because the machine was too slow for it, before the broker is left to its session.
const MAX_DIALS: u32 = 4 * REFUSALS_TO_FENCE;

/// Whether nothing listens at a broker's address: three dials within the window were refused.
pub(super) async fn refuses_connections(peers: &PeerPool, broker: BrokerId) -> bool {
    // The dials fit the window with room for their own time.
    let pause = REFUSAL_WINDOW / (REFUSALS_TO_FENCE + 1);
    let started = Instant::now();
    let mut refusals = RefusalCounter::default();
    for _ in 0..MAX_DIALS {
        let at = started.elapsed();
        let dial = peers.dial(broker, DIAL_TIMEOUT).await;
        match refusals.dialled(dial, at) {
            Verdict::Fence => return true,
            Verdict::LeaveToSession => return false,
            Verdict::DialAgain => tokio::time::sleep(pause).await,
        }
    }
    false
}
