//! A member's stream, as the test sees it: from the coordinator's side.

use tidelog_proto::v1;
use tidelog_proto::v1::session_event::Event;
use tidelog_proto::v1::session_request::Request;
use tokio::sync::mpsc;
use tonic::Status;

use super::{refusal, topic_id};

pub(crate) type Events = mpsc::UnboundedSender<Result<v1::SessionEvent, Status>>;

pub(crate) struct FakeSession {
    pub(crate) broker: u32,
    pub(crate) join: v1::Join,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) events: Events,
    pub(crate) epoch: u32,
}

impl FakeSession {
    pub(crate) fn joined(&self, epoch: u32) {
        self.joined_with(epoch, 50, 45_000);
    }

    pub(crate) fn joined_with(&self, epoch: u32, heartbeat_ms: u32, session_ms: u32) {
        self.tell(Event::Joined(v1::Joined {
            member_id: self.join.member_id.clone(),
            member_epoch: epoch,
            heartbeat_interval_ms: heartbeat_ms,
            session_timeout_ms: session_ms,
        }));
    }

    pub(crate) fn assign(&self, version: u64, epoch: u32, partitions: &[(&str, u32)]) {
        let one = |(topic, index): &(&str, u32)| v1::TopicPartitions {
            topic: (*topic).to_owned(),
            topic_id: bytes::Bytes::copy_from_slice(topic_id(topic).as_bytes()),
            partitions: vec![*index],
        };
        self.tell(Event::Assignment(v1::Assignment {
            version,
            member_epoch: epoch,
            partitions: partitions.iter().map(one).collect(),
            unknown_topics: Vec::new(),
        }));
    }

    pub(crate) fn end(self, code: i32) {
        self.tell(Event::Ended(refusal(code)));
    }

    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(Ok(v1::SessionEvent { event: Some(event) }));
    }

    /// The next message that is no heartbeat; heartbeats are answered.
    pub(crate) async fn next(&mut self) -> Option<Request> {
        loop {
            match self.requests.recv().await? {
                Request::Heartbeat(heartbeat) => self.tell(Event::Heartbeat(v1::HeartbeatAnswer {
                    member_epoch: self.epoch.max(heartbeat.member_epoch),
                })),
                other => return Some(other),
            }
        }
    }

    /// The next message, which gives something up: the version it answers and what is still owned.
    pub(crate) async fn revoked(&mut self) -> (u64, Vec<(String, u32)>) {
        match self.next().await {
            Some(Request::Revoked(revoked)) => (revoked.assignment_version, owned(&revoked.owned)),
            other => panic!("Revoked was expected, and not {other:?}"),
        }
    }

    /// Answers heartbeats for as long as the stream lives.
    pub(crate) fn keep_alive(mut self) {
        tokio::spawn(async move { while self.next().await.is_some() {} });
    }
}

pub(crate) fn owned(told: &[v1::TopicPartitions]) -> Vec<(String, u32)> {
    let of_topic = |told: &v1::TopicPartitions| {
        let topic = told.topic.clone();
        let numbers = told.partitions.clone();
        numbers.into_iter().map(move |index| (topic.clone(), index))
    };
    told.iter().flat_map(of_topic).collect()
}
