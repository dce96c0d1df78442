//! Three replicas, a network that reorders and loses, and the metadata log.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tidelog_replica::messages::FetchAnswer;
use tidelog_replica::{
    AppendRequest, Appended, Assignment, DivergingEpoch, Effect, FetchedFromLeader, FollowerDurable,
    FollowerFetch, FollowerFetchAnswer, IsrChangeOutcome, IsrProposal, NewBatch, Replica, Settings,
};
use tidelog_types::{
    BatchInfo, BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, PartitionRegistration,
    ProducerEpoch, ProducerId, ProducerStamp, Sequence,
};

use crate::disk::{Disk, Entry, replay};

const MIN_ISR: usize = 2;

pub struct Node {
    pub id: BrokerId,
    pub replica: Replica,
    pub disk: Disk,
    pub is_up: bool,
    epoch: BrokerEpoch,
}

enum Message {
    Fetch {
        leader: BrokerId,
        fetch: FollowerFetch,
    },
    Durable {
        leader: BrokerId,
        durable: FollowerDurable,
    },
    Answer {
        to: BrokerId,
        leader_epoch: LeaderEpoch,
        answer: Answer,
    },
    Propose {
        from: BrokerId,
        epoch: BrokerEpoch,
        proposal: IsrProposal,
    },
    Outcome {
        to: BrokerId,
        epoch: BrokerEpoch,
        proposal: IsrProposal,
        outcome: IsrChangeOutcome,
    },
}

enum Answer {
    Entries {
        entries: Vec<Entry>,
        high_watermark: Offset,
        log_start: Offset,
    },
    Progress {
        high_watermark: Offset,
        log_start: Offset,
    },
    Diverging(DivergingEpoch),
}

/// An `acks=all` produce that waits.
struct Waiting {
    at: BrokerId,
    leader_epoch: LeaderEpoch,
    end: Offset,
    entry: Entry,
}

#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub acknowledged: usize,
    pub truncations: usize,
    pub elections: usize,
    pub joins: usize,
    pub duplicates: usize,
    pub rebuilds: usize,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.truncations += other.truncations;
        self.elections += other.elections;
        self.joins += other.joins;
        self.duplicates += other.duplicates;
        self.rebuilds += other.rebuilds;
    }
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub registration: PartitionRegistration,
    pub high_watermarks: HashMap<LeaderEpoch, Offset>,
    /// The largest high watermark any leader had.
    pub committed: Offset,
    pub seen: Seen,
    alive: BTreeMap<BrokerId, BrokerEpoch>,
    index: u64,
    network: Vec<Message>,
    waiting: Vec<Waiting>,
    acknowledged: Vec<Entry>,
    /// Who appended in an epoch (R20).
    appended_by: HashMap<LeaderEpoch, BrokerId>,
    next_sequence: [i32; 2],
    next_value: u64,
    now: Duration,
    random: u64,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let ids: Vec<_> = (1..=3).filter_map(BrokerId::new).collect();
        let node = |id: &BrokerId| Node {
            id: *id,
            replica: Replica::new(*id, Disk::default().load(), Settings::default(), Duration::ZERO),
            disk: Disk::default(),
            is_up: true,
            epoch: BrokerEpoch(u64::from(id.get())),
        };
        let registration = PartitionRegistration {
            replicas: ids.clone(),
            isr: ids.clone(),
            elr: Vec::new(),
            leader: Some(ids[0]),
            last_known_leader: None,
            leader_epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            min_insync_replicas: MIN_ISR as u32,
        };
        let nodes: Vec<_> = ids.iter().map(node).collect();
        Self {
            alive: nodes.iter().map(|node| (node.id, node.epoch)).collect(),
            nodes,
            registration,
            high_watermarks: HashMap::new(),
            committed: Offset::ZERO,
            seen: Seen::default(),
            index: 10,
            network: Vec::new(),
            waiting: Vec::new(),
            acknowledged: Vec::new(),
            appended_by: HashMap::new(),
            next_sequence: [0; 2],
            next_value: 1,
            now: Duration::ZERO,
            random: seed | 1,
        }
    }

    pub fn node(&self, id: BrokerId) -> &Node {
        &self.nodes[id.get() as usize - 1]
    }

    pub fn step(&mut self) {
        let at = BrokerId::new(self.below(3) as u32 + 1).expect("1 to 3");
        // Faults are rare enough for replicas to catch up between them.
        match self.below(400) {
            0..75 => self.deliver(),
            75..125 => self.append(at),
            125..180 => self.write(at),
            180..235 => self.sync(at),
            235..295 => self.fetch(at),
            295..330 => self.tell_durable(at),
            330..370 => self.apply(at),
            370 => self.fence(at),
            371 => self.crash(at),
            372..380 => self.restart(at),
            380..388 => self.unfence(at),
            388..393 => self.tick(at),
            393 => self.lose(),
            394 => self.time_out(),
            _ => self.tell_progress(at),
        }
        // Most messages arrive soon.
        if self.network.len() > 6 {
            self.deliver();
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn node_mut(&mut self, id: BrokerId) -> &mut Node {
        &mut self.nodes[id.get() as usize - 1]
    }

    fn append(&mut self, at: BrokerId) {
        let now = self.now;
        let producer = self.below(3) as usize;
        let back = i32::from(self.below(4) == 0);
        let value = self.next_value;
        let stamp = self.next_sequence.get(producer).map(|next| ProducerStamp {
            id: ProducerId(producer as u64),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence::from_wire((next - back).max(0)).expect("positive"),
        });
        let batch = NewBatch {
            offset_count: if stamp.is_some() { 1 } else { 1 + value % 3 },
            max_timestamp_ms: 0,
            size_bytes: 100,
            producer: stamp,
        };
        let request = AppendRequest {
            leader_epoch: None,
            batch,
            acks_all: true,
        };
        let node = self.node_mut(at);
        if !node.is_up {
            return;
        }
        match node.replica.append(&request, now) {
            Ok(Appended::New { info, .. }) => {
                let entry = Entry { info, value };
                node.disk.append(vec![entry]);
                let leader_epoch = info.leader_epoch;
                assert_eq!(
                    *self.appended_by.entry(leader_epoch).or_insert(at),
                    at,
                    "R20 in epoch {leader_epoch}"
                );
                self.waiting.push(Waiting {
                    at,
                    leader_epoch,
                    end: info.end_offset(),
                    entry,
                });
                if let Some(stamp) = stamp {
                    self.next_sequence[producer] = stamp.base_sequence.advanced_by(1).to_wire();
                }
                self.next_value += 1;
            }
            Ok(Appended::Duplicate { .. }) => self.seen.duplicates += 1,
            // The producer's records were lost with a leader: it goes back to what the log has.
            Err(error) if error.code == ErrorCode::OutOfOrderSequenceNumber => {
                self.next_sequence[producer] = self.next_sequence[producer].max(1) - 1;
            }
            Err(error) if error.code == ErrorCode::UnknownProducerId => self.next_sequence[producer] = 0,
            Err(error) if error.code == ErrorCode::DuplicateSequenceNumber => {
                self.next_sequence[producer] += 1;
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, at: BrokerId) {
        let node = self.node_mut(at);
        if node.is_up
            && let Some(end) = node.disk.step_write()
        {
            let effects = node.replica.written(end);
            self.perform(at, effects);
        }
    }

    fn sync(&mut self, at: BrokerId) {
        let now = self.now;
        let node = self.node_mut(at);
        if node.is_up
            && let Some(end) = node.disk.step_sync()
        {
            let effects = node.replica.durable(end, now);
            self.perform(at, effects);
        }
    }

    fn fetch(&mut self, at: BrokerId) {
        let node = self.node(at);
        if let Some(position) = node.replica.next_fetch().filter(|_| node.is_up) {
            let fetch = FollowerFetch {
                broker: at,
                broker_epoch: node.epoch,
                leader_epoch: position.leader_epoch,
                fetch_offset: position.fetch_offset,
                last_fetched_epoch: position.last_fetched_epoch,
                durable_end: position.durable_end,
            };
            self.network.push(Message::Fetch {
                leader: position.leader,
                fetch,
            });
        }
    }

    fn tell_durable(&mut self, at: BrokerId) {
        let node = self.node(at);
        if let Some(position) = node.replica.durable_report().filter(|_| node.is_up) {
            let durable = FollowerDurable {
                broker: at,
                broker_epoch: node.epoch,
                leader_epoch: position.leader_epoch,
                durable_end: position.durable_end,
            };
            self.network.push(Message::Durable {
                leader: position.leader,
                durable,
            });
        }
    }

    fn tell_progress(&mut self, at: BrokerId) {
        let node = self.node(at);
        if node.is_up && node.replica.is_leader() {
            let leader_epoch = node.replica.leader().1;
            let (high_watermark, log_start) = (
                node.replica.log().high_watermark(),
                node.replica.log().log_start(),
            );
            for to in self
                .registration
                .replicas
                .clone()
                .into_iter()
                .filter(|to| *to != at)
            {
                if !self.node(to).is_up {
                    continue;
                }
                let answer = Answer::Progress {
                    high_watermark,
                    log_start,
                };
                self.network.push(Message::Answer {
                    to,
                    leader_epoch,
                    answer,
                });
            }
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.below(self.network.len() as u64) as usize;
        match self.network.swap_remove(at) {
            Message::Fetch { leader, fetch } => self.take_fetch(leader, &fetch),
            Message::Durable { leader, durable } => {
                let now = self.now;
                let node = self.node_mut(leader);
                if node.is_up
                    && let Ok(effects) = node.replica.follower_durable(&durable, now)
                {
                    self.perform(leader, effects);
                }
            }
            Message::Answer {
                to,
                leader_epoch,
                answer,
            } => self.take_answer(to, leader_epoch, answer),
            Message::Propose {
                from,
                epoch,
                proposal,
            } => self.decide(from, epoch, proposal),
            Message::Outcome {
                to,
                epoch,
                proposal,
                outcome,
            } => {
                let now = self.now;
                let node = self.node_mut(to);
                if node.is_up && node.epoch == epoch {
                    let effects = node.replica.isr_changed(&proposal, &outcome, now);
                    self.perform(to, effects);
                }
            }
        }
    }

    fn take_fetch(&mut self, leader: BrokerId, fetch: &FollowerFetch) {
        let now = self.now;
        let most = 1 + self.below(3) as usize;
        let node = self.node_mut(leader);
        if !node.is_up {
            return;
        }
        let Ok((answer, effects)) = node.replica.follower_fetch(fetch, now) else {
            return;
        };
        let answer = match answer {
            FollowerFetchAnswer::Read {
                from,
                until,
                high_watermark,
                log_start,
            } => {
                let mut entries = node.disk.written();
                entries.retain(|entry| entry.info.base_offset >= from && entry.info.base_offset < until);
                entries.truncate(most);
                Answer::Entries {
                    entries,
                    high_watermark,
                    log_start,
                }
            }
            FollowerFetchAnswer::Diverging(diverging) => Answer::Diverging(diverging),
            FollowerFetchAnswer::BeforeLogStart { .. } => panic!("nothing is trimmed here"),
        };
        let (to, leader_epoch) = (fetch.broker, fetch.leader_epoch);
        if self.is_connected(to, fetch.broker_epoch) {
            self.network.push(Message::Answer {
                to,
                leader_epoch,
                answer,
            });
        }
        self.perform(leader, effects);
    }

    /// Whether the process that asked is still there to be answered.
    fn is_connected(&self, to: BrokerId, epoch: BrokerEpoch) -> bool {
        let node = self.node(to);
        node.is_up && node.epoch == epoch
    }

    fn take_answer(&mut self, to: BrokerId, leader_epoch: LeaderEpoch, answer: Answer) {
        let now = self.now;
        let node = self.node_mut(to);
        if !node.is_up {
            return;
        }
        let mut entries = Vec::new();
        let infos: Vec<BatchInfo>;
        let answer = match answer {
            Answer::Entries {
                entries: found,
                high_watermark,
                log_start,
            } => {
                entries = found;
                infos = entries.iter().map(|entry| entry.info).collect();
                FetchAnswer::Batches {
                    batches: &infos,
                    high_watermark,
                    log_start,
                }
            }
            Answer::Progress {
                high_watermark,
                log_start,
            } => FetchAnswer::Progress {
                high_watermark,
                log_start,
            },
            Answer::Diverging(diverging) => FetchAnswer::Diverging(diverging),
        };
        if let Ok(taken) = node.replica.fetched(FetchedFromLeader {
            leader_epoch,
            answer,
            now,
        }) {
            if !entries.is_empty() {
                node.disk.append(entries);
            }
            self.perform(to, taken.effects);
        }
    }

    fn tick(&mut self, at: BrokerId) {
        let pause = self.below(8);
        self.now += Duration::from_secs(pause);
        let now = self.now;
        let node = self.node_mut(at);
        if node.is_up {
            node.disk.checkpoint(node.replica.log().high_watermark());
            let effects = node.replica.tick(now, &|_| now);
            self.perform(at, effects);
        }
    }

    fn lose(&mut self) {
        if !self.network.is_empty() {
            let at = self.below(self.network.len() as u64) as usize;
            self.network.swap_remove(at);
        }
    }

    /// A proposer gives up waiting, while its proposal is still on its way.
    fn time_out(&mut self) {
        let proposed = self.network.iter().find_map(|message| match message {
            Message::Propose {
                from,
                epoch,
                proposal,
            } => Some((*from, *epoch, proposal.clone())),
            _ => None,
        });
        if let Some((to, epoch, proposal)) = proposed {
            let outcome = IsrChangeOutcome::Unknown;
            self.network.push(Message::Outcome {
                to,
                epoch,
                proposal,
                outcome,
            });
        }
    }

    fn crash(&mut self, at: BrokerId) {
        let unsynced = self.node(at).disk.unsynced() as u64;
        let keep = self.below(unsynced + 1) as usize;
        let node = self.node_mut(at);
        if node.is_up {
            node.is_up = false;
            node.disk.crash(keep);
            self.waiting.retain(|waiting| waiting.at != at);
            // Its connections broke with it: no answer reaches the process that comes after. What it sent may still arrive.
            self.network
                .retain(|message| !matches!(message, Message::Answer { to, .. } if *to == at));
        }
    }

    fn restart(&mut self, at: BrokerId) {
        if self.node(at).is_up {
            return;
        }
        self.fence(at);
        self.index += 1;
        let (epoch, now) = (BrokerEpoch(self.index), self.now);
        let node = self.node_mut(at);
        node.replica = Replica::new(at, node.disk.load(), Settings::default(), now);
        node.is_up = true;
        node.epoch = epoch;
    }

    fn fence(&mut self, at: BrokerId) {
        self.index += 1;
        self.alive.remove(&at);
        let mut registration = self.registration.clone();
        if registration.isr.len() > 1 {
            registration.isr.retain(|member| *member != at);
        }
        if registration.leader == Some(at) {
            registration.leader = None;
        }
        self.elect(registration);
    }

    fn unfence(&mut self, at: BrokerId) {
        if self.node(at).is_up {
            self.index += 1;
            self.alive.insert(at, self.node(at).epoch);
            self.elect(self.registration.clone());
        }
    }

    /// Gives the partition a leader if it has none and can have one (R8).
    fn elect(&mut self, mut registration: PartitionRegistration) {
        if registration.leader.is_none() {
            registration.leader = registration
                .isr
                .iter()
                .copied()
                .find(|member| self.alive.contains_key(member));
        }
        if registration.leader != self.registration.leader {
            registration.leader_epoch = registration.leader_epoch.next();
            self.seen.elections += 1;
        }
        if registration != self.registration {
            registration.partition_epoch = self.registration.partition_epoch.next();
            self.registration = registration;
        }
    }

    fn decide(&mut self, from: BrokerId, epoch: BrokerEpoch, proposal: IsrProposal) {
        self.index += 1;
        let registration = &self.registration;
        let ineligible = |(member, epoch): &(BrokerId, BrokerEpoch)| self.alive.get(member) != Some(epoch);
        let outcome =
            if registration.leader != Some(from) || registration.leader_epoch != proposal.leader_epoch {
                IsrChangeOutcome::Rejected(ErrorCode::FencedLeaderEpoch)
            } else if registration.partition_epoch != proposal.partition_epoch {
                IsrChangeOutcome::Rejected(ErrorCode::InvalidUpdateVersion)
            } else if proposal.isr.iter().any(ineligible) {
                IsrChangeOutcome::Rejected(ErrorCode::IneligibleReplica)
            } else {
                self.seen.joins += usize::from(proposal.isr.len() > registration.isr.len());
                self.registration.isr = proposal.isr.iter().map(|(member, _)| *member).collect();
                self.registration.partition_epoch = proposal.partition_epoch.next();
                IsrChangeOutcome::Committed(self.registration.clone())
            };
        self.network.push(Message::Outcome {
            to: from,
            epoch,
            proposal,
            outcome,
        });
    }

    fn apply(&mut self, at: BrokerId) {
        let (registration, alive) = (self.registration.clone(), self.alive.clone());
        let (metadata_index, now) = (self.index, self.now);
        let node = self.node_mut(at);
        if node.is_up {
            let broker_epoch = node.epoch;
            let assignment = Assignment {
                registration: &registration,
                broker_epoch,
                metadata_index,
                alive: &alive,
            };
            let effects = node.replica.apply(&assignment, now);
            self.perform(at, effects);
        }
    }

    fn perform(&mut self, at: BrokerId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Truncate { to, .. } => {
                    self.seen.truncations += 1;
                    self.node_mut(at).disk.truncate(to);
                }
                Effect::TruncatedCommitted { from, to } => panic!("R23: {at} cut off {from} to {to}"),
                Effect::Trim { .. } => panic!("nothing is trimmed here"),
                Effect::ProposeIsr(proposal) => {
                    let epoch = self.node(at).epoch;
                    self.network.push(Message::Propose {
                        from: at,
                        epoch,
                        proposal,
                    });
                }
                Effect::RebuildProducers { until, .. } => {
                    self.seen.rebuilds += 1;
                    let now = self.now;
                    let node = self.node_mut(at);
                    let mut log = node.disk.written();
                    log.retain(|entry| entry.info.base_offset < until);
                    let effects = node
                        .replica
                        .producers_rebuilt(until, replay(&log).1.states(), now);
                    self.perform(at, effects);
                }
                Effect::HighWatermark(to) => self.acknowledge(at, to),
                Effect::FailProduces(_) => self.waiting.retain(|waiting| waiting.at != at),
                Effect::BecameLeader { .. } => self.check_new_leader(at),
                Effect::BecameFollower { .. }
                | Effect::WentOffline
                | Effect::Written(_)
                | Effect::Durable(_)
                | Effect::FetchAgain => {}
            }
        }
    }

    /// R24: what is acknowledged is durable on enough replicas at that moment.
    fn acknowledge(&mut self, at: BrokerId, to: Offset) {
        let (node, epoch) = (self.node(at), self.node(at).replica.leader().1);
        if !node.replica.is_leader() {
            return;
        }
        let reached =
            |waiting: &mut Waiting| waiting.at == at && waiting.leader_epoch == epoch && waiting.end <= to;
        let done: Vec<_> = self
            .waiting
            .extract_if(.., reached)
            .map(|waiting| waiting.entry)
            .collect();
        for entry in done {
            let copies = self
                .nodes
                .iter()
                .filter(|node| node.disk.synced().contains(&entry))
                .count();
            assert!(copies >= MIN_ISR, "R24: {entry:?} is on {copies} disks");
            self.acknowledged.push(entry);
            self.seen.acknowledged += 1;
        }
    }

    /// R17: a new leader has everything acknowledged before.
    fn check_new_leader(&self, at: BrokerId) {
        if self.registration.leader != Some(at) {
            return;
        }
        let log = self.node(at).disk.log();
        for entry in &self.acknowledged {
            let found = log
                .iter()
                .find(|other| other.info.base_offset == entry.info.base_offset);
            assert_eq!(found, Some(entry), "R17: at {at}");
        }
    }
}
