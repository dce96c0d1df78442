//! The one error type of this crate: what went wrong, and what a caller may do about it.

use std::fmt;
use std::sync::Arc;

use tidelog_types::{ErrorCode, InvalidName, PartitionError, TopicName};

/// What a caller does about an [`Error`].
///
/// An error of a *passing* kind ([`Error::is_retriable`]) is told only after the client itself has
/// tried for as long as the call may take, with growing pauses; the same call may succeed later. A
/// *final* one will be the same next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The cluster refused, with Kafka's code. Passing or final as the code is: see
    /// [`ErrorCode::is_retriable`]; but what is meant for a topic that was deleted, or that does
    /// not exist though it was waited for, is final.
    Refused(ErrorCode),
    /// No broker could be reached: check the bootstrap addresses and the network. Passing.
    Unreachable,
    /// Not done within its time. [`Error::maybe_written`] says whether a record may be in the log
    /// all the same. Passing.
    TimedOut,
    /// The producer or consumer was closed: make another one. Final.
    Closed,
    /// The producer's buffer is full: wait, or use the call that waits. Passing.
    BufferFull,
    /// The call contradicts itself or the topic: mend the caller. Final.
    InvalidArgument,
    /// What was read fails its checksum or does not parse: tell the cluster's operator. Final.
    Corrupt,
    /// The cluster does not let this client do that. Final.
    Denied,
    /// The broker does not know this call: it is older than the client. Final.
    Unsupported,
    /// Brokers of another cluster answer at this client's addresses, and none of its own: the
    /// addresses are wrong, or the cluster was replaced. The message names both clusters' ids. A
    /// client never changes its cluster: check the addresses, then make another client. Final.
    ForeignCluster,
}

/// Why something failed. Cheap to clone: every record of a failed batch carries the same.
///
/// ```
/// use tidelog_client::{Error, ErrorKind};
///
/// fn worth_another_try(error: &Error) -> bool {
///     // A record that may have been written would stand twice if a program sent it again by itself.
///     error.is_retriable() && !error.maybe_written()
/// }
/// assert!(!worth_another_try(&Error::new(ErrorKind::Closed, "the producer was closed")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
    maybe_written: bool,
    /// Whether it will stay so, though its code speaks of what may pass.
    is_final: bool,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind; nothing was written.
    pub fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            maybe_written: false,
            is_final: false,
        }
    }

    /// The same, for good: what might have passed was waited for, or is known to stay.
    #[must_use]
    pub(crate) fn for_good(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// The same; for good if it says that a topic or partition does not exist, which was waited for
    /// in vain.
    #[must_use]
    pub(crate) fn unknown_for_good(self) -> Self {
        if self.is_unknown_topic() {
            self.for_good()
        } else {
            self
        }
    }

    /// Whether it says that there is no such topic or partition, or none with the id that was
    /// meant.
    pub(crate) fn is_unknown_topic(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
        )
    }

    /// The same, saying whether the record may stand in the log all the same.
    #[must_use]
    pub fn with_maybe_written(mut self, maybe_written: bool) -> Self {
        self.maybe_written = maybe_written;
        self
    }

    /// The same, its sentence prefixed by what was being done, or to what; unless it names that
    /// already.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        let what = what.to_string();
        if !names(&self.message, &what) {
            self.message = format!("{what}: {}", self.message).into();
        }
        self
    }

    /// What a caller does about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Kafka's code, where the cluster refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.kind {
            ErrorKind::Refused(code) => Some(code),
            _ => None,
        }
    }

    /// What happened, without the code's name.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later. For a send it does not mean that a second one is
    /// harmless: see [`Error::maybe_written`].
    ///
    /// It never says so for ever: that a topic does not exist is retriable only while brokers may
    /// merely not have heard of it, and what was meant for a topic that was deleted since fails for
    /// good.
    pub fn is_retriable(&self) -> bool {
        match self.kind {
            _ if self.is_final => false,
            ErrorKind::Refused(code) => code.is_retriable(),
            ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::BufferFull => true,
            _ => false,
        }
    }

    /// Whether the record may have been written although the call failed: a timeout after sending,
    /// or a refusal after the append. Where it is false, the record is certainly not in the log.
    pub fn maybe_written(&self) -> bool {
        self.maybe_written
    }

    /// Whether the client's picture of the cluster was old. The client refreshes it by itself.
    pub fn needs_metadata(&self) -> bool {
        match self.kind {
            ErrorKind::Refused(code) => code.needs_metadata(),
            ErrorKind::Unreachable => true,
            _ => false,
        }
    }

    /// The same, naming the topic; unless it names that already.
    #[must_use]
    pub(crate) fn about_topic(self, topic: &TopicName) -> Self {
        if names(&self.message, topic.as_str()) {
            return self;
        }
        self.context(format!("topic {topic}"))
    }

    /// Whether nobody answered.
    pub(crate) fn is_lost_connection(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::TimedOut)
    }

    pub(crate) fn invalid(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }
}

impl From<PartitionError> for Error {
    fn from(error: PartitionError) -> Self {
        Self::new(ErrorKind::Refused(error.code), error.message)
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::invalid(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ErrorKind::Refused(code) = self.kind {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        // Brokers say so in their own words.
        if self.maybe_written && !self.message.contains("may or may not") {
            f.write_str(" (it may have been written)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Whether a sentence has these words, and not as a part of longer ones.
fn names(sentence: &str, what: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_'));
    sentence.match_indices(what).any(|(at, _)| {
        ends(sentence[..at].chars().next_back()) && ends(sentence[at + what.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_takes_its_character_from_the_code() {
        let refused = |code| Error::from(PartitionError::new(code, "because"));
        let moved = refused(ErrorCode::NotLeaderOrFollower);
        assert!(moved.is_retriable() && moved.needs_metadata());
        let large = refused(ErrorCode::MessageTooLarge);
        assert!(!large.is_retriable() && !large.needs_metadata() && !large.maybe_written());
        assert_eq!(large.to_string(), "MESSAGE_TOO_LARGE: because");
    }

    #[test]
    fn what_a_sentence_names_is_not_said_twice() {
        let context = |message: &str, what: &str| {
            let error = Error::new(ErrorKind::Unreachable, message).context(what);
            error.message().to_owned()
        };
        assert_eq!(context("there is no group g", "group g"), "there is no group g");
        assert_eq!(context("one:7171: refused", "one:7171"), "one:7171: refused");
        assert_eq!(context("refused", "one:7171"), "one:7171: refused");
        assert_eq!(context("t-10 is damaged", "t-1"), "t-1: t-10 is damaged");
        assert_eq!(context("not-t-1 is damaged", "t-1"), "t-1: not-t-1 is damaged");
        let topic = |message: &str| {
            let error = Error::new(ErrorKind::Unreachable, message);
            error.about_topic(&"orders".parse().unwrap()).message().to_owned()
        };
        assert_eq!(
            topic("topic \"orders\" does not exist"),
            "topic \"orders\" does not exist"
        );
        assert_eq!(topic("nobody answers"), "topic orders: nobody answers");
    }

    #[test]
    fn what_may_have_been_written_is_said() {
        let error = Error::new(ErrorKind::TimedOut, "no answer within 30 s").with_maybe_written(true);
        assert_eq!(
            error.to_string(),
            "no answer within 30 s (it may have been written)"
        );
        assert_eq!(
            error.context("orders-3").message(),
            "orders-3: no answer within 30 s"
        );
        let told = "the records may or may not have been written";
        let error = Error::new(ErrorKind::TimedOut, told).with_maybe_written(true);
        assert_eq!(error.to_string(), told);
    }
}
