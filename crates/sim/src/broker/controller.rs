//! The metadata leader's duties: sessions judged, brokers fenced, topics made, leaderships put back
//! in balance.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_cluster::command::CreateTopic;
use tidelog_cluster::configs::{CLEANUP_POLICY, MIN_INSYNC_REPLICAS};
use tidelog_cluster::duties::{DialOf, Duties, Duty, Ground};
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::sessions::{Dial, HeartbeatAnswer, answers_heartbeats};
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
/// How often missing topics are looked for.
const RETRY: Duration = Duration::from_millis(200);

/// One metadata leadership.
pub(super) struct Controller {
    term: u64,
    duties: Duties,
    /// What is under way, by the number of the dial.
    dials: BTreeMap<u64, DialOf>,
    upkeep_at: Duration,
    balance_at: Duration,
    is_keeping_up: bool,
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
        self.do_duties(context);
        self.keep_up(context);
    }

    /// The image changed: sessions follow it.
    pub(super) fn follow_sessions(&mut self, context: &Context) {
        let now = self.local(context);
        let image = &self.applied.image;
        if let Some(controller) = &mut self.controller {
            controller.duties.follow(image, now);
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
            controller.duties.heard(incarnation, now);
        }
        self.registrations_of_sessions.insert(handle, incarnation);
        let answer = Message::HeartbeatAnswer {
            sequence,
            stale: answer.stale_epoch,
            fenced: answer.fenced,
        };
        context.say(handle, answer);
    }

    /// A broker's stream broke.
    pub(super) fn session_broken(&mut self, handle: Handle, context: &Context) {
        let now = self.local(context);
        let broken = self.registrations_of_sessions.remove(&handle);
        if let (Some(controller), Some(broker)) = (&mut self.controller, broken) {
            controller.duties.broken(broker, now);
        }
    }

    /// A dial came to its end.
    pub(super) fn dialled(&mut self, id: u64, refused: bool, context: &Context) {
        let outcome = if refused { Dial::Refused } else { Dial::Connected };
        let now = self.local(context);
        if let Some(controller) = &mut self.controller
            && let Some(dial) = controller.dials.remove(&id)
        {
            controller.duties.dialled(dial, outcome, now);
        }
    }

    pub(super) fn upkeep_fated(&mut self) {
        if let Some(controller) = &mut self.controller {
            controller.is_keeping_up = false;
        }
    }

    fn begin_leadership(&self, term: u64, context: &Context) -> Controller {
        let now = self.local(context);
        Controller {
            term,
            duties: Duties::begin(self.broker, context.config.session, &self.applied.image, now),
            dials: BTreeMap::new(),
            upkeep_at: Duration::ZERO,
            balance_at: context.now + context.config.balance_interval,
            is_keeping_up: false,
        }
    }

    fn do_duties(&mut self, context: &mut Context) {
        let now = self.local(context);
        while let Some(controller) = &mut self.controller
            && let Some(duty) = controller.duties.advance(now)
        {
            match duty {
                Duty::Dial(dial) => {
                    let id = context.fresh();
                    // What was not answered by now was given up.
                    controller.dials.retain(|_, known| known.broker != dial.broker);
                    controller.dials.insert(id, dial);
                    context.dial(self.address, dial.broker.broker, id);
                }
                Duty::Fence(broker, ground) => {
                    let purpose = Purpose::Fencing(controller.term, broker, ground);
                    self.propose(Command::FenceBroker(broker), purpose, PROPOSE_TIMEOUT, context);
                }
            }
        }
    }

    /// A fencing came to its end, whatever that is.
    pub(super) fn fencing_fated(
        &mut self,
        term: u64,
        broker: BrokerIncarnation,
        ground: Ground,
        context: &Context,
    ) {
        let now = self.local(context);
        if let Some(controller) = self.controller.as_mut().filter(|known| known.term == term) {
            controller.duties.fencing_ended(broker, ground, now);
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
