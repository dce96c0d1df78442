//! What the events of a history add up to, as far as more than one invariant asks for it.

mod committed;
mod compared;
mod partition;
mod replica;

use std::time::Duration;

use tidelog_types::{BrokerId, DirectoryId, LeaderEpoch, Offset, TopicId, TopicIdPartition};

use crate::event::{SendId, Sender, Value, What};
use crate::hash::Map;
use crate::paged::Paged;

pub(crate) use compared::Compared;
pub(crate) use partition::Partition;
pub(crate) use replica::{Floor, Replica};

/// An event, and its place in the history.
pub(crate) struct Moment<'a> {
    /// Its number, from 0.
    pub(crate) position: usize,
    pub(crate) at: Duration,
    pub(crate) what: &'a What,
}

/// What is wrong, where, and with which earlier event it collides.
pub(crate) type Verdict = Result<(), String>;

/// Everything known at a moment.
#[derive(Default)]
pub(crate) struct World {
    sends: Map<SendId, Send>,
    /// Which send a value belongs to, and its place in there.
    owners: Paged<(SendId, u32)>,
    partitions: Map<TopicIdPartition, Partition>,
    /// Whether each topic allows a leader that may lack acknowledged records, where anybody said
    /// so.
    unclean_election: Map<TopicId, bool>,
    compared: Compared,
    disks: Map<BrokerId, Disk>,
}

/// A send, and what its sender knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) sender: Sender,
    pub(crate) partition: TopicIdPartition,
    pub(crate) values: Vec<Value>,
    pub(crate) idempotent: bool,
    /// The number of the event by which it began.
    pub(crate) began: usize,
    pub(crate) outcome: Outcome,
}

/// What a sender knows of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Acknowledged {
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        position: usize,
    },
    Refused {
        position: usize,
    },
    Unknown,
}

/// A broker's disk.
#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    directory: Option<DirectoryId>,
    /// It was lost, and the broker has not registered with another one yet.
    is_lost: bool,
}

impl World {
    pub(crate) fn send(&self, send: SendId) -> Option<&Send> {
        self.sends.get(&send)
    }

    /// The send that a value belongs to, and the value's place in it.
    pub(crate) fn sent(&self, value: Value) -> Option<(SendId, &Send, usize)> {
        let (send, index) = self.owners.get(value.0)?;
        Some((send, self.sends.get(&send)?, index as usize))
    }

    pub(crate) fn partition(&self, partition: TopicIdPartition) -> Option<&Partition> {
        self.partitions.get(&partition)
    }

    /// A partition that is known, unless an unclean election gave up what rests on its committed
    /// records staying.
    pub(crate) fn judged(&self, partition: TopicIdPartition) -> Option<&Partition> {
        self.partition(partition).filter(|known| !known.is_unclean)
    }

    /// Whether a topic would rather have a leader that may lack acknowledged records than none.
    pub(crate) fn allows_unclean(&self, topic: TopicId) -> bool {
        self.unclean_election.get(&topic).copied().unwrap_or_default()
    }

    /// What the last event showed of its replica and the committed log.
    pub(crate) fn compared(&self) -> &Compared {
        &self.compared
    }

    /// Shows the values that an event places at offsets of a partition that is judged: those of an
    /// acknowledgement, of a read, of what a high watermark commits. The event is part of the world
    /// already.
    pub(crate) fn show_placed(
        &self,
        what: &What,
        look: impl FnOnce(TopicIdPartition, &mut dyn Iterator<Item = (Offset, Value)>) -> Verdict,
    ) -> Verdict {
        let judged = |partition: TopicIdPartition| self.judged(partition).is_some();
        match what {
            What::SendAcknowledged {
                send, base_offset, ..
            } => match self.send(*send).filter(|send| judged(send.partition)) {
                Some(send) => look(send.partition, &mut in_a_row(*base_offset, &send.values)),
                None => Ok(()),
            },
            What::Read {
                partition, records, ..
            }
            | What::ReadToEnd {
                partition, records, ..
            } if judged(*partition) => {
                let mut placed = records.iter().map(|record| (record.offset, record.value));
                look(*partition, &mut placed)
            }
            What::HighWatermark { partition, .. } if judged(*partition) => {
                let committed = self.compared.committed.iter();
                let mut placed = committed.flat_map(|entry| in_a_row(entry.base_offset, &entry.values));
                look(*partition, &mut placed)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn replica(&self, partition: TopicIdPartition, broker: BrokerId) -> Option<&Replica> {
        self.partition(partition)?.replicas.get(&broker)
    }

    /// Whether the broker's disk is lost and metadata cannot know of it yet.
    pub(crate) fn is_disk_lost(&self, broker: BrokerId) -> bool {
        self.disks.get(&broker).is_some_and(|disk| disk.is_lost)
    }

    /// Takes an event that the checks have seen.
    pub(crate) fn apply(&mut self, moment: &Moment<'_>) {
        self.compared = Compared::default();
        self.apply_to_clients(moment);
        self.apply_to_logs(moment.what);
        self.apply_to_metadata(moment.what);
    }

    fn apply_to_clients(&mut self, moment: &Moment<'_>) {
        match moment.what {
            What::SendBegan {
                sender,
                send,
                partition,
                values,
                idempotent,
            } => {
                for (value, index) in values.iter().zip(0..) {
                    self.owners.insert(value.0, (*send, index));
                }
                let began = Send {
                    sender: *sender,
                    partition: *partition,
                    values: values.clone(),
                    idempotent: *idempotent,
                    began: moment.position,
                    outcome: Outcome::Pending,
                };
                self.sends.insert(*send, began);
            }
            What::SendAcknowledged {
                send,
                base_offset,
                leader_epoch,
            } => {
                let outcome = Outcome::Acknowledged {
                    base_offset: *base_offset,
                    leader_epoch: *leader_epoch,
                    position: moment.position,
                };
                if let Some(partition) = self.ended(*send, outcome) {
                    self.at(partition).acknowledged.insert(*base_offset, *send);
                }
            }
            What::SendRefused { send } => {
                let position = moment.position;
                self.ended(*send, Outcome::Refused { position });
            }
            What::SendUnknown { send } => {
                self.ended(*send, Outcome::Unknown);
            }
            What::Read {
                partition, log_start, ..
            }
            | What::ReadToEnd {
                partition, log_start, ..
            } => self.at(*partition).begins(*log_start),
            _ => {}
        }
    }

    fn ended(&mut self, send: SendId, outcome: Outcome) -> Option<TopicIdPartition> {
        let send = self.sends.get_mut(&send)?;
        send.outcome = outcome;
        Some(send.partition)
    }

    fn apply_to_logs(&mut self, what: &What) {
        match what {
            What::Recovered {
                broker,
                partition,
                log_start,
                log,
            } => {
                let partition = self.at(*partition);
                partition.begins(*log_start);
                partition.replica(*broker).recover(*log_start, log);
            }
            What::Leads {
                broker,
                partition,
                epoch,
                ..
            } => self.compared = self.at(*partition).lead(*broker, *epoch),
            What::Appended {
                broker,
                partition,
                entry,
                ..
            } => self.at(*partition).replica(*broker).append(entry),
            What::Durable {
                broker,
                partition,
                end,
            } => self.at(*partition).replica(*broker).sync(*end),
            What::Truncated {
                broker,
                partition,
                to,
            } => self.at(*partition).replica(*broker).truncate(*to),
            What::Trimmed {
                broker,
                partition,
                log_start,
            } => {
                let partition = self.at(*partition);
                partition.begins(*log_start);
                partition.replica(*broker).trim(*log_start);
            }
            What::HighWatermark {
                broker,
                partition,
                epoch,
                to,
                leading,
            } => self.compared = self.at(*partition).commit(*broker, *epoch, *to, *leading),
            _ => {}
        }
    }

    fn apply_to_metadata(&mut self, what: &What) {
        match what {
            What::DiskLost { broker, .. } => {
                self.disks.entry(*broker).or_default().is_lost = true;
                for partition in self.partitions.values_mut() {
                    partition.lose_disk(*broker);
                }
            }
            What::Registered {
                partition,
                registration,
            } => {
                let may_be_unclean = self.allows_unclean(partition.topic_id);
                self.at(*partition).register(registration, may_be_unclean);
            }
            What::UncleanElection { topic, allowed } => {
                self.unclean_election.insert(*topic, *allowed);
            }
            What::BrokerRegistered {
                broker, directory, ..
            } => {
                let disk = self.disks.entry(*broker).or_default();
                // Without an earlier registration this one is the first that can name the new
                // directory.
                if disk.directory != Some(*directory) {
                    disk.is_lost = false;
                }
                disk.directory = Some(*directory);
            }
            _ => {}
        }
    }

    fn at(&mut self, partition: TopicIdPartition) -> &mut Partition {
        self.partitions.entry(partition).or_default()
    }
}

/// Values at consecutive offsets.
fn in_a_row(base_offset: Offset, values: &[Value]) -> impl Iterator<Item = (Offset, Value)> {
    (base_offset.0..).map(Offset).zip(values.iter().copied())
}
