//! The clients of a run, each a machine of its own.

mod asker;
mod keeper;
mod leaders;
mod member;
mod producer;
mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidelog_history::What;
use tidelog_history::event::{Life, Sender};
use tidelog_types::{Offset, TopicIdPartition};

use crate::context::{Context, Happening};
use crate::message::{Address, Site};
use crate::network::Heard;

use asker::Asker;
use keeper::Keeper;
use member::Member;
use producer::Producer;
use reader::Reader;

/// The clients of one run.
#[derive(Default)]
pub(crate) struct Clients {
    slots: Vec<Slot>,
    visitor: Option<u32>,
    auditor: Option<u32>,
}

struct Slot {
    client: Client,
    /// It does nothing until then.
    paused_until: Option<Duration>,
    stash: VecDeque<Heard>,
}

enum Client {
    Producer(Producer),
    Reader(Reader),
    Asker(Asker),
    Member(Member),
    Keeper(Keeper),
}

impl Clients {
    /// Those that a run begins with.
    pub(crate) fn start(context: &mut Context) -> Self {
        let mut clients = Self::default();
        let config = context.config.clone();
        for number in 0..config.idempotent_producers + config.plain_producers {
            let is_idempotent = number < config.idempotent_producers;
            let producer = Producer::new(clients.next(), Sender(number), is_idempotent, context);
            clients.add(Client::Producer(producer), context);
        }
        for _ in 0..config.readers {
            let reader = Reader::new(clients.next(), context);
            clients.add(Client::Reader(reader), context);
        }
        let asker = Asker::new(clients.next(), context);
        clients.add(Client::Asker(asker), context);
        for number in 0..config.members {
            let member = Member::new(clients.next(), number);
            clients.add(Client::Member(member), context);
        }
        let keeper = Keeper::new(clients.next());
        clients.add(Client::Keeper(keeper), context);
        clients
    }

    /// The sites of all clients.
    pub(crate) fn sites(&self) -> Vec<Site> {
        (0..self.slots.len() as u32).map(Site::Client).collect()
    }

    /// Members, by number.
    pub(crate) fn members(&self) -> Vec<u32> {
        let numbered = self.slots.iter().zip(0..);
        numbered
            .filter(|(slot, _)| matches!(slot.client, Client::Member(_)))
            .map(|(_, id)| id)
            .collect()
    }

    /// A client's turn.
    pub(crate) fn tick(&mut self, id: u32, context: &mut Context) {
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return;
        };
        let after = context.random.millis(5, 40);
        context.later(after, Happening::Client(id));
        if slot.paused_until.is_some_and(|until| until > context.now) {
            return;
        }
        if slot.paused_until.take().is_some() {
            if let Client::Member(member) = &mut slot.client {
                member.wake();
                member.tick(context);
            }
            for heard in std::mem::take(&mut slot.stash) {
                slot.client.hear(heard, context);
            }
        }
        match &mut slot.client {
            Client::Producer(producer) => producer.tick(context),
            Client::Reader(reader) => reader.tick(context),
            Client::Asker(asker) => asker.tick(context),
            Client::Member(member) => member.tick(context),
            Client::Keeper(keeper) => keeper.tick(context),
        }
    }

    /// A client hears something.
    pub(crate) fn hear(&mut self, id: u32, heard: Heard, context: &mut Context) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            if slot.paused_until.is_some() {
                slot.stash.push_back(heard);
            } else {
                slot.client.hear(heard, context);
            }
        }
    }

    /// A client does nothing for a while.
    pub(crate) fn pause(&mut self, id: u32, until: Duration) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.paused_until = Some(until);
        }
    }

    /// Producers send much to one partition for a while.
    pub(crate) fn hurry(&mut self, partition: TopicIdPartition, until: Duration) {
        for slot in &mut self.slots {
            if let Client::Producer(producer) = &mut slot.client {
                producer.hurry(partition, until);
            }
        }
    }

    /// Faults are over: nobody is paused, members stay.
    pub(crate) fn calm(&mut self, context: &Context) {
        for slot in &mut self.slots {
            if slot.paused_until.is_some() {
                slot.paused_until = Some(context.now);
            }
            if let Client::Member(member) = &mut slot.client {
                member.is_calm = true;
            }
        }
    }

    /// No more is sent.
    pub(crate) fn stop_sending(&mut self) {
        for slot in &mut self.slots {
            match &mut slot.client {
                Client::Producer(producer) => producer.is_stopping = true,
                Client::Asker(asker) => asker.is_stopping = true,
                Client::Reader(_) | Client::Member(_) | Client::Keeper(_) => {}
            }
        }
    }

    /// Whether everything that was sent came to its end.
    pub(crate) fn are_done_sending(&self) -> bool {
        self.slots.iter().all(|slot| match &slot.client {
            Client::Producer(producer) => producer.is_idle(),
            Client::Reader(_) | Client::Asker(_) | Client::Member(_) | Client::Keeper(_) => true,
        })
    }

    /// Begins to read something in every partition.
    pub(crate) fn visit(&mut self, context: &mut Context) {
        let reader = Reader::visiting(self.next(), context);
        self.visitor = Some(self.slots.len() as u32);
        self.add(Client::Reader(reader), context);
    }

    /// Whether something was read in every partition since.
    pub(crate) fn have_visited(&self) -> bool {
        self.reader(self.visitor).is_some_and(Reader::has_visited)
    }

    /// Begins to read everything to its end.
    pub(crate) fn audit(&mut self, context: &mut Context) {
        let reader = Reader::auditing(self.next(), context);
        self.auditor = Some(self.slots.len() as u32);
        self.add(Client::Reader(reader), context);
    }

    /// Where every partition ends, once everything is read.
    pub(crate) fn audited(&self) -> Option<BTreeMap<TopicIdPartition, Offset>> {
        let reader = self.reader(self.auditor)?;
        let audit = reader.audit.as_ref().filter(|audit| audit.is_done)?;
        Some(audit.ends.clone())
    }

    /// Whether the group has been handed everything below these ends; if so, it is written down.
    pub(crate) fn are_settled(
        &self,
        ends: &BTreeMap<TopicIdPartition, Offset>,
        context: &mut Context,
    ) -> bool {
        let mut positions = BTreeMap::new();
        for slot in &self.slots {
            if let Client::Member(member) = &slot.client {
                positions.extend(member.positions());
            }
        }
        let is_settled = ends.iter().all(|(id, end)| {
            let position = positions.get(id).copied().flatten();
            position.is_some_and(|position| position >= *end)
        });
        if is_settled {
            context.record(What::GroupSettled {
                group: Member::group(),
                partitions: ends.keys().copied().collect(),
            });
        }
        is_settled
    }

    fn reader(&self, id: Option<u32>) -> Option<&Reader> {
        match &self.slots.get(id? as usize)?.client {
            Client::Reader(reader) => Some(reader),
            Client::Producer(_) | Client::Asker(_) | Client::Member(_) | Client::Keeper(_) => None,
        }
    }

    fn next(&self) -> Address {
        Address {
            site: Site::Client(self.slots.len() as u32),
            life: Life(0),
        }
    }

    fn add(&mut self, client: Client, context: &mut Context) {
        let id = self.slots.len() as u32;
        self.slots.push(Slot {
            client,
            paused_until: None,
            stash: VecDeque::new(),
        });
        let after = context.random.millis(1, 50);
        context.later(after, Happening::Client(id));
    }
}

impl Client {
    fn hear(&mut self, heard: Heard, context: &mut Context) {
        match self {
            Self::Producer(producer) => producer.hear(heard, context),
            Self::Reader(reader) => reader.hear(heard, context),
            Self::Asker(asker) => asker.hear(heard, context),
            Self::Member(member) => member.hear(heard, context),
            Self::Keeper(keeper) => keeper.hear(heard, context),
        }
    }
}
