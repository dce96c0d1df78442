//! The reconciler task: moves the member from what it owns to what it may own, with the
//! application's hooks on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::TopicPartition;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::reconcile::steps;
use super::{Command, Commands, Directive};
use crate::client::Client;
use crate::consumer::committer::Committer;
use crate::consumer::listener::RebalanceListener;
use crate::consumer::shared::Shared;
use crate::consumer::slots::SlotId;
use crate::error::Result;
use crate::wire::session::Assigned;

/// How long a record that the application is busy with may hold up giving its partition up. After
/// it the record will be read again by the new owner, unless the hook waits for it.
const GRACE: Duration = Duration::from_secs(3);

/// The task's state.
pub(crate) struct Reconciler {
    pub(crate) client: Client,
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Committer,
    pub(crate) listener: Arc<dyn RebalanceListener>,
    pub(crate) directives: watch::Receiver<Directive>,
    pub(crate) commands: Commands,
    pub(crate) closing: mpsc::Receiver<oneshot::Sender<Result<()>>>,
    /// What is owned was assigned in this life.
    pub(crate) life: u64,
}

impl Reconciler {
    /// Runs until the consumer is closed.
    pub(crate) async fn run(mut self) {
        let mut is_alive = true;
        loop {
            tokio::select! {
                changed = self.directives.changed(), if is_alive => match changed {
                    Ok(()) => self.follow().await,
                    // The session is at its end, and said why.
                    Err(_) => is_alive = false,
                },
                Some(reply) = self.closing.recv() => {
                    let _ = reply.send(self.leave().await);
                    return;
                }
                else => return,
            }
        }
    }

    async fn follow(&mut self) {
        let directive = self.directives.borrow_and_update().clone();
        if directive.life != self.life {
            self.life = directive.life;
            self.lose().await;
        }
        let Some(target) = directive.target else { return };
        let steps = steps(&self.shared.look(|slots| slots.owned(self.life)), &target);
        if !steps.revoke.is_empty() {
            let ids = self.stop(&steps.revoke);
            self.settle(&ids).await;
            if let Err(error) = self.revoke(&ids).await {
                tracing::warn!(%error, "what was processed of revoked partitions could not be committed, and will be read again");
            }
        }
        let _ = self.commands.send(Command::Reconciled {
            stream: directive.stream,
            version: directive.version,
        });
        if !steps.begin.is_empty() {
            self.begin(steps.begin).await;
        }
    }

    /// Stops reading partitions: from now on nothing of them is handed out.
    fn stop(&self, partitions: &BTreeSet<Assigned>) -> BTreeSet<SlotId> {
        self.shared.change(|slots| {
            let ids: BTreeSet<SlotId> = partitions
                .iter()
                .filter_map(|assigned| slots.id_of(&assigned.partition, assigned.topic_id))
                .collect();
            for id in &ids {
                slots.leave(*id);
            }
            ids
        })
    }

    /// Gives the application a moment to finish the record it is busy with: until everything handed
    /// out is marked, or it calls for the next record.
    async fn settle(&self, ids: &BTreeSet<SlotId>) {
        let deadline = Instant::now() + GRACE;
        let (polls, _) = self.shared.polls();
        loop {
            let progress = self.shared.progress();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let (now, is_waiting) = self.shared.polls();
            let is_settled = self.shared.look(|slots| {
                ids.iter()
                    .all(|id| slots.by_id.get(id).is_none_or(|slot| slot.marks.is_settled()))
            });
            if is_settled || is_waiting || now > polls {
                return;
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                tracing::debug!("partitions are given up while a record of them is being processed");
                return;
            }
        }
    }

    /// The hook, the commit, the end.
    async fn revoke(&self, ids: &BTreeSet<SlotId>) -> Result<()> {
        let partitions = self.names(ids);
        if partitions.is_empty() {
            return Ok(());
        }
        self.listener.revoked(&partitions, &self.committer).await;
        let committed = self.committer.commit_marked(Some(ids)).await;
        self.remove(ids);
        tracing::debug!(?partitions, "partitions were given up");
        committed
    }

    async fn lose(&self) {
        let life = self.life;
        let ids: BTreeSet<SlotId> = self.shared.look(|slots| {
            let all: Vec<SlotId> = slots.by_id.keys().copied().collect();
            all.into_iter()
                .filter(|id| !slots.is_of_life(*id, life))
                .collect()
        });
        let partitions = self.names(&ids);
        self.remove(&ids);
        if !partitions.is_empty() {
            self.listener.lost(&partitions).await;
        }
    }

    async fn begin(&self, partitions: BTreeSet<Assigned>) {
        for assigned in &partitions {
            self.client.inner.metadata.want(&assigned.partition.topic);
        }
        let life = self.life;
        let add = |slots: &mut crate::consumer::slots::Slots| {
            let add = |assigned: Assigned| slots.add(assigned, Some(life));
            partitions.into_iter().map(add).collect::<BTreeSet<SlotId>>()
        };
        let ids = self.shared.change(add);
        // What came late in the interval would else be taken away again at once.
        self.shared.polled_now();
        self.listener.assigned(&self.names(&ids)).await;
        self.shared.change(|slots| {
            for id in ids {
                slots.begin(id, None);
            }
        });
    }

    /// Gives everything up and leaves. An error is the commit's; the member leaves all the same.
    async fn leave(&mut self) -> Result<()> {
        let all = self.shared.look(|slots| slots.owned(self.life));
        let ids = self.stop(&all);
        let committed = self.revoke(&ids).await;
        let _ = self.commands.send(Command::Leave);
        committed
    }

    fn names(&self, ids: &BTreeSet<SlotId>) -> Vec<TopicPartition> {
        self.shared.look(|slots| {
            let mut names: Vec<TopicPartition> = ids
                .iter()
                .filter_map(|id| Some(slots.by_id.get(id)?.partition.clone()))
                .collect();
            names.sort_unstable();
            names
        })
    }

    fn remove(&self, ids: &BTreeSet<SlotId>) {
        self.shared.change(|slots| {
            for id in ids {
                slots.remove(*id);
            }
        });
    }
}
