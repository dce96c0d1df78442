//! How the program ends: exit codes, and the one line that says why.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes, documented in `tidelog --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Nobody answered, or not in time.
    Unreachable = 3,
    /// No such topic, group or partition.
    NotFound = 4,
    /// Unhealthy, or a verification failed.
    Unhealthy = 5,
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
    let message = one_line(&format!("{error:#}"));
    if exit != Exit::Ok && !message.is_empty() {
        eprintln!("tidelog: {message}");
    }
    exit
}

fn classify(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // Whoever read our output has enough of it.
        return Exit::Ok;
    }
    error
        .downcast_ref::<Failure>()
        .map_or(Exit::Failed, |failure| failure.exit)
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
    fn a_message_is_one_line() {
        assert_eq!(one_line("first\n  second\tthird\n"), "first second third");
    }
}
