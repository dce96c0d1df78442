//! What everything in a run shares: time, chance, the network, the history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_history::event::{Life, SendId, Value};
use tidelog_types::{BrokerId, LeaderEpoch, TopicIdPartition};

use crate::broker::Timer;
use crate::config::Config;
use crate::faults::Relief;
use crate::message::{Address, Message, Site};
use crate::network::{Item, Network};
use crate::random::Random;
use crate::recorder::Recorder;
use crate::schedule::Schedule;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Something arrives at an end of a connection.
    Wire {
        connection: u64,
        side: usize,
        item: Item,
    },
    /// A message without a connection arrives, for one life of a process or for whichever runs.
    Datagram {
        from: Address,
        to: Site,
        life: Option<Life>,
        message: Message,
    },
    /// A dial arrives.
    Dial {
        from: Address,
        to: BrokerId,
        id: u64,
    },
    /// The answer to one does.
    Dialled {
        from: Site,
        to: Address,
        id: u64,
        refused: bool,
    },
    /// A connection may have been stuck for too long.
    Patience {
        connection: u64,
    },
    /// Something that a broker's process planned.
    Broker {
        broker: BrokerId,
        life: Life,
        timer: Timer,
    },
    /// A client's turn.
    Client(u32),
    /// A process that was paused works off some of what came meanwhile.
    CatchUp(BrokerId),
    Fault,
    /// Something that broke is mended.
    Relief(Relief),
}

/// What everything shares.
pub(crate) struct Context {
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) schedule: Schedule<Happening>,
    pub(crate) network: Network,
    pub(crate) history: Recorder,
    pub(crate) config: Config,
    next_id: u64,
    next_value: u64,
    /// The newest leader epoch of an acknowledgement, by partition: what a client that saw all of
    /// them carries.
    acknowledged: BTreeMap<TopicIdPartition, LeaderEpoch>,
    /// Partitions in which nothing was acknowledged since faults were over.
    pub(crate) awaiting: BTreeSet<TopicIdPartition>,
    /// The number that sends begun since then are above.
    pub(crate) healed: u64,
}

impl Context {
    /// At the beginning of time.
    pub(crate) fn new(random: Random, config: Config, history: Recorder) -> Self {
        Self {
            now: Duration::ZERO,
            random,
            schedule: Schedule::new(),
            network: Network::default(),
            history,
            config,
            next_id: 1,
            next_value: 1 << 40,
            acknowledged: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            healed: u64::MAX,
        }
    }

    /// A number that was not given before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The identity of a record that brokers write for themselves.
    pub(crate) fn internal_value(&mut self) -> Value {
        self.next_value += 1;
        Value(self.next_value)
    }

    /// A client was told that a produce is stored.
    pub(crate) fn saw_acknowledgement(
        &mut self,
        partition: TopicIdPartition,
        send: SendId,
        epoch: LeaderEpoch,
    ) {
        let known = self.acknowledged.entry(partition).or_default();
        *known = (*known).max(epoch);
        if send.0 > self.healed {
            self.awaiting.remove(&partition);
        }
    }

    /// The newest leader epoch of an acknowledgement.
    pub(crate) fn acknowledged_epoch(&self, partition: TopicIdPartition) -> Option<LeaderEpoch> {
        self.acknowledged.get(&partition).copied()
    }

    /// Plans something for later.
    pub(crate) fn later(&mut self, after: Duration, what: Happening) {
        self.schedule.plan(self.now + after, what);
    }

    /// Adds an event to the history of the run.
    pub(crate) fn record(&mut self, what: tidelog_history::What) {
        self.history.record(self.now, what);
    }
}
