//! The network: connections that keep order, datagrams that do not, cuts, and what breaks by them.
//!
//! What is sent over a cut path is held back, as a transport that sends again would: it arrives
//! when the path heals, unless an end has lost patience with the connection before that. A process
//! that dies closes its connections, after what it had sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidelog_types::BrokerId;

use crate::context::{Context, Happening};
use crate::message::{Address, Lane, Message, Site};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handle {
    connection: u64,
    side: usize,
}

/// What travels on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Open,
    Accept,
    Message(Message),
    Close,
}

/// What a process or a client hears of the network.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// Somebody opened a connection to this process.
    Accepted {
        handle: Handle,
        from: Address,
        lane: Lane,
    },
    /// A connection that this one opened is open.
    Opened(Handle),
    /// A message on a connection.
    Said(Handle, Message),
    /// A connection is gone, or never came about.
    Closed(Handle),
    /// A message without a connection.
    Datagram(Address, Message),
    /// A dial came to its end: whether something listens.
    Dialled { id: u64, refused: bool },
}

impl Heard {
    /// The connection that it belongs to.
    pub(crate) fn handle(&self) -> Option<Handle> {
        match self {
            Self::Accepted { handle, .. }
            | Self::Opened(handle)
            | Self::Said(handle, _)
            | Self::Closed(handle) => Some(*handle),
            Self::Datagram(..) | Self::Dialled { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Connection {
    lane: Lane,
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    address: Address,
    is_open: bool,
    /// Nothing that was sent later arrives before then.
    clear_at: Duration,
    /// What waits for the path to this end to heal.
    held: VecDeque<Item>,
}

/// All connections, and which paths are cut.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<u64, Connection>,
    cut: BTreeSet<(Site, Site)>,
    next: u64,
}

/// Whether somebody listens at a broker's address, and who.
pub(crate) type Listener = Option<Address>;

impl Network {
    /// Whether nothing gets from one site to the other.
    pub(crate) fn is_cut(&self, from: Site, to: Site) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts one direction.
    pub(crate) fn cut(&mut self, from: Site, to: Site) {
        self.cut.insert((from, to));
    }

    fn path(&self, connection: &Connection, side: usize) -> bool {
        let [from, to] = [1 - side, side].map(|side| connection.ends[side].address.site);
        !self.is_cut(from, to)
    }
}

impl Context {
    /// How long a message takes.
    pub(crate) fn delay(&mut self, from: Site, to: Site) -> Duration {
        let random = &mut self.random;
        if from == to {
            return random.micros(5, 40);
        }
        match random.below(1000) {
            0..965 => random.micros(100, 900),
            965..995 => random.millis(2, 30),
            _ => random.millis(50, 700),
        }
    }

    /// Opens a connection to a broker. The end of it says `Opened` or `Closed`, or nothing at all.
    pub(crate) fn open(&mut self, from: Address, to: BrokerId, lane: Lane) -> Handle {
        let connection = self.network.next;
        self.network.next += 1;
        let end = |address| End {
            address,
            is_open: true,
            clear_at: Duration::ZERO,
            held: VecDeque::new(),
        };
        let there = Address {
            site: Site::Broker(to),
            life: from.life,
        };
        let ends = [end(from), end(there)];
        self.network
            .connections
            .insert(connection, Connection { lane, ends });
        self.put(connection, 1, Item::Open);
        Handle { connection, side: 0 }
    }

    /// Says something on a connection; into the void if that is gone.
    pub(crate) fn say(&mut self, handle: Handle, message: Message) {
        self.put(handle.connection, 1 - handle.side, Item::Message(message));
    }

    /// Closes this end of a connection.
    pub(crate) fn close(&mut self, handle: Handle) {
        if let Some(connection) = self.network.connections.get_mut(&handle.connection) {
            connection.ends[handle.side].is_open = false;
            self.put(handle.connection, 1 - handle.side, Item::Close);
        }
    }

    /// Sends a message without a connection: it may be lost.
    pub(crate) fn send(
        &mut self,
        from: Address,
        to: Site,
        life: Option<tidelog_history::event::Life>,
        message: Message,
    ) {
        let at = self.now + self.delay(from.site, to);
        self.schedule.plan(
            at,
            Happening::Datagram {
                from,
                to,
                life,
                message,
            },
        );
    }

    /// Looks whether something listens at a broker's address.
    pub(crate) fn dial(&mut self, from: Address, to: BrokerId, id: u64) {
        let at = self.now + self.delay(from.site, Site::Broker(to));
        self.schedule.plan(at, Happening::Dial { from, to, id });
    }

    fn put(&mut self, id: u64, side: usize, item: Item) {
        let Some(connection) = self.network.connections.get(&id) else {
            return;
        };
        let [from, to] = [1 - side, side].map(|side| connection.ends[side].address.site);
        let at = self.now + self.delay(from, to);
        if let Some(connection) = self.network.connections.get_mut(&id) {
            let end = &mut connection.ends[side];
            end.clear_at = end.clear_at.max(at);
            let at = end.clear_at;
            self.schedule.plan(
                at,
                Happening::Wire {
                    connection: id,
                    side,
                    item,
                },
            );
        }
    }

    /// Something arrives at an end of a connection: says who hears what.
    pub(crate) fn arrive(
        &mut self,
        id: u64,
        side: usize,
        item: Item,
        listener: impl Fn(Site) -> Listener,
    ) -> Option<(Address, Heard)> {
        let connection = self.network.connections.get(&id)?;
        if !self.network.path(connection, side) || !connection.ends[side].held.is_empty() {
            let patience = self.random.millis(1500, 8000);
            let connection = self.network.connections.get_mut(&id)?;
            connection.ends[side].held.push_back(item);
            let at = self.now + patience;
            self.schedule.plan(at, Happening::Patience { connection: id });
            return None;
        }
        self.deliver(id, side, item, listener)
    }

    fn deliver(
        &mut self,
        id: u64,
        side: usize,
        item: Item,
        listener: impl Fn(Site) -> Listener,
    ) -> Option<(Address, Heard)> {
        let handle = Handle { connection: id, side };
        let connection = self.network.connections.get_mut(&id)?;
        let end = &mut connection.ends[side];
        match item {
            Item::Open => match listener(end.address.site) {
                Some(address) => {
                    end.address = address;
                    let (from, lane) = (connection.ends[1 - side].address, connection.lane);
                    self.put(id, 1 - side, Item::Accept);
                    Some((address, Heard::Accepted { handle, from, lane }))
                }
                None => {
                    end.is_open = false;
                    self.put(id, 1 - side, Item::Close);
                    None
                }
            },
            Item::Accept => end.is_open.then_some((end.address, Heard::Opened(handle))),
            Item::Message(message) => end.is_open.then_some((end.address, Heard::Said(handle, message))),
            Item::Close => {
                let connection = self.network.connections.remove(&id)?;
                let end = &connection.ends[side];
                end.is_open.then_some((end.address, Heard::Closed(handle)))
            }
        }
    }

    /// A process is gone: its connections close.
    pub(crate) fn die(&mut self, address: Address) {
        let ends: Vec<_> = self
            .network
            .connections
            .iter()
            .flat_map(|(id, connection)| [(*id, 0, connection), (*id, 1, connection)])
            .filter(|(_, side, connection)| {
                connection.ends[*side].address == address && connection.ends[*side].is_open
            })
            .map(|(connection, side, _)| Handle { connection, side })
            .collect();
        for handle in ends {
            self.close(handle);
        }
    }

    /// Whoever waits at a connection that got stuck may lose patience: says who then hears of its
    /// end.
    pub(crate) fn lose_patience(&mut self, id: u64) -> Vec<(Address, Heard)> {
        let stuck = self
            .network
            .connections
            .get(&id)
            .is_some_and(|connection| connection.ends.iter().any(|end| !end.held.is_empty()));
        if stuck { self.sever(id) } else { Vec::new() }
    }

    /// Breaks every connection between two sites; what is on its way is lost.
    pub(crate) fn sever_between(&mut self, one: Site, other: Site) -> Vec<(Address, Heard)> {
        let between = |connection: &Connection| {
            let sites = connection.ends.each_ref().map(|end| end.address.site);
            sites == [one, other] || sites == [other, one]
        };
        let ids: Vec<_> = self
            .network
            .connections
            .iter()
            .filter(|(_, connection)| between(connection))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().flat_map(|id| self.sever(id)).collect()
    }

    fn sever(&mut self, id: u64) -> Vec<(Address, Heard)> {
        let Some(connection) = self.network.connections.remove(&id) else {
            return Vec::new();
        };
        let ends = connection.ends.into_iter().enumerate();
        ends.filter(|(_, end)| end.is_open)
            .map(|(side, end)| (end.address, Heard::Closed(Handle { connection: id, side })))
            .collect()
    }

    /// Heals one direction, or all: what was held back arrives.
    pub(crate) fn heal(&mut self, path: Option<(Site, Site)>) {
        match path {
            Some(path) => {
                self.network.cut.remove(&path);
            }
            None => self.network.cut.clear(),
        }
        let mut released = Vec::new();
        for (id, connection) in &mut self.network.connections {
            for side in 0..2 {
                let [from, to] = [1 - side, side].map(|side| connection.ends[side].address.site);
                if !self.network.cut.contains(&(from, to)) {
                    let held = std::mem::take(&mut connection.ends[side].held);
                    released.extend(held.into_iter().map(|item| (*id, side, item)));
                }
            }
        }
        for (id, side, item) in released {
            self.put(id, side, item);
        }
    }
}
