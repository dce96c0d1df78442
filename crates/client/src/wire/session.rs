//! Groups.Session: a member's life in its group, one stream.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::{PartitionIndex, TopicId, TopicPartition};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Refusal, malformed, status_error};
use crate::connection::Channel;
use crate::error::Result;

/// A partition as a group assigns it: a topic that was made anew under its name is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Assigned {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
}

/// What a member says.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// First of all: to join with epoch 0, or to resume with the last epoch and everything still
    /// owned.
    Join(Box<JoinAsk>),
    Heartbeat {
        epoch: u32,
    },
    Revoked {
        epoch: u32,
        version: u64,
        owned: BTreeSet<Assigned>,
    },
    Leave {
        keep_instance: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct JoinAsk {
    pub(crate) group: String,
    pub(crate) member_id: String,
    pub(crate) epoch: u32,
    pub(crate) instance_id: Option<String>,
    pub(crate) subscription: Subscription,
    pub(crate) owned: BTreeSet<Assigned>,
    pub(crate) client_id: String,
    pub(crate) max_poll_interval: Duration,
}

/// What a member wants to read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<String>,
    pub(crate) topic_regex: Option<String>,
    pub(crate) assignor: String,
}

/// What a coordinator says.
#[derive(Debug)]
pub(crate) enum Heard {
    Joined {
        member_id: String,
        epoch: u32,
        heartbeat_interval: Duration,
        session_timeout: Duration,
    },
    Assignment {
        version: u64,
        epoch: u32,
        partitions: BTreeSet<Assigned>,
        unknown_topics: Vec<String>,
    },
    Heartbeat {
        epoch: u32,
    },
    Ended(Refusal),
}

/// The events of one stream.
pub(crate) struct Events(Streaming<v1::SessionEvent>);

impl Events {
    /// The next event; `None` when the coordinator ended the stream without a word. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Heard>> {
        loop {
            match self.0.message().await {
                // A newer broker's event that this client does not know is passed over.
                Ok(Some(message)) => {
                    if let Some(event) = message.event {
                        return heard(event).map(Some);
                    }
                }
                Ok(None) => return Ok(None),
                Err(status) => return Err(status_error(&status)),
            }
        }
    }
}

/// Opens a stream. The first message must be queued already: the broker answers nothing before it.
pub(crate) async fn session(channel: Channel, said: mpsc::Receiver<Said>) -> Result<Events> {
    let requests = ReceiverStream::new(said).map(request);
    let opened = super::groups::client(channel).session(requests).await;
    Ok(Events(
        opened.map_err(|status| status_error(&status))?.into_inner(),
    ))
}

fn request(said: Said) -> v1::SessionRequest {
    use v1::session_request::Request;
    let request = match said {
        Said::Join(join) => Request::Join(join_request(*join)),
        Said::Heartbeat { epoch } => Request::Heartbeat(v1::Heartbeat { member_epoch: epoch }),
        Said::Revoked {
            epoch,
            version,
            owned,
        } => Request::Revoked(v1::Revoked {
            member_epoch: epoch,
            assignment_version: version,
            owned: by_topic(&owned),
        }),
        Said::Leave { keep_instance } => Request::Leave(v1::Leave { keep_instance }),
    };
    v1::SessionRequest {
        request: Some(request),
    }
}

fn join_request(join: JoinAsk) -> v1::Join {
    v1::Join {
        group_id: join.group,
        member_id: join.member_id,
        member_epoch: join.epoch,
        instance_id: join.instance_id,
        subscription: Some(v1::Subscribe {
            topics: join.subscription.topics,
            topic_regex: join.subscription.topic_regex,
            assignor: join.subscription.assignor,
        }),
        owned: by_topic(&join.owned),
        client_id: join.client_id,
        max_poll_interval_ms: u32::try_from(join.max_poll_interval.as_millis()).unwrap_or(u32::MAX),
    }
}

fn heard(event: v1::session_event::Event) -> Result<Heard> {
    use v1::session_event::Event;
    Ok(match event {
        Event::Joined(joined) => Heard::Joined {
            member_id: joined.member_id,
            epoch: joined.member_epoch,
            heartbeat_interval: Duration::from_millis(joined.heartbeat_interval_ms.max(1).into()),
            session_timeout: Duration::from_millis(joined.session_timeout_ms.max(1).into()),
        },
        Event::Assignment(assignment) => Heard::Assignment {
            version: assignment.version,
            epoch: assignment.member_epoch,
            partitions: assigned(&assignment.partitions)?,
            unknown_topics: assignment.unknown_topics,
        },
        Event::Heartbeat(answer) => Heard::Heartbeat {
            epoch: answer.member_epoch,
        },
        Event::Ended(error) => Heard::Ended(error.into()),
    })
}

fn assigned(told: &[v1::TopicPartitions]) -> Result<BTreeSet<Assigned>> {
    let mut all = BTreeSet::new();
    for told in told {
        let topic: tidelog_types::TopicName = told.topic.parse().map_err(|_| malformed("a topic's name"))?;
        let topic_id = TopicId::from_slice(&told.topic_id).ok_or_else(|| malformed("a topic's id"))?;
        all.extend(told.partitions.iter().map(|partition| Assigned {
            partition: TopicPartition {
                topic: topic.clone(),
                partition: PartitionIndex(*partition),
            },
            topic_id,
        }));
    }
    Ok(all)
}

/// The same, the other way. The set's order has a topic's partitions side by side.
pub(super) fn by_topic(owned: &BTreeSet<Assigned>) -> Vec<v1::TopicPartitions> {
    let mut topics: Vec<v1::TopicPartitions> = Vec::new();
    for one in owned {
        let number = one.partition.partition.0;
        match topics.last_mut() {
            Some(last)
                if last.topic == one.partition.topic.as_str()
                    && last.topic_id.as_ref() == one.topic_id.as_bytes() =>
            {
                last.partitions.push(number);
            }
            _ => topics.push(v1::TopicPartitions {
                topic: one.partition.topic.to_string(),
                topic_id: super::id_bytes(one.topic_id),
                partitions: vec![number],
            }),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_partitions_go_by_topic_and_back() {
        let one = |topic: &str, id: u128, index| Assigned {
            partition: TopicPartition {
                topic: topic.parse().unwrap(),
                partition: PartitionIndex(index),
            },
            topic_id: TopicId(uuid::Uuid::from_u128(id)),
        };
        let all = BTreeSet::from([one("a", 1, 0), one("a", 1, 3), one("b", 2, 1)]);
        let told = by_topic(&all);
        assert_eq!(told.len(), 2);
        assert_eq!(assigned(&told).unwrap(), all);
    }
}
