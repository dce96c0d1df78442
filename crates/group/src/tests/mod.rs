//! A coordinator with a log beside it, and shorthand for what members say.

mod commits;
mod members;
mod random;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_coordinator::{Machine as _, Now};
use tidelog_types::{GroupId, Offset, PartitionIndex, TopicId, TopicIdPartition, TopicName};

use crate::*;

pub(crate) fn topic_id(n: u8) -> TopicId {
    TopicId::from_slice(&[n; 16]).unwrap()
}

pub(crate) fn member_id(n: u8) -> MemberId {
    format!("member-{n}").parse().unwrap()
}

pub(crate) fn name(name: &str) -> TopicName {
    name.parse().unwrap()
}

pub(crate) fn group_id() -> GroupId {
    "g".parse().unwrap()
}

/// Topics t1, t2 … with these partition counts.
pub(crate) fn topics(counts: &[u32]) -> Arc<Topics> {
    let topic = |(i, count): (usize, &u32)| {
        let n = i as u8 + 1;
        (
            name(&format!("t{n}")),
            Topic {
                id: topic_id(n),
                partition_count: *count,
            },
        )
    };
    Arc::new(Topics::new(counts.iter().enumerate().map(topic)))
}

pub(crate) fn p(topic: u8, partition: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: topic_id(topic),
        partition: PartitionIndex(partition),
    }
}

pub(crate) fn set(partitions: &[TopicIdPartition]) -> BTreeSet<TopicIdPartition> {
    partitions.iter().copied().collect()
}

pub(crate) fn subscription(names: &[&str]) -> Subscription {
    let names = names.iter().map(|n| name(n)).collect();
    Subscription::new(names, None, AssignorName::Uniform).unwrap()
}

pub(crate) fn join(member: u8) -> Join {
    Join {
        group: group_id(),
        member: member_id(member),
        epoch: MemberEpoch::NONE,
        instance_id: None,
        subscription: subscription(&["t1"]),
        owned: BTreeSet::new(),
        client_id: "test".to_owned(),
        client_host: "127.0.0.1".to_owned(),
        max_poll_interval: Duration::from_mins(1),
    }
}

/// A coordinator, its log, and a log that replicates at once unless told to hold.
pub(crate) struct Bench {
    pub(crate) coordinator: Coordinator,
    pub(crate) log: Vec<(Record, Offset)>,
    pub(crate) high_watermark: Offset,
    pub(crate) hold: bool,
    pub(crate) now: Now,
    pub(crate) topics: Arc<Topics>,
}

impl Bench {
    pub(crate) fn new(counts: &[u32]) -> Self {
        let now = Now {
            monotonic: Duration::from_secs(1000),
            wall_ms: 1_000_000,
        };
        let topics = topics(counts);
        let mut coordinator = Coordinator::new(GroupConfig::default(), Arc::clone(&topics));
        coordinator.start(Offset::ZERO, now);
        Self {
            coordinator,
            log: Vec::new(),
            high_watermark: Offset::ZERO,
            hold: false,
            now,
            topics,
        }
    }

    /// Decides, appends, applies, and replicates unless held; what the world is told.
    pub(crate) fn run(&mut self, command: Command) -> Vec<Effect> {
        let decision = self.coordinator.decide(&command, self.now);
        let mut end = None;
        for record in &decision.records {
            let next = Offset(self.log.len() as u64 + 1);
            self.log.push((record.clone(), next));
            end = Some(next);
        }
        self.coordinator.apply(decision, end, self.now);
        if self.hold {
            self.coordinator.advance(self.high_watermark)
        } else {
            self.replicate()
        }
    }

    pub(crate) fn replicate(&mut self) -> Vec<Effect> {
        self.high_watermark = Offset(self.log.len() as u64);
        self.coordinator.advance(self.high_watermark)
    }

    /// Runs everything that is due by itself.
    pub(crate) fn run_due(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(command) = self.coordinator.due(self.now) {
            effects.extend(self.run(command));
        }
        effects
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now.monotonic += time;
        self.now.wall_ms += time.as_millis() as i64;
        self.run_due()
    }

    pub(crate) fn set_topics(&mut self, counts: &[u32]) -> Vec<Effect> {
        self.topics = topics(counts);
        self.coordinator.set_topics(Arc::clone(&self.topics));
        self.run_due()
    }

    /// Another broker takes over, with what was replicated and nothing else.
    pub(crate) fn fail_over(&mut self) {
        self.log.truncate(self.high_watermark.0 as usize);
        let mut next = Coordinator::new(GroupConfig::default(), Arc::clone(&self.topics));
        for (record, _) in &self.log {
            next.replay(record);
        }
        next.start(Offset(self.log.len() as u64), self.now);
        self.coordinator = next;
    }

    pub(crate) fn join(&mut self, stream: u64, join: Join) -> Vec<Effect> {
        self.run(Command::Join {
            stream: StreamId(stream),
            join: Box::new(join),
        })
    }

    pub(crate) fn revoked(&mut self, stream: u64, version: u64, owned: &[TopicIdPartition]) -> Vec<Effect> {
        let version = AssignmentVersion(version);
        self.run(Command::Revoked {
            stream: StreamId(stream),
            version,
            owned: set(owned),
        })
    }

    pub(crate) fn heartbeat(&mut self, stream: u64, epoch: u32) -> Vec<Effect> {
        self.run(Command::Heartbeat {
            stream: StreamId(stream),
            epoch: MemberEpoch(epoch),
        })
    }

    /// The topic t1 is deleted and made anew with another id.
    pub(crate) fn recreate(&mut self, id: u8, partition_count: u32) -> Vec<Effect> {
        let topic = Topic {
            id: topic_id(id),
            partition_count,
        };
        self.topics = Arc::new(Topics::new([(name("t1"), topic)]));
        self.coordinator.set_topics(Arc::clone(&self.topics));
        self.run_due()
    }

    pub(crate) fn commit(&mut self, member: Option<(u8, u32)>, offsets: &[(&str, u32, u64)]) -> Vec<Effect> {
        let offset =
            |(topic, partition, offset): &(&str, u32, u64)| to_commit(topic, None, *partition, *offset);
        self.commit_all(member, offsets.iter().map(offset).collect())
    }

    pub(crate) fn commit_all(
        &mut self,
        member: Option<(u8, u32)>,
        offsets: Vec<OffsetToCommit>,
    ) -> Vec<Effect> {
        self.run(Command::Commit {
            request: RequestId(1),
            group: group_id(),
            member: member.map(|(member, epoch)| (member_id(member), MemberEpoch(epoch))),
            offsets,
        })
    }

    pub(crate) fn committed(&self, partition: TopicIdPartition) -> Option<u64> {
        self.coordinator
            .committed()
            .offset(&group_id(), partition)
            .map(|committed| committed.offset.0)
    }
}

pub(crate) fn to_commit(topic: &str, id: Option<u8>, partition: u32, offset: u64) -> OffsetToCommit {
    OffsetToCommit {
        topic: name(topic),
        topic_id: id.map(topic_id),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        leader_epoch: None,
        metadata: String::new(),
    }
}

pub(crate) fn joined(stream: u64, member: u8, epoch: u32) -> Effect {
    Effect::Joined {
        stream: StreamId(stream),
        member: member_id(member),
        epoch: MemberEpoch(epoch),
    }
}

pub(crate) fn assign(stream: u64, version: u64, epoch: u32, partitions: &[TopicIdPartition]) -> Effect {
    Effect::Assign {
        stream: StreamId(stream),
        version: AssignmentVersion(version),
        epoch: MemberEpoch(epoch),
        partitions: Arc::new(set(partitions)),
        unknown_topics: Vec::new(),
    }
}

/// The code that a refusal carries, of a reply or of a stream's end.
pub(crate) fn refusal(effects: &[Effect]) -> Option<tidelog_types::ErrorCode> {
    effects.iter().find_map(|effect| match effect {
        Effect::End {
            error: Some(error), ..
        } => Some(error.code),
        Effect::Reply {
            reply: Reply::Committed(Err(error)) | Reply::Deleted(Err(error)),
            ..
        } => Some(error.code),
        Effect::Reply {
            reply: Reply::Committed(Ok(failures)),
            ..
        } => failures.first().map(|failure| failure.error.code),
        _ => None,
    })
}
