//! Proposals to the metadata log, and the log applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::command::AlterTopicConfigs;
use tidelog_cluster::configs::MIN_INSYNC_REPLICAS;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::{Change, Command, MetadataIndex, Outcome, decide};
use tidelog_history::What;
use tidelog_replica::IsrProposal;
use tidelog_types::{TopicId, TopicIdPartition};

use super::Process;
use crate::context::Context;
use crate::message::{Address, Message, Proposed, Site};
use crate::raft::Payload;
use crate::recorder::digest_of;
use tidelog_cluster::duties::Ground;

/// How long to wait before a leader that did not take the proposal is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a proposal of this broker is for: who is told of its outcome.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Register,
    Unfence(BrokerIncarnation),
    Drain,
    Leave,
    Isr(TopicIdPartition, IsrProposal),
    ProducerIds,
    /// The metadata leader's own: it looks again whether it was done.
    Upkeep,
    /// Its too, in a term: made again while the ground for it lasts.
    Fencing(u64, BrokerIncarnation, Ground),
    /// An operator's, who looks again.
    Operator,
}

/// What became of a proposal. `None`: nobody knows.
pub(super) type Fate = Option<Outcome>;

struct Waiting {
    command: Arc<Command>,
    purpose: Purpose,
    deadline: Duration,
    /// When to hand it to a leader, while it is not on its way.
    retry_at: Option<Duration>,
    /// When the one that it was handed to must have answered.
    answer_by: Duration,
}

/// Who is told what became of an entry.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Here(u64),
    There(Address, u64),
}

/// The proposals of this broker, and those of others that it took as the leader.
#[derive(Default)]
pub(super) struct Proposals {
    own: BTreeMap<u64, Waiting>,
    taken: BTreeMap<u64, (u64, Origin)>,
}

impl Process {
    /// Proposes a command; its fate is told to [`Process::fated`].
    pub(super) fn propose(
        &mut self,
        command: Command,
        purpose: Purpose,
        timeout: Duration,
        context: &mut Context,
    ) {
        let id = context.fresh();
        let waiting = Waiting {
            command: Arc::new(command),
            purpose,
            deadline: context.now + timeout,
            retry_at: Some(context.now),
            answer_by: Duration::MAX,
        };
        self.proposals.own.insert(id, waiting);
        self.hand_over(id, context);
    }

    /// An operator asks this broker to change a topic's min.insync.replicas.
    pub(crate) fn alter_min_insync(&mut self, topic_id: TopicId, replicas: u32, context: &mut Context) {
        let set = BTreeMap::from([(MIN_INSYNC_REPLICAS.to_owned(), replicas.to_string())]);
        let command = Command::AlterTopicConfigs(AlterTopicConfigs {
            topic_id,
            set,
            remove: Vec::new(),
        });
        self.propose(command, Purpose::Operator, Duration::from_secs(5), context);
    }

    /// An operator asks for leaderships to go back to the preferred leaders.
    pub(crate) fn elect_preferred(&mut self, context: &mut Context) {
        let timeout = Duration::from_secs(5);
        self.propose(
            Command::ElectPreferredLeaders,
            Purpose::Operator,
            timeout,
            context,
        );
    }

    pub(super) fn tick_proposals(&mut self, context: &mut Context) {
        let now = context.now;
        let due: Vec<_> = self
            .proposals
            .own
            .iter()
            .filter(|(_, waiting)| {
                waiting.retry_at.is_some_and(|at| at <= now)
                    || waiting.deadline <= now
                    || waiting.answer_by <= now
            })
            .map(|(id, waiting)| (*id, waiting.deadline <= now || waiting.answer_by <= now))
            .collect();
        for (id, is_over) in due {
            if is_over {
                self.fated(id, None, context);
            } else {
                self.hand_over(id, context);
            }
        }
    }

    fn hand_over(&mut self, id: u64, context: &mut Context) {
        let Some(waiting) = self.proposals.own.get_mut(&id) else {
            return;
        };
        let command = Arc::clone(&waiting.command);
        match self.raft.leader() {
            Some(leader) if leader == self.broker => {
                if let Some((index, term)) = self.raft.propose(&command, context) {
                    waiting.retry_at = None;
                    self.proposals.taken.insert(index, (term, Origin::Here(id)));
                    return;
                }
            }
            Some(leader) => {
                waiting.retry_at = None;
                waiting.answer_by = context.now + context.random.millis(500, 2000);
                let message = Message::Propose { id, command };
                context.send(self.address, Site::Broker(leader), None, message);
                return;
            }
            None => {}
        }
        waiting.retry_at = Some(context.now + RETRY_PAUSE);
    }

    /// Another broker proposes here.
    pub(super) fn propose_for(
        &mut self,
        from: Address,
        id: u64,
        command: &Arc<Command>,
        context: &mut Context,
    ) {
        match self.raft.propose(command, context) {
            Some((index, term)) => {
                self.proposals
                    .taken
                    .insert(index, (term, Origin::There(from, id)));
            }
            None => self.tell(Origin::There(from, id), Proposed::NotLeader, context),
        }
    }

    /// The leader says what came of a proposal.
    pub(super) fn proposed(&mut self, id: u64, result: Proposed, context: &mut Context) {
        match result {
            Proposed::Applied(outcome) => self.fated(id, Some(outcome), context),
            Proposed::Indeterminate => self.fated(id, None, context),
            Proposed::NotLeader => {
                if let Some(waiting) = self.proposals.own.get_mut(&id) {
                    waiting.retry_at = Some(context.now + RETRY_PAUSE);
                    waiting.answer_by = Duration::MAX;
                }
            }
        }
    }

    /// A proposal came to its end.
    fn fated(&mut self, id: u64, fate: Fate, context: &mut Context) {
        let Some(waiting) = self.proposals.own.remove(&id) else {
            return;
        };
        if let Some(outcome) = &fate {
            context.record(What::CommandAcknowledged {
                index: outcome.index.0,
                command: digest_of(&waiting.command),
            });
        }
        match waiting.purpose {
            Purpose::Register | Purpose::Unfence(_) | Purpose::Drain | Purpose::Leave => {
                self.registration_fated(&waiting.purpose, fate, context);
            }
            Purpose::Isr(partition, proposal) => self.isr_fated(partition, &proposal, fate, context),
            Purpose::ProducerIds => self.producer_ids_fated(fate, context),
            Purpose::Upkeep => self.upkeep_fated(),
            Purpose::Fencing(term, broker, ground) => self.fencing_fated(term, broker, ground, context),
            Purpose::Operator => {}
        }
    }

    fn tell(&mut self, origin: Origin, result: Proposed, context: &mut Context) {
        match origin {
            Origin::Here(id) => self.proposed(id, result, context),
            Origin::There(to, id) => {
                let message = Message::Proposed { id, result };
                context.send(self.address, to.site, Some(to.life), message);
            }
        }
    }

    /// Applies what a former life knew to be committed, from its snapshot on.
    pub(super) fn restore(&mut self, context: &mut Context) {
        let index = self.applied.index;
        let last = self.raft.committed(index);
        if let Some(Payload::Command(_, digest)) = last.as_deref().map(|entry| &entry.payload) {
            let state = self.applied.digest();
            context.record(What::Applied {
                broker: self.broker,
                index,
                command: *digest,
                state,
            });
        }
        self.apply_committed(context);
    }

    /// Applies what is committed and was not applied yet.
    pub(super) fn apply_committed(&mut self, context: &mut Context) {
        let before = self.applied.index;
        while let Some(entry) = self.raft.committed(self.applied.index + 1) {
            let index = self.applied.index + 1;
            let outcome = match &entry.payload {
                Payload::Command(command, digest) => {
                    Some(self.apply_command(index, command, *digest, context))
                }
                Payload::Blank | Payload::Membership(_) => {
                    Arc::make_mut(&mut self.applied.image).replay(MetadataIndex(index), &[]);
                    None
                }
            };
            self.applied.index = index;
            if let Some((term, origin)) = self.proposals.taken.remove(&index) {
                let result = match outcome {
                    Some(outcome) if term == entry.term => Proposed::Applied(outcome),
                    _ => Proposed::Indeterminate,
                };
                self.tell(origin, result, context);
            }
        }
        if self.applied.index > before {
            let snapshot = self.applied.snapshot_if_due(context);
            self.raft.save_applied(self.applied.index, snapshot, context);
            self.metadata_moved(context);
        }
    }

    fn apply_command(
        &mut self,
        index: u64,
        command: &Command,
        digest: u64,
        context: &mut Context,
    ) -> Outcome {
        let (changes, outcome) = decide(&self.applied.image, MetadataIndex(index), command);
        if index > context.history.metadata_index {
            context.history.metadata_index = index;
            self.record_changes(command, &changes, context);
        }
        Arc::make_mut(&mut self.applied.image).replay(MetadataIndex(index), &changes);
        let state = self.applied.digest();
        context.record(What::Applied {
            broker: self.broker,
            index,
            command: digest,
            state,
        });
        outcome
    }

    /// What everybody will see of a command, written once, when the first broker applies it.
    fn record_changes(&self, command: &Command, changes: &[Change], context: &mut Context) {
        let seen = &mut context.history.seen;
        if matches!(command, Command::FenceBroker(_)) && !changes.is_empty() {
            seen.fencings += 1;
        }
        seen.alterations +=
            u64::from(matches!(command, Command::AlterTopicConfigs(_)) && !changes.is_empty());
        for change in changes {
            match change {
                Change::Partition {
                    partition,
                    registration,
                    ..
                } => {
                    let before = self.applied.image.partition(*partition);
                    if let Some(before) = before {
                        let seen = &mut context.history.seen;
                        seen.joins += u64::from(registration.isr.len() > before.isr.len());
                        let elected = registration.leader.filter(|leader| before.elr.contains(leader));
                        seen.elected_from_elr += u64::from(before.isr.is_empty() && elected.is_some());
                    }
                    context.record(What::Registered {
                        partition: *partition,
                        registration: registration.clone(),
                    });
                }
                Change::Broker(broker) => {
                    let known = self.applied.image.broker(broker.id);
                    if known.is_none_or(|known| known.epoch != broker.epoch) {
                        context.record(What::BrokerRegistered {
                            broker: broker.id,
                            epoch: broker.epoch,
                            directory: broker.directory,
                        });
                    }
                }
                _ => {}
            }
        }
    }
}
