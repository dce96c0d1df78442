//! Who leads what, as far as a client knows; and questions that may never be answered.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{BrokerId, LeaderEpoch, PartitionError, TopicIdPartition};

use crate::context::Context;
use crate::message::{Address, Answer, Ask, Message, Site};

/// How long a client waits between questions about leaders.
const REFRESH: (u64, u64) = (30, 250);
/// How long an answer may take that waits for nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// A client's picture of the cluster.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    known: BTreeMap<TopicIdPartition, (BrokerId, LeaderEpoch)>,
    asking: Option<(u64, Duration)>,
    ask_at: Duration,
    is_old: bool,
}

impl Leaders {
    /// The leader of a partition. If none is known, one is asked for.
    pub(super) fn of(&mut self, partition: TopicIdPartition) -> Option<(BrokerId, LeaderEpoch)> {
        let known = self.known.get(&partition).copied();
        self.is_old |= known.is_none();
        known
    }

    /// A broker refused, or did not answer: its successor may be named, or is asked for.
    pub(super) fn refused(&mut self, partition: TopicIdPartition, error: Option<&PartitionError>) {
        self.is_old = true;
        if let Some((leader, epoch)) = error.and_then(|error| error.leader) {
            self.learn(partition, Some(leader), epoch);
        }
    }

    /// Asks some broker, if that is due.
    pub(super) fn refresh(&mut self, from: Address, context: &mut Context) {
        if self.asking.is_some_and(|(_, by)| by <= context.now) {
            self.asking = None;
        }
        if !self.is_old || self.asking.is_some() || self.ask_at > context.now {
            return;
        }
        let brokers: Vec<_> = context.config.broker_ids().collect();
        let Some(broker) = context.random.pick(&brokers) else {
            return;
        };
        let id = context.fresh();
        let pause = context.random.millis(REFRESH.0, REFRESH.1);
        self.ask_at = context.now + pause;
        self.asking = Some((id, context.now + Duration::from_millis(500)));
        let ask = Ask::Metadata;
        context.send(from, Site::Broker(broker), None, Message::Ask { id, ask });
    }

    /// Takes an answer, if it is one to a question about leaders.
    pub(super) fn take(&mut self, id: u64, answer: &Answer) -> bool {
        let Answer::Metadata(partitions) = answer else {
            return false;
        };
        if self.asking.is_some_and(|(asked, _)| asked == id) {
            self.asking = None;
            self.is_old = false;
        }
        for (partition, leader, epoch) in partitions {
            self.learn(*partition, *leader, *epoch);
        }
        true
    }

    fn learn(&mut self, partition: TopicIdPartition, leader: Option<BrokerId>, epoch: LeaderEpoch) {
        match self.known.get(&partition) {
            Some((_, known)) if *known > epoch => {}
            _ => {
                if let Some(leader) = leader {
                    self.known.insert(partition, (leader, epoch));
                }
            }
        }
    }
}

/// A question to a broker that waits for its answer.
#[derive(Debug)]
pub(super) struct Question<T> {
    id: u64,
    by: Duration,
    pub(super) about: T,
}

impl<T> Question<T> {
    /// Asks. `wait` is how long the broker may take over it.
    pub(super) fn ask(
        from: Address,
        to: BrokerId,
        ask: Ask,
        wait: Duration,
        about: T,
        context: &mut Context,
    ) -> Self {
        let id = context.fresh();
        context.send(from, Site::Broker(to), None, Message::Ask { id, ask });
        Self {
            id,
            by: context.now + wait + ANSWER_TIMEOUT,
            about,
        }
    }

    /// Whether this answers it.
    pub(super) fn is_answered_by(&self, id: u64) -> bool {
        self.id == id
    }

    /// Whether no answer is waited for any more.
    pub(super) fn is_over(&self, context: &Context) -> bool {
        self.by <= context.now
    }
}
