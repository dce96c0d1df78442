//! What breaks, how often, and for how long; never more at once than the promises cover.
//!
//! Every run has its own weights, and some kinds of faults do not occur in it at all: what two
//! kinds hide together, one of them alone may show. One disk may be lost at a time, and no other
//! before its broker is back in every ISR and its node votes, if it did.
//!
//! What would break nothing, a crash of a broker that is down, is no fault and is not counted as
//! one. Healing ends all of it: what was planned is called off, and what is under way has come to
//! its end before the cluster is said to be whole.

use std::time::Duration;

use tidelog_history::Invariant;
use tidelog_types::{BrokerId, TopicIdPartition};

use crate::broker::Process;
use crate::config::Config;
use crate::context::Happening;
use crate::message::Site;
use crate::random::Random;
use crate::world::{VOTERS, World};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crash,
    CrashBriefly,
    CrashLeader,
    CrashMetadataLeader,
    PowerLoss,
    Pause,
    PauseLeader,
    Isolate,
    Cut,
    CutOneWay,
    Sever,
    CutClient,
    DiskLoss,
    SlowDisk,
    FailSync,
    Stop,
    StallMember,
    Rolling,
    Alter,
    Hop,
}

/// Every kind, with its weight.
const KINDS: [(Kind, u64); 20] = [
    (Kind::Crash, 10),
    (Kind::CrashBriefly, 8),
    (Kind::CrashLeader, 12),
    (Kind::CrashMetadataLeader, 5),
    (Kind::PowerLoss, 5),
    (Kind::Pause, 7),
    (Kind::PauseLeader, 7),
    (Kind::Isolate, 8),
    (Kind::Cut, 8),
    (Kind::CutOneWay, 8),
    (Kind::Sever, 8),
    (Kind::CutClient, 3),
    (Kind::DiskLoss, 9),
    (Kind::SlowDisk, 6),
    (Kind::FailSync, 4),
    (Kind::Stop, 6),
    (Kind::StallMember, 14),
    (Kind::Rolling, 5),
    (Kind::Alter, 8),
    (Kind::Hop, 16),
];

/// How long what is under way may take to come to its end once everything is mended: by far longer
/// than an orderly stop.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Something that broke is mended.
#[derive(Debug)]
pub(crate) enum Relief {
    Restart(BrokerId),
    Resume(BrokerId),
    Heal(Vec<(Site, Site)>),
    FastDisk(BrokerId),
    Crash(BrokerId),
    /// Not mended but broken further, as a fault in several steps goes on.
    Pause(BrokerId, Duration),
    /// Leaderships go back to the preferred leaders.
    Balance,
}

impl Relief {
    /// Whether it is a step of a fault, and no end of one.
    fn breaks(&self) -> bool {
        matches!(self, Self::Crash(_) | Self::Pause(..) | Self::Balance)
    }
}

/// Breaks machines, disks and the network, and mends them.
#[derive(Debug)]
pub(crate) struct Nemesis {
    kinds: Vec<(Kind, u64)>,
    left: u32,
    /// Nothing breaks any more.
    is_over: bool,
    /// Nor is anything broken.
    is_healed: bool,
    /// Whose disk was lost, until everything is back on the new one.
    lost: Option<BrokerId>,
}

impl Nemesis {
    /// The one of a run.
    pub(crate) fn draw(config: &Config, random: &mut Random) -> Self {
        let is_possible = |kind: Kind| kind != Kind::DiskLoss || config.survives_disk_loss;
        let mut kinds = Vec::new();
        for (kind, weight) in KINDS {
            if is_possible(kind) && !random.per_mille(250) {
                kinds.push((kind, weight * random.between(1, 4)));
            }
        }
        if kinds.is_empty() {
            kinds.push((Kind::Crash, 1));
        }
        Self {
            kinds,
            left: config.faults,
            is_over: false,
            is_healed: false,
            lost: None,
        }
    }

    /// Whether faults are over, and brokers that come to an end start again at once.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether every broker is up, and none goes down any more.
    pub(crate) fn is_healed(&self) -> bool {
        self.is_healed
    }

    fn pick(&self, random: &mut Random) -> Kind {
        let total = self.kinds.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(total);
        for (kind, weight) in &self.kinds {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Crash
    }
}

impl World {
    /// The first fault, and from it the others.
    pub(crate) fn begin_faults(&mut self) {
        self.next_fault();
    }

    fn next_fault(&mut self) {
        let config = &self.context.config;
        let mean = config.faulty.as_micros() as u64 / u64::from(config.faults);
        let after = match self.context.random.below(4) {
            // Now and then one upon the other.
            0 => self.context.random.micros(0, mean / 6),
            _ => self.context.random.micros(mean / 3, mean * 2),
        };
        self.context.later(after, Happening::Fault);
    }

    /// Whether every fault has happened.
    pub(crate) fn is_through(&self) -> bool {
        self.nemesis.left == 0
    }

    /// Inflicts a fault that is drawn now, and plans the next.
    pub(crate) fn fault(&mut self) {
        if self.nemesis.left == 0 {
            return;
        }
        self.note_recovered_disk();
        let kind = self.nemesis.pick(&mut self.context.random);
        if self.inflict(kind) {
            self.nemesis.left -= 1;
            self.context.history.seen.faults += 1;
        }
        if self.nemesis.left > 0 {
            self.next_fault();
        }
    }

    /// Something is mended.
    pub(crate) fn relieve(&mut self, relief: Relief) {
        if self.nemesis.is_over && relief.breaks() {
            return;
        }
        match relief {
            Relief::Restart(broker) => self.start(Self::index_of(broker)),
            Relief::Resume(broker) => self.resume(Self::index_of(broker)),
            Relief::Crash(broker) => {
                self.crash(Self::index_of(broker));
                self.restart_later(broker, 50, 1500);
            }
            Relief::Pause(broker, time) => {
                self.pause(Self::index_of(broker));
                self.context
                    .later(time, Happening::Relief(Relief::Resume(broker)));
            }
            Relief::Balance => {
                let leader = self.metadata_leader().or_else(|| self.some_broker());
                let process = leader.and_then(|leader| self.hosts[Self::index_of(leader)].process.as_mut());
                if let Some(process) = process {
                    process.elect_preferred(&mut self.context);
                }
            }
            Relief::Heal(paths) => {
                for path in paths {
                    self.context.heal(Some(path));
                }
            }
            Relief::FastDisk(broker) => {
                let host = &mut self.hosts[Self::index_of(broker)];
                host.is_slow = false;
                if let Some(process) = &mut host.process {
                    process.is_slow = false;
                }
            }
        }
    }

    /// Everything is mended and stays so: what was planned is called off, and what is under way
    /// comes to its end.
    pub(crate) fn heal_everything(&mut self) {
        self.nemesis.is_over = true;
        self.nemesis.left = 0;
        self.context.heal(None);
        for index in 0..self.hosts.len() {
            let broker = self.hosts[index].broker;
            self.relieve(Relief::FastDisk(broker));
            if let Some(process) = &mut self.hosts[index].process {
                process.fails_next_sync = false;
            }
            self.resume(index);
            self.start(index);
        }
        self.clients.calm(&self.context);
        let until = self.context.now + WHOLE_WITHIN;
        while !self.is_whole() && self.context.now < until {
            let next = self.context.now + LOOK;
            if !self.run_until(next) {
                return;
            }
        }
        if self.is_whole() {
            self.nemesis.is_healed = true;
        } else {
            let why = "a broker that was stopped, or paused, does not come back";
            self.context.history.fail(Invariant::L31, why);
        }
    }

    /// Whether every broker runs, and none is paused or about to stop.
    fn is_whole(&self) -> bool {
        self.hosts.iter().all(|host| {
            let stays = |process: &Process| !process.is_stopping();
            !host.is_paused && host.process.as_ref().is_some_and(stays)
        })
    }

    fn inflict(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Crash => self.crash_some(500, 8000),
            Kind::CrashBriefly => self.crash_some(10, 400),
            Kind::CrashLeader => {
                let leader = self.some_leader();
                self.crash_one(leader, 10, 6000)
            }
            Kind::CrashMetadataLeader => self.crash_one(self.metadata_leader(), 10, 5000),
            Kind::PowerLoss => self.lose_power(),
            Kind::Pause => {
                let broker = self.some_broker();
                self.pause_one(broker)
            }
            Kind::PauseLeader => {
                let leader = self.some_leader();
                self.pause_one(leader)
            }
            Kind::Isolate => self.isolate(),
            Kind::Cut => self.cut(true),
            Kind::CutOneWay => self.cut(false),
            Kind::Sever => self.sever(),
            Kind::CutClient => self.cut_client(),
            Kind::DiskLoss => self.lose_some_disk(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::FailSync => self.fail_sync(),
            Kind::Stop => self.stop_some(),
            Kind::StallMember => self.stall_member(),
            Kind::Rolling => self.roll(),
            Kind::Alter => self.alter(),
            Kind::Hop => self.hop(),
        }
    }

    fn some_broker(&mut self) -> Option<BrokerId> {
        let running = self.hosts.iter().filter(|host| host.process.is_some());
        let brokers: Vec<_> = running.map(|host| host.broker).collect();
        self.context.random.pick(&brokers)
    }

    fn some_leader(&mut self) -> Option<BrokerId> {
        let image = self.newest_image()?;
        let leaders: Vec<_> = image
            .topics()
            .flat_map(|topic| topic.partitions.iter().filter_map(|known| known.leader))
            .collect();
        self.context.random.pick(&leaders)
    }

    fn restart_later(&mut self, broker: BrokerId, low: u64, high: u64) {
        let after = self.context.random.millis(low, high);
        self.context
            .later(after, Happening::Relief(Relief::Restart(broker)));
    }

    fn crash_some(&mut self, low: u64, high: u64) -> bool {
        let broker = self.some_broker();
        self.crash_one(broker, low, high)
    }

    fn crash_one(&mut self, broker: Option<BrokerId>, low: u64, high: u64) -> bool {
        let Some(broker) = broker.filter(|broker| self.is_up(*broker)) else {
            return false;
        };
        self.crash(Self::index_of(broker));
        self.restart_later(broker, low, high);
        true
    }

    fn is_up(&self, broker: BrokerId) -> bool {
        self.hosts[Self::index_of(broker)].process.is_some()
    }

    fn lose_power(&mut self) -> bool {
        let apart = self.context.random.per_mille(500);
        let brokers = self.context.config.broker_ids();
        let up: Vec<_> = brokers.filter(|broker| self.is_up(*broker)).collect();
        for broker in &up {
            self.crash(Self::index_of(*broker));
            let high = if apart { 5000 } else { 500 };
            self.restart_later(*broker, 50, high);
        }
        !up.is_empty()
    }

    /// One after the other.
    fn roll(&mut self) -> bool {
        let mut after = Duration::ZERO;
        for broker in self.context.config.broker_ids() {
            after += self.context.random.millis(50, 2500);
            self.context
                .later(after, Happening::Relief(Relief::Crash(broker)));
        }
        true
    }

    fn pause_one(&mut self, broker: Option<BrokerId>) -> bool {
        let runs = |broker: &BrokerId| {
            let host = &self.hosts[Self::index_of(*broker)];
            host.process.is_some() && !host.is_paused
        };
        let Some(broker) = broker.filter(runs) else {
            return false;
        };
        self.pause(Self::index_of(broker));
        let after = match self.context.random.below(3) {
            0 => self.context.random.millis(20, 600),
            _ => self.context.random.millis(600, 9000),
        };
        self.context
            .later(after, Happening::Relief(Relief::Resume(broker)));
        true
    }

    fn cut_paths(&mut self, paths: Vec<(Site, Site)>) {
        for (from, to) in &paths {
            self.context.network.cut(*from, *to);
        }
        let after = self.context.random.millis(200, 9000);
        self.context.later(after, Happening::Relief(Relief::Heal(paths)));
    }

    fn isolate(&mut self) -> bool {
        let broker = match self.context.random.below(3) {
            0 => self.some_broker(),
            1 => self.some_leader(),
            _ => self.metadata_leader(),
        };
        let Some(broker) = broker else { return false };
        let site = Site::Broker(broker);
        let mut others: Vec<_> = self
            .context
            .config
            .broker_ids()
            .filter(|other| *other != broker)
            .map(Site::Broker)
            .collect();
        if self.context.random.per_mille(400) {
            others.extend(self.clients.sites());
        }
        let one_way = self.context.random.below(5);
        let mut paths = Vec::new();
        for other in others {
            if one_way != 0 {
                paths.push((site, other));
            }
            if one_way != 1 {
                paths.push((other, site));
            }
        }
        self.cut_paths(paths);
        true
    }

    fn two_brokers(&mut self) -> (Site, Site) {
        let count = u64::from(self.context.config.brokers);
        let one = self.context.random.below(count);
        let other = (one + 1 + self.context.random.below(count - 1)) % count;
        let site = |number: u64| Site::Broker(self.hosts[number as usize].broker);
        (site(one), site(other))
    }

    fn cut(&mut self, both_ways: bool) -> bool {
        let (one, other) = self.two_brokers();
        let mut paths = vec![(one, other)];
        if both_ways {
            paths.push((other, one));
        }
        self.cut_paths(paths);
        true
    }

    fn cut_client(&mut self) -> bool {
        let clients = self.clients.sites();
        let (Some(client), Some(broker)) = (self.context.random.pick(&clients), self.some_broker()) else {
            return false;
        };
        let broker = Site::Broker(broker);
        self.cut_paths(vec![(client, broker), (broker, client)]);
        true
    }

    fn sever(&mut self) -> bool {
        let (one, other) = self.two_brokers();
        let clients = self.clients.sites();
        let heard = if self.context.random.per_mille(400) {
            self.context
                .random
                .pick(&clients)
                .map(|client| self.context.sever_between(one, client))
        } else {
            Some(self.context.sever_between(one, other))
        };
        let heard = heard.unwrap_or_default();
        let is_severed = !heard.is_empty();
        self.tell_all(heard);
        is_severed
    }

    fn lose_some_disk(&mut self) -> bool {
        if self.nemesis.lost.is_some() || !self.has_topics() {
            return false;
        }
        let brokers: Vec<_> = self.context.config.broker_ids().collect();
        let Some(broker) = self.context.random.pick(&brokers) else {
            return false;
        };
        self.nemesis.lost = Some(broker);
        self.lose_disk(Self::index_of(broker));
        self.restart_later(broker, 10, 3000);
        true
    }

    fn has_topics(&self) -> bool {
        let count = self.context.config.topics.len() + 1;
        self.newest_image()
            .is_some_and(|image| image.topics().len() == count)
    }

    fn note_recovered_disk(&mut self) {
        let Some(broker) = self.nemesis.lost else { return };
        let (Some(image), Some(leader)) = (self.newest_image(), self.metadata_leader()) else {
            return;
        };
        let is_in_sync = image
            .topics()
            .flat_map(|topic| &topic.partitions)
            .all(|known| !known.replicas.contains(&broker) || known.isr.contains(&broker));
        let Some(process) = &self.hosts[Self::index_of(broker)].process else {
            return;
        };
        let votes = broker.get() as usize > VOTERS
            || self.hosts[Self::index_of(leader)]
                .process
                .as_ref()
                .is_some_and(|leader| leader.has_settled_voter(process.node()));
        let known = image.broker(broker).map(|known| known.directory);
        if is_in_sync && votes && known == Some(process.directory()) {
            self.nemesis.lost = None;
        }
    }

    fn slow_disk(&mut self) -> bool {
        let Some(broker) = self.some_broker() else {
            return false;
        };
        let host = &mut self.hosts[Self::index_of(broker)];
        if host.is_slow {
            return false;
        }
        host.is_slow = true;
        if let Some(process) = &mut host.process {
            process.is_slow = true;
        }
        let after = self.context.random.millis(1000, 9000);
        self.context
            .later(after, Happening::Relief(Relief::FastDisk(broker)));
        true
    }

    fn fail_sync(&mut self) -> bool {
        let broker = self.some_broker();
        let process = broker.and_then(|broker| self.hosts[Self::index_of(broker)].process.as_mut());
        let process = process.filter(|process| !process.fails_next_sync);
        process.map(|process| process.fails_next_sync = true).is_some()
    }

    fn stop_some(&mut self) -> bool {
        let Some(broker) = self.some_broker() else {
            return false;
        };
        let host = &mut self.hosts[Self::index_of(broker)];
        match &mut host.process {
            Some(process) if !host.is_paused && !process.is_stopping() => process.stop(&mut self.context),
            _ => return false,
        }
        true
    }

    fn stall_member(&mut self) -> bool {
        let members = self.clients.members();
        let Some(member) = self.context.random.pick(&members) else {
            return false;
        };
        let session = self.context.config.group_session.as_millis() as u64;
        let until = self.context.now + self.context.random.millis(session / 4, session * 2);
        self.clients.pause(member, until);
        true
    }

    /// A leadership hops away from a leader that does not see it, to a replica that lacks its
    /// newest records, and back when that one dies: what a third replica had said to the leader
    /// before is heard only then.
    fn hop(&mut self) -> bool {
        let Some(image) = self.newest_image() else {
            return false;
        };
        let metadata_leader = self.metadata_leader();
        let partitions = image.topics().filter(|topic| !topic.name.is_internal());
        let hops: Vec<_> = partitions
            .flat_map(|topic| topic.iter())
            .filter_map(|(id, known)| match (known.replicas.as_slice(), known.leader) {
                ([preferred, second, _], Some(leader)) if leader == *second && known.isr.len() == 3 => {
                    Some((id, *preferred, leader))
                }
                _ => None,
            })
            .collect();
        let Some((id, preferred, leader)) = self.context.random.pick(&hops) else {
            return false;
        };
        if [Some(preferred), Some(leader)].contains(&metadata_leader) {
            return false;
        }
        let (from, to) = (Site::Broker(leader), Site::Broker(preferred));
        self.context.network.cut(from, to);
        let until = self.context.now + Duration::from_millis(400);
        self.clients.hurry(id, until);
        let random = &mut self.context.random;
        let pause_at = random.millis(50, 300);
        let pause = random.millis(400, 1300);
        let balance_at = pause_at + random.millis(2, 60);
        let crash_at = balance_at + random.millis(25, 200);
        let heal_at = crash_at + random.millis(1, 2000);
        let steps = [
            (pause_at, Relief::Pause(leader, pause)),
            (balance_at, Relief::Balance),
            (crash_at, Relief::Crash(preferred)),
            (heal_at, Relief::Heal(vec![(from, to)])),
        ];
        for (after, step) in steps {
            self.context.later(after, Happening::Relief(step));
        }
        true
    }

    /// A topic asks for more or fewer replicas in sync; never for fewer than what may be lost
    /// leaves.
    fn alter(&mut self) -> bool {
        let config = &self.context.config;
        let topic = self.context.random.below(config.topics.len() as u64) as usize;
        let topic = &config.topics[topic];
        let least = if config.survives_disk_loss { 2 } else { 1 };
        let most = u64::from(topic.replication_factor);
        let (id, replicas) = (
            topic.id,
            self.context.random.between(least.min(most), most) as u32,
        );
        let Some(broker) = self.some_broker() else {
            return false;
        };
        if let Some(process) = &mut self.hosts[Self::index_of(broker)].process {
            process.alter_min_insync(id, replicas, &mut self.context);
        }
        true
    }

    /// Every partition of the users' topics.
    pub(crate) fn partitions(&self) -> Vec<TopicIdPartition> {
        self.context.config.partitions()
    }
}

#[cfg(test)]
mod tests;
