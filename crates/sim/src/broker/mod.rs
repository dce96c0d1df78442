//! A broker's process: the drivers that a broker runs around the pure crates, on simulated disk,
//! network and time.
//!
//! Every driver does what its namesake in the broker does, in the same order; only the waiting is
//! turned into events. A process lives from a start to a crash or a stop; its disks outlive it.
//!
//! - `metadata`: proposals, and applying the metadata log; `applied`: what was
//! - `registration`: the broker's own session; `controller`: the metadata leader's duties
//! - `replicas`: images applied to replicas; `effects`: what their effects mean; `storage`: the
//!   disk's steps
//! - `produce`, `serve`: clients; `link`, `follower_session`: replication from both ends
//! - `groups`, `shard`: coordinators

mod applied;
mod controller;
mod effects;
mod follower_session;
mod groups;
mod link;
mod metadata;
mod partition;
mod produce;
mod registration;
mod replicas;
mod serve;
mod shard;
mod storage;

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_history::event::Life;
use tidelog_replica::ConsumerRead;
use tidelog_types::{BrokerId, DirectoryId, PartitionIndex, TopicIdPartition};

use crate::context::{Context, Happening};
use crate::disk::{Batch, Disk};
use crate::message::{Address, Lane, Message, Site};
use crate::network::{Handle, Heard};
use crate::raft::{MetadataDisk, NodeId, Raft, node_id};

use applied::Applied;
use controller::Controller;
use effects::Rebuild;
use follower_session::{FollowerSession, LateRead};
use groups::Groups;
pub(crate) use groups::partition_of;
use link::LeaderStream;
use metadata::Proposals;
use partition::Partition;
use produce::ProducerIds;
use registration::Registration;
use replicas::Manager;

/// What a process planned for itself.
#[derive(Debug)]
pub(crate) enum Timer {
    /// Everything that only time moves.
    Tick,
    MetadataSynced,
    Write,
    Synced,
    /// The newest image, and this broker's standing, go to the replicas.
    Follow,
    FlushLink(BrokerId),
    FlushSession(Handle),
    /// A follower's read of the disk is done.
    FollowerRead(Box<LateRead>),
    /// Parked fetches of a partition are looked at.
    WakeReaders(TopicIdPartition),
    /// A consumer's read of the disk is done.
    Read(Box<PendingRead>),
    /// A stretch of a log is scanned for its producers, or what was found is handed over.
    Rebuild(Box<Rebuild>),
    Shard(PartitionIndex),
}

/// A consumer's read that is under way.
#[derive(Debug)]
pub(crate) struct PendingRead {
    pub(crate) asker: Address,
    pub(crate) id: u64,
    pub(crate) partition: TopicIdPartition,
    pub(crate) read: ConsumerRead,
    pub(crate) max_batches: usize,
    /// What was read, once it was.
    pub(crate) batches: Option<Vec<Batch>>,
}

/// What a connection is used for, at its broker's end.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// This broker's session with the metadata leader.
    OwnSession,
    /// This broker's stream to a leader.
    Link(BrokerId),
    /// A session with this broker as the metadata leader.
    Session(BrokerId),
    Follower,
    Producer,
    Member,
}

/// A clock that only runs forward, from anywhere, at nearly the right pace.
#[derive(Debug, Clone, Copy)]
struct Clock {
    started: Duration,
    base: Duration,
    per_mille: u32,
}

/// Both disks of a broker.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) records: Disk,
    pub(crate) metadata: MetadataDisk,
}

/// One life of a broker.
pub(crate) struct Process {
    pub(crate) address: Address,
    broker: BrokerId,
    clock: Clock,
    raft: Raft,
    applied: Applied,
    disk: Disk,
    proposals: Proposals,
    registration: Registration,
    controller: Option<Controller>,
    manager: Manager,
    replicas: BTreeMap<TopicIdPartition, Partition>,
    links: BTreeMap<BrokerId, LeaderStream>,
    followers: BTreeMap<Handle, FollowerSession>,
    groups: Groups,
    producer_ids: ProducerIds,
    uses: BTreeMap<Handle, Use>,
    /// Whose heartbeats came last by a session with this broker.
    registrations_of_sessions: BTreeMap<Handle, BrokerIncarnation>,
    is_writing: bool,
    /// The disk is slow for now, or the next sync fails.
    pub(crate) is_slow: bool,
    pub(crate) fails_next_sync: bool,
    /// The process must end, its disk having failed or its orderly stop being done.
    pub(crate) ended: Option<Ended>,
    stopping: Option<Duration>,
}

/// Why a process ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    DiskFailed,
    Stopped,
}

impl Process {
    /// A process that comes up on its disks.
    pub(crate) fn start(broker: BrokerId, life: Life, disks: Disks, context: &mut Context) -> Self {
        let address = Address {
            site: Site::Broker(broker),
            life,
        };
        let clock = Clock {
            started: context.now,
            base: context.random.millis(0, 1_000_000),
            per_mille: context.random.between(990, 1010) as u32,
        };
        let node = node_id(broker, disks.records.directory);
        let applied = Applied::restored(&disks.metadata.saved, context);
        let raft = Raft::new(node, address, disks.metadata, context);
        let mut process = Self {
            address,
            broker,
            clock,
            raft,
            applied,
            disk: disks.records,
            proposals: Proposals::default(),
            registration: Registration::new(broker, context.config.session),
            controller: None,
            manager: Manager::default(),
            replicas: BTreeMap::new(),
            links: BTreeMap::new(),
            followers: BTreeMap::new(),
            groups: Groups::default(),
            producer_ids: ProducerIds::default(),
            uses: BTreeMap::new(),
            registrations_of_sessions: BTreeMap::new(),
            is_writing: false,
            is_slow: false,
            fails_next_sync: false,
            ended: None,
            stopping: None,
        };
        process.recover(context);
        process.restore(context);
        process.plan(Duration::ZERO, Timer::Tick, context);
        process
    }

    /// The disks, as a process leaves them that ended.
    pub(crate) fn into_disks(self) -> Disks {
        Disks {
            records: self.disk,
            metadata: self.raft.disk,
        }
    }

    /// What another process says, or the network does.
    pub(crate) fn hear(&mut self, heard: Heard, context: &mut Context) {
        match heard {
            Heard::Accepted { handle, from, lane } => self.accepted(handle, from, lane, context),
            Heard::Opened(handle) => self.opened(handle, context),
            Heard::Said(handle, message) => self.said(handle, message, context),
            Heard::Closed(handle) => self.closed(handle, context),
            Heard::Dialled { id, refused } => self.dialled(id, refused, context),
            Heard::Datagram(from, message) => self.datagram(from, message, context),
        }
        self.after(context);
    }

    /// Something that this process planned.
    pub(crate) fn fire(&mut self, timer: Timer, context: &mut Context) {
        match timer {
            Timer::Tick => self.tick(context),
            Timer::MetadataSynced => self.raft.synced(context),
            Timer::Write => self.write(context),
            Timer::Synced => self.synced(context),
            Timer::Follow => self.follow(context),
            Timer::FlushLink(leader) => self.flush_link(leader, context),
            Timer::FlushSession(handle) => self.flush_session(handle, context),
            Timer::FollowerRead(read) => self.follower_read(*read, context),
            Timer::WakeReaders(partition) => self.wake_readers(partition, context),
            Timer::Read(read) => self.finish_read(*read, context),
            Timer::Rebuild(rebuild) => self.rebuild(*rebuild, context),
            Timer::Shard(partition) => self.shard_turn(partition, context),
        }
        self.after(context);
    }

    /// The operator asks the process to stop in order (R11).
    pub(crate) fn stop(&mut self, context: &mut Context) {
        self.stopping.get_or_insert(context.now);
        self.drain(context);
    }

    /// Whether it is about to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The term in which this broker leads the metadata, if it does.
    pub(crate) fn leads_metadata(&self) -> Option<u64> {
        self.raft.leads()
    }

    /// The node of the metadata log that it runs.
    pub(crate) fn node(&self) -> NodeId {
        self.raft.node()
    }

    /// Its data directory.
    pub(crate) fn directory(&self) -> DirectoryId {
        self.disk.directory
    }

    /// Whether a node is one of the voters, and nobody else is about to be.
    pub(crate) fn has_settled_voter(&self, node: NodeId) -> bool {
        self.raft.has_settled_voter(node)
    }

    /// Writes down what every replica has derived from its log.
    pub(crate) fn note_everything_derived(&self, context: &mut Context) {
        for id in self.replicas.keys() {
            self.note_derived(*id, context);
        }
    }

    /// What metadata this process has applied.
    pub(crate) fn applied(&self) -> &Applied {
        &self.applied
    }

    fn after(&mut self, context: &mut Context) {
        self.apply_committed(context);
        self.disk_later(context);
    }

    fn plan(&self, after: Duration, timer: Timer, context: &mut Context) {
        let (broker, life) = (self.broker, self.address.life);
        context.later(after, Happening::Broker { broker, life, timer });
    }

    /// The time on this process's own clock.
    fn local(&self, context: &Context) -> Duration {
        let elapsed = context.now.saturating_sub(self.clock.started);
        self.clock.base + elapsed * self.clock.per_mille / 1000
    }

    fn tick(&mut self, context: &mut Context) {
        self.raft.tick(context);
        self.tick_proposals(context);
        self.tick_registration(context);
        self.tick_controller(context);
        self.tick_replicas(context);
        self.advance_links(context);
        self.tick_groups(context);
        self.tick_stop(context);
        let after = context.random.millis(20, 60);
        self.plan(after, Timer::Tick, context);
    }

    fn accepted(&mut self, handle: Handle, from: Address, lane: Lane, context: &mut Context) {
        let Site::Broker(broker) = from.site else {
            let used = if lane == Lane::Group {
                Use::Member
            } else {
                Use::Producer
            };
            self.uses.insert(handle, used);
            return;
        };
        match lane {
            Lane::Session => {
                self.uses.insert(handle, Use::Session(broker));
            }
            Lane::Replication(epoch) => {
                self.uses.insert(handle, Use::Follower);
                let session = FollowerSession::new(broker, epoch, context.config.feed);
                self.followers.insert(handle, session);
            }
            Lane::Produce | Lane::Group => context.close(handle),
        }
    }

    fn opened(&mut self, handle: Handle, context: &mut Context) {
        match self.uses.get(&handle) {
            Some(Use::OwnSession) => self.session_opened(context),
            Some(Use::Link(leader)) => self.link_opened(*leader, context),
            _ => {}
        }
    }

    fn closed(&mut self, handle: Handle, context: &mut Context) {
        match self.uses.remove(&handle) {
            Some(Use::OwnSession) => self.session_closed(context),
            Some(Use::Link(leader)) => self.link_closed(leader, context),
            Some(Use::Session(_)) => self.session_broken(handle, context),
            Some(Use::Follower) => {
                self.followers.remove(&handle);
            }
            Some(Use::Member) => self.member_gone(handle, context),
            Some(Use::Producer) | None => {}
        }
    }

    fn said(&mut self, handle: Handle, message: Message, context: &mut Context) {
        let Some(used) = self.uses.get(&handle).copied() else {
            return;
        };
        match (used, message) {
            (
                Use::OwnSession,
                Message::HeartbeatAnswer {
                    sequence,
                    stale,
                    fenced,
                },
            ) => {
                self.heartbeat_answered(sequence, stale, fenced, context);
            }
            (Use::Session(broker), Message::Heartbeat { epoch, sequence }) => {
                self.heartbeat(handle, broker, epoch, sequence, context);
            }
            (Use::Link(leader), Message::ReplicaAnswer { answers, progress }) => {
                self.take_answers(leader, answers, progress, context);
            }
            (Use::Follower, Message::ReplicaFetch(request)) => {
                self.replica_fetch(handle, request, context);
            }
            (
                Use::Producer,
                Message::Produce {
                    attempt,
                    partition,
                    leader_epoch,
                    payload,
                    timeout,
                },
            ) => {
                let produce = produce::Produce {
                    handle,
                    attempt,
                    partition,
                    leader_epoch,
                    payload,
                    timeout,
                };
                self.produce(produce, context);
            }
            (Use::Member, Message::Member(says)) => self.member_says(handle, says, context),
            _ => {}
        }
    }

    fn datagram(&mut self, from: Address, message: Message, context: &mut Context) {
        match message {
            Message::Raft(message) => self.raft.receive(from, message, context),
            Message::Propose { id, command } => self.propose_for(from, id, &command, context),
            Message::Proposed { id, result } => self.proposed(id, result, context),
            Message::Ask { id, ask } => self.ask(from, id, ask, context),
            _ => {}
        }
    }

    fn tick_stop(&mut self, context: &mut Context) {
        let Some(since) = self.stopping else { return };
        let waited = context.now.saturating_sub(since);
        if self.has_left() || waited > Duration::from_secs(8) {
            self.disk.close();
            self.raft.disk.close();
            self.ended = Some(Ended::Stopped);
        }
    }
}
