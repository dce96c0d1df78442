//! The one place of this crate where protobuf is named: calls and their messages, turned into
//! domain types at the edge.

pub(crate) mod admin;
#[cfg(test)]
pub(crate) mod fake_consumer;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod log;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod session;

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_types::{
    BrokerId, ErrorCode, LeaderEpoch, PartitionError, PartitionIndex, TopicId, TopicPartition,
};
use tonic::{Code, Request, Status};

use crate::connection::Unanswered;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::LeaderHint;

/// A unary call's request with a deadline, which travels along and holds on this side too.
pub(crate) fn request<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// What to ask for after a page; `None` after the last.
pub(crate) fn next_page(token: String) -> Option<v1::PageRequest> {
    (!token.is_empty()).then_some(v1::PageRequest { size: 0, token })
}

/// Whether a broker refused a call because it belongs to another cluster than the call is meant
/// for.
fn is_of_other_cluster(status: &Status) -> bool {
    status.metadata().contains_key(tidelog_proto::keys::OTHER_CLUSTER)
}

/// A request-level failure.
pub(crate) fn status_error(status: &Status) -> Error {
    let broken = status.source().is_some();
    let kind = match status.code() {
        // That address is none of our brokers' any more: others are asked, and the metadata tell
        // when there are none.
        Code::FailedPrecondition if is_of_other_cluster(status) => ErrorKind::Unreachable,
        Code::Unavailable => ErrorKind::Unreachable,
        Code::DeadlineExceeded => ErrorKind::TimedOut,
        // What tonic says of a timeout on this side, and of a call that the broker dropped.
        Code::Cancelled => ErrorKind::TimedOut,
        Code::Unknown | Code::Internal if broken => ErrorKind::Unreachable,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => ErrorKind::InvalidArgument,
        _ => ErrorKind::Refused(ErrorCode::UnknownServerError),
    };
    // Says by itself which call was not answered, by whom and why.
    if let Some(unanswered) = status
        .source()
        .and_then(|source| source.downcast_ref::<Unanswered>())
    {
        return Error::new(kind, unanswered.to_string());
    }
    let cause = root_cause(status);
    match (status.message(), cause) {
        ("", None) => Error::new(kind, status.code().description()),
        (message, Some(cause)) if cause != message => Error::new(kind, format!("{message}: {cause}")),
        (message, _) => Error::new(kind, message),
    }
}

/// "tcp connect error" says less than "Connection refused".
fn root_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// A partition-level refusal, with the leader that the broker named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) leader: Option<LeaderHint>,
}

impl Refusal {
    pub(crate) fn new(error: Error) -> Self {
        Self { error, leader: None }
    }
}

impl From<v1::Error> for Refusal {
    fn from(mut error: v1::Error) -> Self {
        let leader = error.leader.take().and_then(hint);
        Self {
            error: PartitionError::from(error).into(),
            leader,
        }
    }
}

pub(crate) fn hint(leader: v1::Leader) -> Option<LeaderHint> {
    Some(LeaderHint {
        broker: BrokerId::new(leader.broker_id)?,
        epoch: LeaderEpoch(leader.leader_epoch),
        address: leader.address,
    })
}

/// An answer unless it carries an error.
pub(crate) fn accepted(error: Option<v1::Error>) -> Result<()> {
    match error {
        Some(error) => Err(Refusal::from(error).error),
        None => Ok(()),
    }
}

/// The same, keeping who leads instead.
fn refused(error: Option<v1::Error>) -> Result<(), Refusal> {
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// A topic's id as it stands in requests.
fn id_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// An answer that no broker should give.
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the broker's answer does not parse: {what}"),
    )
}

fn topic_partition(topic: &str, partition: u32) -> Result<TopicPartition> {
    let topic = topic.parse().map_err(|_| malformed("a topic's name"))?;
    Ok(TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_code_sentence_and_leader() {
        let refusal = Refusal::from(v1::Error {
            code: 6,
            message: "broker 2 leads".into(),
            leader: Some(v1::Leader {
                broker_id: 2,
                leader_epoch: 9,
                address: "two:7171".into(),
            }),
        });
        assert_eq!(refusal.error.code(), Some(ErrorCode::NotLeaderOrFollower));
        let leader = refusal.leader.unwrap();
        assert_eq!(
            (leader.broker.get(), leader.epoch, leader.address.as_str()),
            (2, LeaderEpoch(9), "two:7171")
        );
    }

    #[test]
    fn statuses_become_kinds_to_act_upon() {
        let kind = |code| status_error(&Status::new(code, "x")).kind();
        assert_eq!(kind(Code::Unavailable), ErrorKind::Unreachable);
        assert_eq!(kind(Code::DeadlineExceeded), ErrorKind::TimedOut);
        assert_eq!(kind(Code::PermissionDenied), ErrorKind::Denied);
        assert_eq!(kind(Code::InvalidArgument), ErrorKind::InvalidArgument);
        assert_eq!(
            kind(Code::Internal),
            ErrorKind::Refused(ErrorCode::UnknownServerError)
        );
    }
}
