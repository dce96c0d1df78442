//! A consumer that is no member: it commits offsets of several partitions at once, asks for them,
//! and deletes its group.

use std::time::Duration;

use tidelog_group::OffsetToCommit;
use tidelog_history::What;
use tidelog_history::event::{CommitResult, Name, Request};
use tidelog_types::{ErrorCode, GroupId, Offset, TopicIdPartition};

use super::leaders::{Leaders, Question};
use crate::broker::partition_of;
use crate::context::Context;
use crate::message::{Address, Answer, Ask, Message};
use crate::network::Heard;
use crate::recorder::name;

const GROUP: &str = "keeper";
/// How long a commit or deletion may wait for replication.
const WAIT: Duration = Duration::from_secs(3);

/// What is asked.
enum About {
    Commit(Vec<Request>),
    Delete(Vec<Request>),
    Offset(Request),
}

/// The consumer, with one request at a time.
pub(super) struct Keeper {
    address: Address,
    group: GroupId,
    leaders: Leaders,
    asked: Option<Question<About>>,
    ask_at: Duration,
    next_offset: u64,
}

impl Keeper {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            group: GROUP.parse().expect("a group's id"),
            leaders: Leaders::default(),
            asked: None,
            ask_at: Duration::ZERO,
            next_offset: 1,
        }
    }

    pub(super) fn tick(&mut self, context: &mut Context) {
        self.leaders.refresh(self.address, context);
        if let Some(late) = self.asked.take_if(|asked| asked.is_over(context)) {
            self.leaders.refused(self.coordinator(context), None);
            settle(&late.about, CommitResult::Unknown, context);
        }
        if self.asked.is_some() || self.ask_at > context.now {
            return;
        }
        self.ask_at = context.now + context.random.millis(50, 600);
        let Some((leader, _)) = self.leaders.of(self.coordinator(context)) else {
            return;
        };
        let (ask, about, wait) = match context.random.below(10) {
            0..5 => self.commit(context),
            5..7 => self.delete(context),
            _ => self.ask_offset(context),
        };
        self.asked = Some(Question::ask(self.address, leader, ask, wait, about, context));
    }

    pub(super) fn hear(&mut self, heard: Heard, context: &mut Context) {
        let Heard::Datagram(_, Message::Answer { id, answer }) = heard else {
            return;
        };
        if self.leaders.take(id, &answer) {
            return;
        }
        let Some(asked) = self.asked.take_if(|asked| asked.is_answered_by(id)) else {
            return;
        };
        context.history.seen.operations += 1;
        if let Answer::Refused(error) = &answer {
            self.leaders.refused(self.coordinator(context), Some(error));
        }
        answered(&asked.about, answer, context);
    }

    fn commit(&mut self, context: &mut Context) -> (Ask, About, Duration) {
        let (mut offsets, mut requests) = (Vec::new(), Vec::new());
        for topic in context.config.topics.clone() {
            for partition in topic.iter() {
                if context.random.per_mille(300) {
                    continue;
                }
                let offset = Offset(self.next_offset);
                self.next_offset += 1;
                requests.push(begin(partition, Some(offset), context));
                offsets.push(OffsetToCommit {
                    topic: topic.name.clone(),
                    topic_id: Some(topic.id),
                    partition: partition.partition,
                    offset,
                    leader_epoch: None,
                    metadata: String::new(),
                });
            }
        }
        let ask = Ask::Commit {
            group: self.group.clone(),
            member: None,
            offsets,
        };
        (ask, About::Commit(requests), WAIT)
    }

    fn delete(&self, context: &mut Context) -> (Ask, About, Duration) {
        let partitions = context.config.partitions();
        let requests = partitions
            .into_iter()
            .map(|partition| begin(partition, None, context))
            .collect();
        let ask = Ask::DeleteGroup(self.group.clone());
        (ask, About::Delete(requests), WAIT)
    }

    fn ask_offset(&self, context: &mut Context) -> (Ask, About, Duration) {
        let partitions = context.config.partitions();
        let partition = context.random.pick(&partitions).expect("a run has partitions");
        let request = Request(context.fresh());
        context.record(What::OffsetAsked {
            request,
            group: group(),
            partition,
        });
        let ask = Ask::Offsets {
            group: self.group.clone(),
            member: None,
            partition,
        };
        (ask, About::Offset(request), Duration::ZERO)
    }

    fn coordinator(&self, context: &Context) -> TopicIdPartition {
        let topic = &context.config.offsets_topic;
        TopicIdPartition {
            topic_id: topic.id,
            partition: partition_of(&self.group, topic.partitions),
        }
    }
}

fn group() -> Name {
    name(GROUP)
}

fn begin(partition: TopicIdPartition, offset: Option<Offset>, context: &mut Context) -> Request {
    let request = Request(context.fresh());
    context.record(What::CommitBegan {
        request,
        group: group(),
        partition,
        offset,
    });
    request
}

fn answered(about: &About, answer: Answer, context: &mut Context) {
    match (about, answer) {
        (About::Offset(request), Answer::Offset(offset)) => {
            context.record(What::OffsetAnswered {
                request: *request,
                offset,
            });
        }
        (About::Commit(_), Answer::Committed(failures)) if failures.is_empty() => {
            context.history.seen.commits += 1;
            settle(about, CommitResult::Acknowledged, context);
        }
        // Its topics are not known to the coordinator yet.
        (About::Commit(_), Answer::Committed(_)) => settle(about, CommitResult::Unknown, context),
        (About::Delete(_), Answer::Done) => {
            context.history.seen.deleted_groups += 1;
            settle(about, CommitResult::Acknowledged, context);
        }
        // There is no such group: nothing was deleted.
        (About::Delete(_), Answer::Refused(error)) if error.code == ErrorCode::GroupIdNotFound => {
            settle(about, CommitResult::Refused, context);
        }
        // A part of a group may be deleted when the rest is refused.
        _ => settle(about, CommitResult::Unknown, context),
    }
}

fn settle(about: &About, result: CommitResult, context: &mut Context) {
    if let About::Commit(requests) | About::Delete(requests) = about {
        for request in requests {
            let request = *request;
            context.record(What::CommitEnded { request, result });
        }
    }
}
