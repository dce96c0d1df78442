//! What a replica's effects mean.

use std::time::Duration;

use tidelog_history::{Invariant, What};
use tidelog_replica::link::LinkWork;
use tidelog_replica::{Effect, IsrProposal, LostProduces, ProducerTable};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, ProducerState, TopicIdPartition};

use tidelog_cluster::command::AlterPartition;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::{Accepted, Command};
use tidelog_replica::IsrChangeOutcome;

use super::metadata::{Fate, Purpose};
use super::{Process, Timer};
use crate::context::Context;
use crate::disk::Write;
use crate::message::Message;

/// How long an ISR change may take to commit before its fate counts as unknown.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A scan of a log for its producers that a truncation waits for.
#[derive(Debug)]
pub(crate) struct Rebuild {
    partition: TopicIdPartition,
    from: Offset,
    until: Offset,
    /// What the scan found, once it was made.
    found: Option<Vec<ProducerState>>,
}

impl Process {
    /// Performs effects in order.
    pub(super) fn perform(&mut self, id: TopicIdPartition, effects: Vec<Effect>, context: &mut Context) {
        let truncates = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Truncate { .. }));
        for effect in effects {
            self.perform_one(id, effect, context);
        }
        self.tick_later(id);
        self.note_counts(id, context);
        if truncates {
            self.note_derived(id, context);
        }
    }

    fn perform_one(&mut self, id: TopicIdPartition, effect: Effect, context: &mut Context) {
        match effect {
            Effect::BecameLeader { epoch, start_offset } => {
                self.became_leader(id, epoch, start_offset, context);
            }
            Effect::BecameFollower { .. } => {
                self.role_changed(id, context);
                self.resign(id, context);
                self.tell_leader(id, LinkWork::Fetch, context);
            }
            Effect::WentOffline => {
                self.role_changed(id, context);
                self.resign(id, context);
            }
            Effect::Written(_) => self.wake_followers(id, context),
            Effect::Durable(_) => self.tell_leader(id, LinkWork::Durable, context),
            Effect::HighWatermark(end) => self.high_watermark_moved(id, end, context),
            Effect::FailProduces(reason) => {
                let what = match reason {
                    LostProduces::LeadershipLost => "the leadership moved before the answer",
                    LostProduces::NotEnoughReplicas => "the in-sync replicas became too few",
                };
                self.fail_produces(id, what, context);
            }
            Effect::ProposeIsr(proposal) => self.propose_isr(id, proposal, context),
            Effect::Truncate {
                to,
                producers,
                forgotten,
            } => {
                self.disk.enqueue(
                    id,
                    Write::Truncate {
                        to,
                        producers,
                        forgotten,
                    },
                );
                context.history.seen.truncations += 1;
                context.record(What::Truncated {
                    broker: self.broker,
                    partition: id,
                    to,
                });
            }
            Effect::Trim { log_start } => {
                self.disk.enqueue(id, Write::Trim(log_start));
                context.history.seen.trims += 1;
                context.record(What::Trimmed {
                    broker: self.broker,
                    partition: id,
                    log_start,
                });
            }
            Effect::RebuildProducers { from, until } => {
                let rebuild = Rebuild {
                    partition: id,
                    from,
                    until,
                    found: None,
                };
                let after = context.random.micros(50, 10_000);
                self.plan(after, Timer::Rebuild(Box::new(rebuild)), context);
            }
            Effect::FetchAgain => self.tell_leader(id, LinkWork::Fetch, context),
            Effect::TruncatedCommitted { from, to } => {
                let broker = self.broker;
                let why = format!("broker {broker} cut {id} off from {to} to {from}");
                context.history.fail(Invariant::P23, &why);
            }
        }
    }

    fn became_leader(
        &mut self,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        start: Offset,
        context: &mut Context,
    ) {
        context.history.seen.leaderships += 1;
        if let Some(partition) = self.replicas.get_mut(&id) {
            partition.counts.clear();
        }
        context.record(What::Leads {
            broker: self.broker,
            life: self.address.life,
            partition: id,
            epoch,
        });
        self.role_changed(id, context);
        self.lead_groups(id, epoch, start, context);
    }

    fn role_changed(&mut self, id: TopicIdPartition, context: &mut Context) {
        self.wake_readers_soon(id, context);
        self.wake_followers(id, context);
    }

    fn high_watermark_moved(&mut self, id: TopicIdPartition, end: Offset, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        partition.to_checkpoint = true;
        let leading = partition.replica.is_leader();
        let epoch = partition.replica.leader().1;
        let reached = partition.reached(end);
        let streams: Vec<_> = partition.followers.values().map(|(handle, _)| *handle).collect();
        context.record(What::HighWatermark {
            broker: self.broker,
            partition: id,
            epoch,
            to: end,
            leading,
        });
        for waiter in reached {
            self.acknowledge(id, &waiter, context);
        }
        self.wake_readers_soon(id, context);
        for handle in streams {
            self.progressed(handle, id, context);
        }
        self.shard_soon(id, context);
    }

    pub(super) fn fail_produces(&mut self, id: TopicIdPartition, what: &str, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        let (leader, epoch) = partition.replica.leader();
        let error = indeterminate(what).with_leader(leader.map(|leader| (leader, epoch)));
        for waiter in std::mem::take(&mut partition.waiters) {
            let answer = Message::Produced {
                attempt: waiter.attempt,
                result: Err(error.clone()),
            };
            context.say(waiter.handle, answer);
        }
    }

    fn propose_isr(&mut self, id: TopicIdPartition, proposal: IsrProposal, context: &mut Context) {
        let incarnation = |&(broker, epoch): &(_, _)| BrokerIncarnation { broker, epoch };
        let leader = proposal.isr.iter().find(|(broker, _)| *broker == self.broker);
        let Some(leader) = leader.map(incarnation) else {
            self.isr_fated(id, &proposal, None, context);
            return;
        };
        let command = Command::AlterPartition(AlterPartition {
            partition: id,
            leader,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr.iter().map(incarnation).collect(),
        });
        self.propose(command, Purpose::Isr(id, proposal), PROPOSE_TIMEOUT, context);
    }

    pub(super) fn isr_fated(
        &mut self,
        id: TopicIdPartition,
        proposal: &IsrProposal,
        fate: Fate,
        context: &mut Context,
    ) {
        let outcome = match fate.map(|outcome| outcome.result) {
            Some(Ok(Accepted::PartitionAltered { registration })) => {
                IsrChangeOutcome::Committed(registration)
            }
            Some(Err(refused)) => IsrChangeOutcome::Rejected(refused.code),
            Some(Ok(_)) | None => IsrChangeOutcome::Unknown,
        };
        let now = self.local(context);
        if let Some(partition) = self.replicas.get_mut(&id) {
            let effects = partition.replica.isr_changed(proposal, &outcome, now);
            self.perform(id, effects, context);
        }
    }

    /// Replays a stretch of the log into the producers that it makes (P25), and hands them over
    /// later: a thread reads beside the replica, which goes on meanwhile.
    pub(super) fn rebuild(&mut self, mut rebuild: Rebuild, context: &mut Context) {
        let Some(states) = rebuild.found.take() else {
            rebuild.found = Some(self.scan(rebuild.partition, rebuild.from, rebuild.until));
            let after = context.random.micros(50, 10_000);
            return self.plan(after, Timer::Rebuild(Box::new(rebuild)), context);
        };
        context.history.seen.rebuilds += 1;
        let now = self.local(context);
        if let Some(partition) = self.replicas.get_mut(&rebuild.partition) {
            let effects = partition.replica.producers_rebuilt(rebuild.until, states, now);
            self.perform(rebuild.partition, effects, context);
        }
    }

    fn scan(&self, id: TopicIdPartition, from: Offset, until: Offset) -> Vec<ProducerState> {
        let mut table = ProducerTable::default();
        for batch in self.disk.read(id, from, until, usize::MAX) {
            table.replay(&batch.info, Duration::ZERO);
            table.committed(batch.info.end_offset());
        }
        table.states()
    }

    /// Writes down which members a leader waits for, where that changed.
    fn note_counts(&mut self, id: TopicIdPartition, context: &mut Context) {
        let Some(partition) = self.replicas.get_mut(&id) else {
            return;
        };
        let members = partition.replica.maximal_isr();
        if !members.is_empty() && members != partition.counts {
            partition.counts.clone_from(&members);
            let epoch = partition.replica.leader().1;
            context.record(What::Counts {
                broker: self.broker,
                partition: id,
                epoch,
                members,
            });
        }
    }

    /// Writes down what a replica has derived from its log.
    pub(super) fn note_derived(&self, id: TopicIdPartition, context: &mut Context) {
        if let Some(partition) = self.replicas.get(&id) {
            let log = partition.replica.log();
            context.record(What::Derived {
                broker: self.broker,
                partition: id,
                epochs: log.epochs().entries().to_vec(),
                producers: log.producers().states(),
            });
        }
    }
}

/// An answer to a produce that was appended and may or may not stay.
pub(super) fn indeterminate(what: &str) -> PartitionError {
    PartitionError::new(ErrorCode::NotEnoughReplicasAfterAppend, what)
}
