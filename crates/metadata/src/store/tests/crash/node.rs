//! The node under test, and the script performed on it.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest};
use openraft::{BasicNode, Config};

use super::script::*;
use super::*;
use crate::network::Network;
use crate::peer::PeerPool;
use crate::raft_types::{Raft, SnapshotMeta};

/// The longest that one step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the node on a folder.
async fn start(folder: &Path) -> Checked<Raft> {
    let stores = open(folder).await.map_err(|error| format!("opening: {error}"))?;
    let config = Config {
        // A follower without timers: nothing happens that is not in the script.
        enable_tick: false,
        heartbeat_interval: 1,
        election_timeout_min: 2,
        election_timeout_max: 3,
        max_in_snapshot_log_to_keep: KEEP,
        ..Config::default()
    };
    let network = Network {
        peers: PeerPool::new(owner().broker, []),
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let raft = Raft::new(ME, config, network, stores.log, stores.state).await;
    raft.map_err(|error| format!("starting: {error}"))
}

/// Has one step done, and waits for all that follows from it.
async fn perform(raft: &Raft, step: Step) -> Checked {
    let failed = |error: &dyn std::fmt::Display| format!("{step:?}: {error}");
    match step {
        Step::Vote((term, node), last) => {
            let last_log_id = last.map(|index| committed_entry(index).log_id);
            // The lease of the leader before has to run out.
            loop {
                let request = VoteRequest::new(Vote::new(term, node), last_log_id);
                let answer = raft.vote(request).await.map_err(|error| failed(&error))?;
                if answer.vote_granted {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        }
        Step::Append(leader, prev, count, committed) => {
            let first = prev.map_or(0, |prev| prev + 1);
            let answer = raft
                .append_entries(AppendEntriesRequest {
                    vote: Vote::new_committed(leader.0, leader.1),
                    prev_log_id: prev.map(|index| committed_entry(index).log_id),
                    entries: (first..first + count)
                        .map(|index| entry_of(leader, index))
                        .collect(),
                    leader_commit: Some(committed_entry(committed).log_id),
                })
                .await
                .map_err(|error| failed(&error))?;
            ensure!(
                matches!(answer, AppendEntriesResponse::Success),
                "{step:?}: {answer}"
            );
            settled(raft, |metrics| {
                metrics.last_applied.is_some_and(|id| id.index >= committed)
            })
            .await
        }
        Step::Build(last) => {
            // After a restart the leader says again what is committed.
            Box::pin(perform(raft, Step::Append(SECOND, Some(last), 0, last))).await?;
            raft.trigger().snapshot().await.map_err(|error| failed(&error))?;
            settled(raft, |metrics| {
                metrics.snapshot.is_some_and(|id| id.index >= last)
            })
            .await?;
            // Raft does so by itself, unless the snapshot was there before it started.
            let purge = raft.trigger().purge_log(last - KEEP).await;
            purge.map_err(|error| failed(&error))?;
            settled(raft, |metrics| {
                metrics.purged.is_some_and(|id| id.index >= last - KEEP)
            })
            .await
        }
        Step::Install(last) => {
            let state = state_at(Some(last));
            let meta: SnapshotMeta = state.meta(state.id());
            let request = InstallSnapshotRequest {
                vote: Vote::new_committed(SECOND.0, SECOND.1),
                meta,
                offset: 0,
                data: state.to_bytes(),
                done: true,
            };
            raft.install_snapshot(request)
                .await
                .map_err(|error| failed(&error))?;
            settled(raft, |metrics| metrics.purged.is_some_and(|id| id.index >= last)).await
        }
    }
}

async fn settled(raft: &Raft, mut is: impl FnMut(&openraft::RaftMetrics<u64, BasicNode>) -> bool) -> Checked {
    let mut metrics = raft.metrics();
    let waited = metrics.wait_for(|metrics| metrics.running_state.is_err() || is(metrics));
    let metrics = waited.await.map_err(|error| error.to_string())?;
    metrics
        .running_state
        .clone()
        .map_err(|error| format!("raft stopped: {error}"))
}

/// Goes on with the script, and calls `answered` with how many steps are done.
pub(super) async fn play(folder: &Path, first: usize, mut answered: impl FnMut(usize)) -> Checked {
    let raft = start(folder).await?;
    for (index, step) in SCRIPT.iter().enumerate().skip(first) {
        let done = tokio::time::timeout(STEP_TIMEOUT, perform(&raft, *step));
        done.await
            .map_err(|_| format!("{step:?} does not come to an end"))??;
        answered(index + 1);
    }
    raft.shutdown().await.map_err(|error| error.to_string())
}
