//! A whole cluster with its clients: machines that run processes, and the loop of events.

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::ClusterImage;
use tidelog_history::event::Life;
use tidelog_history::{Invariant, What};
use tidelog_types::{BrokerId, DirectoryId};

use crate::broker::{Disks, Ended, Process, Timer};
use crate::clients::Clients;
use crate::config::Config;
use crate::context::{Context, Happening};
use crate::disk::Disk;
use crate::faults::{Nemesis, Relief};
use crate::message::{Address, Site};
use crate::network::Heard;
use crate::raft::{LogEntry, MetadataDisk, Payload, node_id};
use crate::random::Random;
use crate::recorder::{Options, Recorder};

/// How many brokers vote on metadata.
pub(crate) const VOTERS: usize = 3;

/// A broker's machine.
pub(crate) struct Host {
    pub(crate) broker: BrokerId,
    pub(crate) process: Option<Process>,
    /// While no process runs.
    disks: Option<Disks>,
    pub(crate) is_paused: bool,
    /// It goes on, and works off what came meanwhile.
    is_catching_up: bool,
    stalled: Vec<Stalled>,
    pub(crate) is_slow: bool,
}

/// What waits for a paused process.
enum Stalled {
    Heard(Heard),
    Timer(Timer),
}

impl Stalled {
    /// Whether one of the two is worked off in the order in which they came: what stands on one
    /// connection, and what was planned.
    fn is_ordered_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Heard(one), Self::Heard(other)) => {
                one.handle().is_some_and(|handle| other.handle() == Some(handle))
            }
            (Self::Timer(_), Self::Timer(_)) => true,
            _ => false,
        }
    }
}

/// The machines of one run, their network and their time.
pub(crate) struct World {
    pub(crate) context: Context,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Clients,
    pub(crate) nemesis: Nemesis,
    lives: u32,
}

impl World {
    /// The world of a seed, at its beginning: a formed cluster that has never done anything.
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let config = Config::draw(&mut random);
        let nemesis = Nemesis::draw(&config, &mut random);
        let mut context = Context::new(random, config, Recorder::new(options));
        let hosts = hosts(&mut context);
        let clients = Clients::start(&mut context);
        let mut world = Self {
            context,
            hosts,
            clients,
            nemesis,
            lives: 0,
        };
        for index in 0..world.hosts.len() {
            world.start(index);
        }
        world
    }

    /// Lets time pass until a moment, or until something is wrong. Says whether all is well.
    pub(crate) fn run_until(&mut self, until: Duration) -> bool {
        while self.context.history.violation.is_none() {
            let Some((at, what)) = self.context.schedule.pop(until) else {
                self.context.now = until;
                return true;
            };
            self.context.now = at;
            self.happen(what);
        }
        false
    }

    /// The host of a broker.
    pub(crate) fn index_of(broker: BrokerId) -> usize {
        broker.get() as usize - 1
    }

    /// The newest image of any process, and who leads the metadata by it.
    pub(crate) fn newest_image(&self) -> Option<Arc<ClusterImage>> {
        let processes = self.hosts.iter().filter_map(|host| host.process.as_ref());
        let newest = processes.max_by_key(|process| process.applied().index)?;
        Some(Arc::clone(&newest.applied().image))
    }

    /// The broker that leads the metadata, in the newest term that any process leads in.
    pub(crate) fn metadata_leader(&self) -> Option<BrokerId> {
        let leading = self.hosts.iter().filter_map(|host| {
            let process = host.process.as_ref()?;
            Some((process.leads_metadata()?, host.broker))
        });
        leading.max().map(|(_, broker)| broker)
    }

    /// Starts the process of a machine, if none runs.
    pub(crate) fn start(&mut self, index: usize) {
        let Some(disks) = self.hosts[index].disks.take() else {
            return;
        };
        self.lives += 1;
        let host = &mut self.hosts[index];
        let mut process = Process::start(host.broker, Life(self.lives), disks, &mut self.context);
        process.is_slow = host.is_slow;
        host.process = Some(process);
    }

    /// Kills the process of a machine.
    pub(crate) fn crash(&mut self, index: usize) {
        if let Some(mut disks) = self.end(index) {
            disks.records.crash(&mut self.context.random);
            disks.metadata.crash(&mut self.context.random);
            self.hosts[index].disks = Some(disks);
        }
    }

    /// Kills the process of a machine, and its disks are gone.
    pub(crate) fn lose_disk(&mut self, index: usize) {
        self.crash(index);
        let host = &mut self.hosts[index];
        let Some(disks) = &mut host.disks else { return };
        let node = node_id(host.broker, disks.records.directory);
        *disks = Disks {
            records: Disk::new(directory(&mut self.context.random)),
            metadata: MetadataDisk::default(),
        };
        let broker = host.broker;
        self.context.record(What::DiskLost { broker, node });
    }

    /// Stops a process where it is.
    pub(crate) fn pause(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.is_paused = host.process.is_some();
        host.is_catching_up = false;
    }

    /// Lets it go on: what came meanwhile is worked off little by little, in an order that only
    /// each connection keeps.
    pub(crate) fn resume(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.is_paused && !host.is_catching_up {
            host.is_catching_up = true;
            let broker = host.broker;
            self.context.later(Duration::ZERO, Happening::CatchUp(broker));
        }
    }

    fn catch_up(&mut self, index: usize) {
        if !self.hosts[index].is_catching_up {
            return;
        }
        for _ in 0..self.context.random.between(1, 6) {
            let count = self.hosts[index].stalled.len() as u64;
            if count == 0 {
                self.hosts[index].is_paused = false;
                self.hosts[index].is_catching_up = false;
                return;
            }
            let any = self.context.random.below(count) as usize;
            let stalled = &mut self.hosts[index].stalled;
            let first = stalled
                .iter()
                .position(|earlier| earlier.is_ordered_with(&stalled[any]));
            match stalled.remove(first.unwrap_or(any)) {
                Stalled::Heard(heard) => self.with(index, |process, context| process.hear(heard, context)),
                Stalled::Timer(timer) => self.with(index, |process, context| process.fire(timer, context)),
            }
        }
        let broker = self.hosts[index].broker;
        let after = self.context.random.micros(10, 300);
        self.context.later(after, Happening::CatchUp(broker));
    }

    /// Tells those who heard something of the network.
    pub(crate) fn tell_all(&mut self, heard: Vec<(Address, Heard)>) {
        for (address, heard) in heard {
            self.tell(address, heard);
        }
    }

    fn end(&mut self, index: usize) -> Option<Disks> {
        let process = self.hosts[index].process.take()?;
        let broker = self.hosts[index].broker;
        self.hosts[index].is_paused = false;
        self.hosts[index].is_catching_up = false;
        self.hosts[index].stalled.clear();
        self.context.die(process.address);
        self.context.record(What::Crashed { broker });
        if self.nemesis.is_healed() {
            let why = format!("broker {broker} goes down after everything is healed");
            self.context.history.fail(Invariant::L31, &why);
        }
        Some(process.into_disks())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wire {
                connection,
                side,
                item,
            } => {
                let hosts = &self.hosts;
                let listener = |site| match site {
                    Site::Broker(broker) => {
                        let process = hosts.get(Self::index_of(broker))?.process.as_ref();
                        process.map(|process| process.address)
                    }
                    Site::Client(_) => None,
                };
                if let Some((address, heard)) = self.context.arrive(connection, side, item, listener) {
                    self.tell(address, heard);
                }
            }
            Happening::Datagram {
                from,
                to,
                life,
                message,
            } => self.datagram(from, to, life, message),
            Happening::Dial { from, to, id } => {
                let site = Site::Broker(to);
                if !self.context.network.is_cut(from.site, site) {
                    let refused = self.hosts[Self::index_of(to)].process.is_none();
                    let at = self.context.now + self.context.delay(site, from.site);
                    let answer = Happening::Dialled {
                        from: site,
                        to: from,
                        id,
                        refused,
                    };
                    self.context.schedule.plan(at, answer);
                }
            }
            Happening::Dialled {
                from,
                to,
                id,
                refused,
            } => {
                if !self.context.network.is_cut(from, to.site) {
                    self.tell(to, Heard::Dialled { id, refused });
                }
            }
            Happening::Patience { connection } => {
                let heard = self.context.lose_patience(connection);
                self.tell_all(heard);
            }
            Happening::Broker { broker, life, timer } => {
                let index = Self::index_of(broker);
                let host = &mut self.hosts[index];
                if host
                    .process
                    .as_ref()
                    .is_none_or(|process| process.address.life != life)
                {
                    return;
                }
                if host.is_paused {
                    host.stalled.push(Stalled::Timer(timer));
                } else {
                    self.with(index, |process, context| process.fire(timer, context));
                }
            }
            Happening::Client(id) => self.clients.tick(id, &mut self.context),
            Happening::CatchUp(broker) => self.catch_up(Self::index_of(broker)),
            Happening::Fault => self.fault(),
            Happening::Relief(relief) => self.relieve(relief),
        }
    }

    fn datagram(&mut self, from: Address, to: Site, life: Option<Life>, message: crate::message::Message) {
        if self.context.network.is_cut(from.site, to) {
            return;
        }
        let address = match to {
            Site::Client(_) => Some(Address {
                site: to,
                life: Life(0),
            }),
            Site::Broker(broker) => {
                let process = self.hosts[Self::index_of(broker)].process.as_ref();
                process.map(|process| process.address)
            }
        };
        let known = address.filter(|address| life.is_none_or(|life| life == address.life));
        if let Some(address) = known {
            self.tell(address, Heard::Datagram(from, message));
        }
    }

    fn tell(&mut self, address: Address, heard: Heard) {
        match address.site {
            Site::Client(id) => self.clients.hear(id, heard, &mut self.context),
            Site::Broker(broker) => {
                let index = Self::index_of(broker);
                let host = &mut self.hosts[index];
                if host
                    .process
                    .as_ref()
                    .is_none_or(|process| process.address != address)
                {
                    return;
                }
                if host.is_paused {
                    host.stalled.push(Stalled::Heard(heard));
                } else {
                    self.with(index, |process, context| process.hear(heard, context));
                }
            }
        }
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Process, &mut Context)) {
        let Some(process) = &mut self.hosts[index].process else {
            return;
        };
        act(process, &mut self.context);
        match process.ended {
            None => return,
            Some(Ended::DiskFailed) => self.crash(index),
            Some(Ended::Stopped) => {
                self.hosts[index].disks = self.end(index);
            }
        }
        let broker = self.hosts[index].broker;
        let after = if self.nemesis.is_over() {
            Duration::ZERO
        } else {
            self.context.random.millis(100, 4000)
        };
        self.context
            .later(after, Happening::Relief(Relief::Restart(broker)));
    }
}

fn hosts(context: &mut Context) -> Vec<Host> {
    let directories: Vec<_> = context
        .config
        .broker_ids()
        .map(|broker| (broker, directory(&mut context.random)))
        .collect();
    let voters = directories.iter().take(VOTERS);
    let voters = voters
        .map(|(broker, directory)| node_id(*broker, *directory))
        .collect();
    let first = Arc::new(LogEntry {
        term: 0,
        payload: Payload::Membership(vec![voters]),
    });
    let host = |(number, (broker, directory)): (usize, (BrokerId, DirectoryId))| Host {
        broker,
        process: None,
        disks: Some(Disks {
            records: Disk::new(directory),
            metadata: if number < VOTERS {
                MetadataDisk::formed(vec![Arc::clone(&first)])
            } else {
                MetadataDisk::default()
            },
        }),
        is_paused: false,
        is_catching_up: false,
        stalled: Vec::new(),
        is_slow: false,
    };
    directories.into_iter().enumerate().map(host).collect()
}

fn directory(random: &mut Random) -> DirectoryId {
    let bytes = (u128::from(random.next()) << 64) | u128::from(random.next());
    DirectoryId::from_slice(&bytes.to_be_bytes()).expect("sixteen bytes")
}
