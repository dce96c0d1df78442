//! Makes the history of a healthy cluster: three brokers that replicate a few partitions, and now
//! and then elect, restart, trim and rebalance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelog_history::event::{
    CommitResult, Entry, Life, Name, Owed, ReadRecord, Reader, Request, SendId, Sender, Value,
};
use tidelog_history::{Event, What};
use tidelog_types::{
    BrokerEpoch, BrokerId, DirectoryId, EpochEntry, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex,
    PartitionRegistration, ProducerEpoch, ProducerId, ProducerStamp, ProducerState, RememberedBatch,
    Sequence, TopicId, TopicIdPartition,
};

pub(crate) fn partition(index: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId::from_slice(&[7; 16]).expect("16 bytes"),
        partition: PartitionIndex(index),
    }
}

fn broker(index: usize) -> BrokerId {
    BrokerId::new(index as u32 + 1).expect("at least 1")
}

fn all() -> Vec<BrokerId> {
    (0..3).map(broker).collect()
}

/// A run so far.
pub(crate) struct Run {
    pub(crate) events: Vec<Event>,
    partitions: Vec<Partition>,
    random: u64,
    next_send: u64,
    next_value: u64,
    next_request: u64,
    next_life: u32,
    next_broker_epoch: u64,
    metadata_index: u64,
}

/// One partition, as its leader has it. Followers have the same between two steps.
struct Partition {
    id: TopicIdPartition,
    log: VecDeque<Arc<Entry>>,
    log_start: Offset,
    end: Offset,
    leader: usize,
    epoch: LeaderEpoch,
    changes: PartitionEpoch,
    sequence: u64,
    read: [Offset; 2],
    owner: u32,
    committed: Option<Offset>,
}

impl Run {
    /// A cluster with so many partitions, whose course follows from the seed.
    pub(crate) fn new(partitions: u32, seed: u64) -> Self {
        let new = |index| Partition {
            id: partition(index),
            log: VecDeque::new(),
            log_start: Offset::ZERO,
            end: Offset::ZERO,
            leader: 0,
            epoch: LeaderEpoch(0),
            changes: PartitionEpoch(0),
            sequence: 0,
            read: [Offset::ZERO; 2],
            owner: 0,
            committed: None,
        };
        let mut run = Self {
            events: Vec::new(),
            partitions: (0..partitions).map(new).collect(),
            random: seed,
            next_send: 1,
            next_value: 1,
            next_request: 1,
            next_life: 1,
            next_broker_epoch: 1,
            metadata_index: 0,
        };
        for id in 0..3 {
            run.register_broker(id);
        }
        for at in 0..partitions as usize {
            run.elect(at, 0);
            run.assign(at);
        }
        run
    }

    /// Lets something happen to some partition.
    pub(crate) fn step(&mut self) {
        let at = self.draw(self.partitions.len() as u64) as usize;
        match self.draw(100) {
            0 => self.fail_over(at),
            1 => self.restart_follower(at),
            2 => self.trim(at),
            3 => self.rebalance(at),
            4..=5 => self.derive(at),
            6..=9 => self.commit(at),
            10..=30 => self.ask(at),
            31..=55 => self.read(at),
            _ => self.send(at),
        }
    }

    /// Heals, settles and ends.
    pub(crate) fn end(&mut self) {
        let owed = |partition: &Partition| Owed {
            partition: partition.id,
            reads: true,
            writes: true,
        };
        let owed = self.partitions.iter().map(owed).collect();
        self.happens(What::Healed { owed });
        for at in 0..self.partitions.len() {
            self.send(at);
            self.read(at);
            let Partition {
                id, end, log_start, ..
            } = self.partitions[at];
            let records = self.partitions[at].records(log_start, end);
            self.happens(What::ReadToEnd {
                partition: id,
                log_start,
                end,
                records,
            });
        }
        let partitions = self.partitions.iter().map(|partition| partition.id).collect();
        self.happens(What::GroupSettled {
            group: Name::from("readers"),
            partitions,
        });
        self.happens(What::Ended { up: all() });
    }

    fn happens(&mut self, what: What) {
        let at = Duration::from_micros(self.events.len() as u64 * 10);
        self.events.push(Event { at, what });
    }

    /// A number below `bound`, by a linear congruence.
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn request(&mut self) -> Request {
        self.next_request += 1;
        Request(self.next_request)
    }

    /// A metadata command is committed and applied everywhere.
    fn command(&mut self) {
        self.metadata_index += 1;
        let index = self.metadata_index;
        for id in all() {
            self.happens(What::Applied {
                broker: id,
                index,
                command: index * 3,
                state: index * 5,
            });
        }
        self.happens(What::CommandAcknowledged {
            index,
            command: index * 3,
        });
    }

    fn register_broker(&mut self, id: usize) {
        self.happens(What::BrokerRegistered {
            broker: broker(id),
            epoch: BrokerEpoch(self.next_broker_epoch),
            directory: DirectoryId::from_slice(&[id as u8; 16]).expect("16 bytes"),
        });
        self.next_broker_epoch += 1;
        self.command();
    }

    fn elect(&mut self, at: usize, leader: usize) {
        self.next_life += 1;
        let life = Life(self.next_life);
        let partition = &mut self.partitions[at];
        partition.leader = leader;
        partition.epoch = partition.epoch.next();
        partition.changes = partition.changes.next();
        let (id, epoch) = (partition.id, partition.epoch);
        let registration = PartitionRegistration {
            replicas: all(),
            isr: all(),
            elr: Vec::new(),
            leader: Some(broker(leader)),
            last_known_leader: None,
            leader_epoch: epoch,
            partition_epoch: partition.changes,
            min_insync_replicas: 2,
        };
        self.happens(What::Registered {
            partition: id,
            registration,
        });
        self.happens(What::Leads {
            broker: broker(leader),
            life,
            partition: id,
            epoch,
        });
        self.happens(What::Counts {
            broker: broker(leader),
            partition: id,
            epoch,
            members: all(),
        });
        self.command();
    }

    /// A send begins. Returns it and its batch, as the leader would append it.
    fn begin(&mut self, at: usize) -> (SendId, Arc<Entry>) {
        let send = SendId(self.next_send);
        self.next_send += 1;
        let count = 1 + self.draw(4);
        let values: Vec<_> = (self.next_value..self.next_value + count).map(Value).collect();
        self.next_value += count;
        self.happens(What::SendBegan {
            sender: Sender(at as u32),
            send,
            partition: self.partitions[at].id,
            values: values.clone(),
            idempotent: true,
        });
        (send, self.partitions[at].batch(values))
    }

    fn send(&mut self, at: usize) {
        let (send, entry) = self.begin(at);
        self.replicate(at, send, entry);
    }

    fn append(&mut self, at: usize, id: usize, entry: &Arc<Entry>) {
        let leading = id == self.partitions[at].leader;
        self.happens(What::Appended {
            broker: broker(id),
            partition: self.partitions[at].id,
            entry: Arc::clone(entry),
            leading,
        });
    }

    /// The leader appends a batch, the followers copy it, all sync it, and it is acknowledged.
    fn replicate(&mut self, at: usize, send: SendId, entry: Arc<Entry>) {
        let Partition {
            id, leader, epoch, ..
        } = self.partitions[at];
        let end = entry.end_offset();
        let followers = [(leader + 1) % 3, (leader + 2) % 3];
        self.append(at, leader, &entry);
        for follower in followers {
            self.append(at, follower, &entry);
        }
        for member in 0..3 {
            self.happens(What::Durable {
                broker: broker(member),
                partition: id,
                end,
            });
        }
        for member in [leader, followers[0], followers[1]] {
            self.happens(What::HighWatermark {
                broker: broker(member),
                partition: id,
                epoch,
                to: end,
                leading: member == leader,
            });
        }
        self.happens(What::Acknowledges {
            broker: broker(leader),
            partition: id,
            base_offset: entry.base_offset,
            values: entry.values.clone(),
        });
        self.happens(What::SendAcknowledged {
            send,
            base_offset: entry.base_offset,
            leader_epoch: epoch,
        });
        self.partitions[at].take(entry);
        self.deliver(at);
    }

    fn deliver(&mut self, at: usize) {
        let last = self.partitions[at].log.back().cloned();
        for offset in last.map_or(0..0, |entry| entry.base_offset.0..entry.end_offset().0) {
            self.happens(What::Delivered {
                group: Name::from("readers"),
                partition: self.partitions[at].id,
                offset: Offset(offset),
            });
        }
    }

    /// A leader dies with a batch that it alone has, which its sender sends again to the next one.
    fn fail_over(&mut self, at: usize) {
        let (send, entry) = self.begin(at);
        let Partition { id, leader, end, .. } = self.partitions[at];
        self.append(at, leader, &entry);
        self.elect(at, (leader + 1) % 3);
        self.happens(What::Truncated {
            broker: broker(leader),
            partition: id,
            to: end,
        });
        let again = self.partitions[at].batch(entry.values.clone());
        self.replicate(at, send, again);
    }

    fn restart_follower(&mut self, at: usize) {
        let follower = (self.partitions[at].leader + 1) % 3;
        let led_elsewhere = self
            .partitions
            .iter()
            .any(|partition| partition.leader == follower);
        if led_elsewhere {
            return;
        }
        self.happens(What::Crashed {
            broker: broker(follower),
        });
        for at in 0..self.partitions.len() {
            let Partition { id, log_start, .. } = self.partitions[at];
            let log = self.partitions[at].log.iter().cloned().collect();
            self.happens(What::Recovered {
                broker: broker(follower),
                partition: id,
                log_start,
                log,
            });
        }
        self.register_broker(follower);
    }

    fn trim(&mut self, at: usize) {
        let Partition {
            id, log_start, end, ..
        } = self.partitions[at];
        let to = log_start + end.distance_from(log_start) * 3 / 4;
        self.partitions[at].trim(to);
        for member in all() {
            self.happens(What::Trimmed {
                broker: member,
                partition: id,
                log_start: to,
            });
        }
    }

    fn derive(&mut self, at: usize) {
        let member = self.draw(3) as usize;
        let partition = &self.partitions[at];
        let derived = What::Derived {
            broker: broker(member),
            partition: partition.id,
            epochs: partition.epochs(),
            producers: partition.producers(),
        };
        self.happens(derived);
    }

    fn ask(&mut self, at: usize) {
        let Partition {
            id,
            leader,
            epoch,
            end,
            ..
        } = self.partitions[at];
        let request = self.request();
        self.happens(What::EndAsked {
            request,
            partition: id,
            leader_epoch: Some(epoch),
        });
        self.happens(What::TellsOffset {
            broker: broker(leader),
            partition: id,
            offset: end,
        });
        self.happens(What::EndAnswered {
            request,
            offset: end,
            leader_epoch: epoch,
        });
    }

    fn read(&mut self, at: usize) {
        let which = self.draw(2) as usize;
        let Partition {
            id,
            leader,
            end,
            log_start,
            read,
            ..
        } = self.partitions[at];
        let from = read[which].max(log_start);
        self.happens(What::Serves {
            broker: broker(leader),
            partition: id,
            until: end,
        });
        let records = self.partitions[at].records(from, end);
        self.happens(What::Read {
            reader: Reader(which as u32),
            partition: id,
            from,
            next: end,
            records,
            log_start,
        });
        self.partitions[at].read[which] = end;
    }

    fn commit(&mut self, at: usize) {
        let Partition {
            id, end, committed, ..
        } = self.partitions[at];
        let group = || Name::from("readers");
        let (commit, question) = (self.request(), self.request());
        self.happens(What::CommitBegan {
            request: commit,
            group: group(),
            partition: id,
            offset: Some(end),
        });
        self.happens(What::CommitTaken {
            group: group(),
            member: Some((Name::from("m"), 1)),
            held: Some(1),
        });
        let question_first = self.draw(2) == 0;
        let ended = What::CommitEnded {
            request: commit,
            result: CommitResult::Acknowledged,
        };
        let asked = What::OffsetAsked {
            request: question,
            group: group(),
            partition: id,
        };
        // A question that overlaps the commit may be answered by what was there before.
        let answer = if question_first { committed } else { Some(end) };
        let (first, second) = if question_first {
            (asked, ended)
        } else {
            (ended, asked)
        };
        self.happens(first);
        self.happens(second);
        self.happens(What::OffsetAnswered {
            request: question,
            offset: answer,
        });
        self.partitions[at].committed = Some(end);
    }

    fn member(&self, at: usize) -> Name {
        Name::from(format!("member-{}", self.partitions[at].owner))
    }

    fn assign(&mut self, at: usize) {
        self.happens(What::Assigned {
            group: Name::from("readers"),
            member: self.member(at),
            partitions: vec![self.partitions[at].id],
        });
    }

    fn rebalance(&mut self, at: usize) {
        self.happens(What::GaveUp {
            group: Name::from("readers"),
            member: self.member(at),
            partitions: vec![self.partitions[at].id],
        });
        self.partitions[at].owner = self.draw(5) as u32;
        self.assign(at);
    }
}

impl Partition {
    fn batch(&self, values: Vec<Value>) -> Arc<Entry> {
        let stamp = ProducerStamp {
            id: ProducerId(u64::from(self.id.partition.0)),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence::ZERO.advanced_by(self.sequence),
        };
        Arc::new(Entry {
            base_offset: self.end,
            leader_epoch: self.epoch,
            values,
            producer: Some(stamp),
        })
    }

    fn take(&mut self, entry: Arc<Entry>) {
        self.sequence += entry.values.len() as u64;
        self.end = entry.end_offset();
        self.log.push_back(entry);
    }

    fn trim(&mut self, to: Offset) {
        self.log_start = to;
        while self.log.front().is_some_and(|entry| entry.end_offset() <= to) {
            self.log.pop_front();
        }
    }

    fn records(&self, from: Offset, until: Offset) -> Vec<ReadRecord> {
        let first = self.log.partition_point(|entry| entry.end_offset() <= from);
        self.log
            .range(first..)
            .flat_map(|entry| {
                (entry.base_offset.0..)
                    .map(Offset)
                    .zip(entry.values.iter().copied())
            })
            .filter(|(offset, _)| (from..until).contains(offset))
            .map(|(offset, value)| ReadRecord { offset, value })
            .collect()
    }

    fn epochs(&self) -> Vec<EpochEntry> {
        let mut starts = BTreeMap::new();
        for entry in &self.log {
            let start = entry.base_offset.max(self.log_start);
            starts.entry(entry.leader_epoch).or_insert(start);
        }
        starts
            .into_iter()
            .map(|(epoch, start_offset)| EpochEntry { epoch, start_offset })
            .collect()
    }

    fn producers(&self) -> Vec<ProducerState> {
        let kept = self.log.len().saturating_sub(ProducerState::REMEMBERED_BATCHES);
        let batches: VecDeque<_> = self
            .log
            .range(kept..)
            .filter_map(|entry| {
                Some(RememberedBatch {
                    base_sequence: entry.producer?.base_sequence,
                    base_offset: entry.base_offset,
                    last_offset: entry.end_offset() - 1,
                    timestamp_ms: 0,
                })
            })
            .collect();
        let state = ProducerState {
            id: ProducerId(u64::from(self.id.partition.0)),
            epoch: ProducerEpoch(0),
            batches,
            last_timestamp_ms: 0,
        };
        if state.batches.is_empty() {
            Vec::new()
        } else {
            vec![state]
        }
    }
}
