//! What a replica's effects mean on a real broker.

use std::sync::Arc;
use std::time::Duration;

use tidelog_log::{LogStore, StoreError, Truncate};
use tidelog_record::BatchView;
use tidelog_replica::link::LinkWork;
use tidelog_replica::{Effect, IsrProposal, LostProduces, ProducerTable};
use tidelog_types::{LocalPartition, Offset, ProducerState};

use super::context::{Role, RoleChange};
use super::partition::{Partition, State, indeterminate};

/// How much of a log is read at a time when producers are rebuilt from it, bytes.
const SCAN_BYTES: usize = 1024 * 1024;

impl Partition {
    /// Performs effects in order, under the partition's lock.
    pub(crate) fn perform(self: &Arc<Self>, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            self.perform_one(state, effect);
        }
        self.tick_later(state);
    }

    /// Puts the partition on the list that the timer visits, if time has something to do with it.
    pub(crate) fn tick_later(self: &Arc<Self>, state: &mut State) {
        if !state.is_ticking && state.replica.needs_tick() {
            state.is_ticking = true;
            self.context.ticking.lock().push(Arc::clone(self));
        }
    }

    fn perform_one(self: &Arc<Self>, state: &mut State, effect: Effect) {
        let store = &self.context.store;
        match effect {
            Effect::BecameLeader { epoch, start_offset } => {
                self.role_changed(state, Role::Leader { epoch, start_offset });
            }
            Effect::BecameFollower { leader, epoch } => {
                self.role_changed(state, Role::Follower { leader, epoch });
                self.tell_leader(state, LinkWork::Fetch);
            }
            Effect::WentOffline => self.role_changed(state, Role::Offline),
            Effect::Written(end) => self.written_to(state, end),
            Effect::Durable(end) => {
                state.stored.reached(end);
                self.tell_leader(state, LinkWork::Durable);
            }
            Effect::HighWatermark(end) => self.high_watermark_moved(state, end),
            Effect::FailProduces(reason) => {
                let error = match reason {
                    LostProduces::LeadershipLost => indeterminate("the leadership moved before the answer"),
                    LostProduces::NotEnoughReplicas => {
                        indeterminate("the in-sync replicas became fewer than min.insync.replicas")
                    }
                };
                let (leader, epoch) = state.replica.leader();
                let error = error.with_leader(leader.map(|leader| (leader, epoch)));
                state.committed.fail(&error);
                if reason == LostProduces::LeadershipLost {
                    state.stored.fail(&error);
                }
            }
            Effect::ProposeIsr(proposal) => self.propose(proposal),
            Effect::Truncate {
                to,
                producers,
                forgotten,
            } => {
                tracing::debug!(partition = %self.id, %to, "truncating");
                // What is cut off is never reported as written.
                state.unwritten.retain(|(end, _)| *end <= to);
                store.truncate(Truncate {
                    partition: self.local,
                    to,
                    producers,
                    forgotten,
                });
            }
            Effect::Trim { log_start } => store.trim(self.local, log_start),
            Effect::RebuildProducers { from, until } => self.rebuild_producers(from, until),
            Effect::FetchAgain => self.tell_leader(state, LinkWork::Fetch),
            Effect::TruncatedCommitted { from, to } => {
                tracing::error!(partition = %self.id, %from, %to, "committed records were cut off");
            }
        }
    }

    fn role_changed(&self, state: &mut State, role: Role) {
        tracing::info!(partition = %self.id, ?role, "role changed");
        state.wake_readers(self.id);
        state.fetch_deferred = false;
        (self.context.hooks.role_changed)(RoleChange {
            partition: self.id,
            role,
        });
    }

    fn written_to(self: &Arc<Self>, state: &mut State, end: Offset) {
        while state
            .unwritten
            .pop_front_if(|(unwritten, _)| *unwritten <= end)
            .is_some()
        {}
        state.wake_followers(self.id);
        if std::mem::take(&mut state.fetch_deferred) {
            self.tell_leader(state, LinkWork::Fetch);
        }
    }

    fn high_watermark_moved(self: &Arc<Self>, state: &mut State, end: Offset) {
        state.committed.reached(end);
        for consumer in &state.consumers {
            consumer.notify_one();
        }
        for follower in &state.followers {
            if let Some(waker) = follower.waker.upgrade() {
                waker.progressed(self.id);
            }
        }
        if !state.to_checkpoint {
            state.to_checkpoint = true;
            self.context.to_checkpoint.lock().push(Arc::clone(self));
        }
    }

    pub(crate) fn tell_leader(&self, state: &State, work: LinkWork) {
        if !state.deleted
            && let Some(leader) = state.replica.follows()
            && let Some(links) = self.context.links.get()
        {
            links.queue(leader, self.id, work);
        }
    }

    fn propose(self: &Arc<Self>, proposal: IsrProposal) {
        tracing::info!(partition = %self.id, isr = ?proposal.isr, "proposing an ISR");
        let partition = Arc::clone(self);
        let answer = (self.context.hooks.propose_isr)(self.id, proposal.clone());
        let task = async move {
            let outcome = answer.await;
            tracing::debug!(partition = %partition.id, ?outcome, "ISR proposal answered");
            let mut state = partition.state.lock();
            let effects = state
                .replica
                .isr_changed(&proposal, &outcome, partition.context.now());
            partition.perform(&mut state, effects);
        };
        self.context.tasks.spawn_on(task, &self.context.runtime);
    }

    fn rebuild_producers(self: &Arc<Self>, from: Offset, until: Offset) {
        tracing::info!(partition = %self.id, %from, %until, "rebuilding producers from the log");
        let partition = Arc::clone(self);
        let task = async move {
            let (store, local) = (Arc::clone(&partition.context.store), partition.local);
            let scanned = partition
                .context
                .readers
                .run(move || scan(&*store, local, from, until))
                .await;
            match scanned {
                Ok(producers) => {
                    let mut state = partition.state.lock();
                    let now = partition.context.now();
                    let effects = state.replica.producers_rebuilt(until, producers, now);
                    partition.perform(&mut state, effects);
                }
                // The follower stays where it is: its log cannot be read, and says so to whoever
                // asks.
                Err(error) => tracing::error!(partition = %partition.id, %error, "cannot rebuild producers"),
            }
        };
        self.context.tasks.spawn_on(task, &self.context.runtime);
    }
}

/// Replays a stretch of the log into the producers that it makes (P25).
fn scan(
    store: &dyn LogStore,
    partition: LocalPartition,
    from: Offset,
    until: Offset,
) -> Result<Vec<ProducerState>, StoreError> {
    let mut table = ProducerTable::default();
    let mut next = from;
    while next < until {
        let read = store.read(partition, next, until, SCAN_BYTES)?;
        if read.batches.is_empty() {
            break;
        }
        for bytes in &read.batches {
            let view = BatchView::new(bytes).map_err(|error| StoreError::Corrupt {
                partition,
                offset: next,
                what: error.to_string(),
            })?;
            table.replay(&view.info(), Duration::ZERO);
        }
        table.committed(read.next);
        next = read.next;
    }
    Ok(table.states())
}
