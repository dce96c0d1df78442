//! How the program ends: exit codes, and the one line that says why.

use std::fmt;
use std::io;
use std::process::ExitCode;

use tidelog_client::{ErrorCode, ErrorKind};

/// The exit codes, documented in `tidelog --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage; addresses of another cluster are.
    Usage = 2,
    /// Nobody answered, or not in time.
    Unreachable = 3,
    /// No such topic, group or partition.
    NotFound = 4,
    /// Unhealthy, or a verification failed.
    Unhealthy = 5,
    /// The cluster does not let this client do that.
    NotAllowed = 6,
    /// A signal ended it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    /// Cause and remedy; empty if everything was said already.
    pub(crate) message: String,
}

impl Failure {
    /// With cause and remedy.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Wrong usage that clap cannot see.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says why on standard error, in one line, and gives the code.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    let exit = classify(error);
    let message = in_flags(&one_line(&chain(error)));
    if exit != Exit::Ok && !message.is_empty() {
        crate::tell!("tidelog: {message}");
    }
    exit
}

/// The code that a failure would end the program with, and what it would say.
pub(crate) fn told(error: &anyhow::Error) -> (Exit, String) {
    (classify(error), one_line(&chain(error)))
}

/// What happened and why, each once: many an error names its cause in its own sentence.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn classify(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // Whoever read our output has enough of it.
        return Exit::Ok;
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    error
        .downcast_ref::<tidelog_client::Error>()
        .map_or(Exit::Failed, of_client)
}

fn of_client(error: &tidelog_client::Error) -> Exit {
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::TimedOut => Exit::Unreachable,
        ErrorKind::Denied => Exit::NotAllowed,
        // The addresses are another cluster's.
        ErrorKind::InvalidArgument | ErrorKind::ForeignCluster => Exit::Usage,
        ErrorKind::Refused(
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::GroupIdNotFound,
        ) => Exit::NotFound,
        ErrorKind::Refused(
            ErrorCode::RequestTimedOut
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator,
        ) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// Whether whoever read our output has closed it.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        let direct = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        direct.or(json) == Some(io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

/// Options of the client, and the flags by which they are given here.
const FLAGS: &[(&str, &str)] = &[
    ("max_request_size", "--max-request-size"),
    ("batch_size", "--batch-size"),
    ("delivery_timeout", "--timeout"),
    ("enable_idempotence(false)", "--no-idempotence"),
    ("the bootstrap addresses", "--bootstrap"),
];

/// A sentence of the client in the words of the command line: whoever types commands knows flags,
/// not options of a library.
pub(crate) fn in_flags(text: &str) -> String {
    FLAGS
        .iter()
        .fold(text.to_owned(), |text, (option, flag)| text.replace(option, flag))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(
            classify(&Err::<(), _>(broken()).context("writing").unwrap_err()),
            Exit::Ok
        );
        let json = serde_json::Error::io(broken());
        assert_eq!(classify(&json.into()), Exit::Ok);
        assert_eq!(
            classify(&io::Error::from(io::ErrorKind::NotFound).into()),
            Exit::Failed
        );
    }

    #[test]
    fn what_the_cluster_says_has_a_code() {
        let exit = |kind| classify(&tidelog_client::Error::new(kind, "x").into());
        assert_eq!(exit(ErrorKind::Unreachable), Exit::Unreachable);
        assert_eq!(
            exit(ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition)),
            Exit::NotFound
        );
        assert_eq!(exit(ErrorKind::Denied), Exit::NotAllowed);
        assert_eq!(exit(ErrorKind::ForeignCluster), Exit::Usage);
        assert_eq!(exit(ErrorKind::Refused(ErrorCode::InvalidConfig)), Exit::Failed);
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no room").context("writing: no room; make some");
        assert_eq!(chain(&error), "writing: no room; make some");
        let error = anyhow::anyhow!("no room").context("writing");
        assert_eq!(chain(&error), "writing: no room");
    }

    #[test]
    fn options_of_the_library_are_flags_here() {
        assert_eq!(
            in_flags("it exceeds max_request_size = 5: raise max_request_size"),
            "it exceeds --max-request-size = 5: raise --max-request-size"
        );
        assert_eq!(in_flags("or enable_idempotence(false)"), "or --no-idempotence");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("first\n  second\tthird\n"), "first second third");
    }
}
