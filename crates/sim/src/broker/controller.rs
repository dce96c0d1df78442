//! The metadata leader's duties: sessions judged, brokers fenced, topics made, leaderships put back in balance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_cluster::command::{BrokerIncarnation, CreateTopic};
use tidelog_cluster::configs::{CLEANUP_POLICY, MIN_INSYNC_REPLICAS};
use tidelog_cluster::sessions::{
    Dial, HeartbeatAnswer, REFUSAL_WINDOW, REFUSALS_TO_FENCE, RefusalCounter, SessionTable, Verdict,
    answers_heartbeats,
};
use tidelog_cluster::{ClusterImage, Command};
use tidelog_types::{BrokerEpoch, BrokerId};

use super::Process;
use super::metadata::Purpose;
use crate::config::TopicSpec;
use crate::context::Context;
use crate::message::Message;
use crate::network::Handle;
use crate::raft::ELECTION_MAX;

/// How long a proposal of the controller may take.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);
/// How long after a dial that was not refused a suspect is dialled again.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// How long one dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_millis(150);

/// One metadata leadership.
pub(super) struct Controller {
    term: u64,
    table: SessionTable,
    suspects: BTreeMap<BrokerIncarnation, Suspect>,
    /// Brokers that are being fenced for their silence: one proposal each.
    fencing: BTreeSet<BrokerIncarnation>,
    fence_at: Duration,
    upkeep_at: Duration,
    balance_at: Duration,
    is_keeping_up: bool,
}

/// A broker whose stream broke and that was not heard of since.
#[derive(Debug, Default)]
struct Suspect {
    refusals: RefusalCounter,
    /// The dial that is under way, and when it began.
    dial: Option<(u64, Duration)>,
    /// It refused, and the metadata log is asked to fence it: it is not dialled again before that is answered.
    is_fencing: bool,
    next_at: Duration,
}

/// Why a broker is to be fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    Silent,
    Refuses,
}

impl Process {
    pub(super) fn tick_controller(&mut self, context: &mut Context) {
        let leads = self.raft.leads();
        if self.controller.as_ref().map(|controller| controller.term) != leads {
            self.controller = leads.map(|term| self.begin_leadership(term, context));
        }
        if self.controller.is_none() {
            return;
        }
        self.follow_sessions(context);
        self.fence_silent(context);
        self.dial_suspects(context);
        self.keep_up(context);
    }

    /// The image changed: sessions follow it.
    pub(super) fn follow_sessions(&mut self, context: &Context) {
        let now = self.local(context);
        let image = &self.applied.image;
        if let Some(controller) = &mut self.controller {
            controller.table.follow(image, now);
            controller
                .suspects
                .retain(|broker, _| image.is_unfenced_as(*broker));
        }
    }

    /// A broker's heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        handle: Handle,
        broker: BrokerId,
        epoch: BrokerEpoch,
        sequence: u64,
        context: &mut Context,
    ) {
        if self.raft.leads().is_none()
            || !answers_heartbeats(self.raft.since_quorum_ack(context), ELECTION_MAX)
        {
            self.uses.remove(&handle);
            context.close(handle);
            return self.session_broken(handle, context);
        }
        let incarnation = BrokerIncarnation { broker, epoch };
        let answer = HeartbeatAnswer::of(&self.applied.image, incarnation);
        let now = self.local(context);
        if let Some(controller) = self.controller.as_mut().filter(|_| !answer.stale_epoch) {
            controller.table.heard(incarnation, now);
            controller.suspects.remove(&incarnation);
        }
        self.registrations_of_sessions.insert(handle, incarnation);
        let answer = Message::HeartbeatAnswer {
            sequence,
            stale: answer.stale_epoch,
            fenced: answer.fenced,
        };
        context.say(handle, answer);
    }

    /// A broker's stream broke: it may be dead, or it only changed its mind.
    pub(super) fn session_broken(&mut self, handle: Handle, context: &Context) {
        if let Some(incarnation) = self.registrations_of_sessions.remove(&handle) {
            self.suspect(incarnation, context);
        }
    }

    /// A dial came to its end.
    pub(super) fn dialled(&mut self, id: u64, refused: bool, context: &mut Context) {
        let dial = if refused { Dial::Refused } else { Dial::Connected };
        let Some(controller) = &self.controller else {
            return;
        };
        let suspect = controller.suspects.iter().find(|(_, suspect)| {
            let dial = suspect.dial;
            dial.is_some_and(|(dial, _)| dial == id)
        });
        if let Some(broker) = suspect.map(|(broker, _)| *broker) {
            self.judge_dial(broker, dial, context);
        }
    }

    pub(super) fn upkeep_fated(&mut self) {
        if let Some(controller) = &mut self.controller {
            controller.is_keeping_up = false;
        }
    }

    fn begin_leadership(&self, term: u64, context: &Context) -> Controller {
        let now = self.local(context);
        let image = &self.applied.image;
        let everybody = image
            .brokers
            .values()
            .filter(|broker| !broker.fenced && broker.id != self.broker)
            .map(|broker| BrokerIncarnation {
                broker: broker.id,
                epoch: broker.epoch,
            });
        Controller {
            term,
            table: SessionTable::granted(context.config.session, image, now),
            suspects: everybody.map(|broker| (broker, Suspect::default())).collect(),
            fencing: BTreeSet::new(),
            fence_at: Duration::ZERO,
            upkeep_at: Duration::ZERO,
            balance_at: context.now + context.config.balance_interval,
            is_keeping_up: false,
        }
    }

    fn suspect(&mut self, broker: BrokerIncarnation, context: &Context) {
        let is_unfenced = self.applied.image.is_unfenced_as(broker);
        if let Some(controller) = self.controller.as_mut().filter(|_| is_unfenced) {
            let dialled_at_once = || Suspect {
                next_at: context.now,
                ..Suspect::default()
            };
            controller.suspects.entry(broker).or_insert_with(dialled_at_once);
        }
    }

    fn fence_silent(&mut self, context: &mut Context) {
        let now = self.local(context);
        let Some(controller) = &mut self.controller else {
            return;
        };
        if controller.fence_at > context.now {
            return;
        }
        let expired = controller.table.expired(now);
        if !expired.is_empty() {
            controller.fence_at = context.now + RETRY;
        }
        for broker in expired {
            let is_new = self
                .controller
                .as_mut()
                .is_some_and(|controller| controller.fencing.insert(broker));
            if is_new {
                self.fence_broker(broker, Ground::Silent, context);
            }
        }
    }

    fn fence_broker(&mut self, broker: BrokerIncarnation, ground: Ground, context: &mut Context) {
        let Some(term) = self.controller.as_ref().map(|controller| controller.term) else {
            return;
        };
        let purpose = Purpose::Fencing(term, broker, ground);
        self.propose(Command::FenceBroker(broker), purpose, PROPOSE_TIMEOUT, context);
    }

    /// A fencing came to its end, whatever that is: where it failed, it is proposed again while its ground lasts.
    pub(super) fn fencing_fated(
        &mut self,
        term: u64,
        broker: BrokerIncarnation,
        ground: Ground,
        context: &Context,
    ) {
        let Some(controller) = self.controller.as_mut().filter(|known| known.term == term) else {
            return;
        };
        match (ground, controller.suspects.get_mut(&broker)) {
            (Ground::Silent, _) => {
                controller.fencing.remove(&broker);
            }
            (Ground::Refuses, Some(suspect)) => {
                *suspect = Suspect {
                    next_at: context.now + DIAL_AGAIN,
                    ..Suspect::default()
                };
            }
            (Ground::Refuses, None) => {}
        }
    }

    fn dial_suspects(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(controller) = &self.controller else {
            return;
        };
        let suspects: Vec<_> = controller
            .suspects
            .iter()
            .filter(|(_, suspect)| !suspect.is_fencing)
            .map(|(broker, suspect)| (*broker, suspect.dial, suspect.next_at))
            .collect();
        for (broker, dial, next_at) in suspects {
            match dial {
                Some((_, since)) if now.saturating_sub(since) >= DIAL_TIMEOUT => {
                    self.judge_dial(broker, Dial::Unclear, context);
                }
                None if next_at <= now => {
                    let id = context.fresh();
                    context.dial(self.address, broker.broker, id);
                    let suspect = self
                        .controller
                        .as_mut()
                        .and_then(|controller| controller.suspects.get_mut(&broker));
                    if let Some(suspect) = suspect {
                        suspect.dial = Some((id, now));
                    }
                }
                _ => {}
            }
        }
    }

    fn judge_dial(&mut self, broker: BrokerIncarnation, dial: Dial, context: &mut Context) {
        let suspect = self
            .controller
            .as_mut()
            .and_then(|controller| controller.suspects.get_mut(&broker));
        let Some(suspect) = suspect else { return };
        let Some((_, began)) = suspect.dial.take() else {
            return;
        };
        let pause = REFUSAL_WINDOW / (REFUSALS_TO_FENCE + 1);
        match suspect.refusals.dialled(dial, began) {
            Verdict::DialAgain => suspect.next_at = context.now + pause,
            Verdict::LeaveToSession => suspect.next_at = context.now + DIAL_AGAIN,
            Verdict::Fence => {
                suspect.is_fencing = true;
                self.fence_broker(broker, Ground::Refuses, context);
            }
        }
    }

    /// Topics that are missing, leaderships that are not where they should be.
    fn keep_up(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(controller) = &mut self.controller else {
            return;
        };
        if controller.is_keeping_up || controller.upkeep_at > now {
            return;
        }
        controller.upkeep_at = now + RETRY;
        let mut command = missing_topic(&self.applied.image, context).map(Command::CreateTopic);
        if command.is_none() && controller.balance_at <= now {
            controller.balance_at = now + context.config.balance_interval;
            command = self
                .applied
                .image
                .is_unbalanced()
                .then_some(Command::ElectPreferredLeaders);
        }
        if let Some(command) = command {
            controller.is_keeping_up = true;
            self.propose(command, Purpose::Upkeep, PROPOSE_TIMEOUT, context);
        }
    }
}

fn missing_topic(image: &ClusterImage, context: &mut Context) -> Option<CreateTopic> {
    let active = image.brokers.values().filter(|broker| broker.is_active()).count() as u32;
    // All of them: a run is about replicas on every broker.
    if active < context.config.brokers {
        return None;
    }
    let config = &context.config;
    let mut topics = std::iter::once(&config.offsets_topic).chain(&config.topics);
    let topic = topics
        .find(|topic| image.topic_by_name(&topic.name).is_none())?
        .clone();
    Some(create(&topic, context))
}

fn create(topic: &TopicSpec, context: &mut Context) -> CreateTopic {
    let internal = topic.name.is_internal();
    let mut configs = BTreeMap::new();
    if internal {
        configs.insert(CLEANUP_POLICY.to_owned(), "compact".to_owned());
    }
    configs.insert(
        MIN_INSYNC_REPLICAS.to_owned(),
        topic.min_insync_replicas.to_string(),
    );
    CreateTopic {
        name: topic.name.clone(),
        topic_id: topic.id,
        partitions: Some(topic.partitions),
        replication_factor: Some(topic.replication_factor),
        configs,
        placement_start: context.random.below(8),
        internal,
    }
}
