//! A record that was not taken.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::record::Record;

/// Why [`Producer::try_enqueue`](crate::Producer::try_enqueue) did not take a record, with the
/// record.
///
/// ```no_run
/// # fn example(producer: &tidelog_client::Producer, spill: &mut Vec<tidelog_client::Record>) -> tidelog_client::Result<()> {
/// use tidelog_client::{ErrorKind, Record};
///
/// match producer.try_enqueue(Record::to("clicks").value("/home")) {
///     Ok(_delivery) => {}
///     Err(error) if error.error().kind() == ErrorKind::BufferFull => spill.push(error.into_record()),
///     Err(error) => return Err(error.into_error()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError(Box<(Record, Error)>);

impl SendError {
    pub(crate) fn new(record: Record, error: Error) -> Self {
        Self(Box::new((record, error)))
    }

    /// Why the record was not taken.
    pub fn error(&self) -> &Error {
        &self.0.1
    }

    /// Why, without the record.
    pub fn into_error(self) -> Error {
        self.0.1
    }

    /// The record, as it was given.
    pub fn into_record(self) -> Record {
        self.0.0
    }

    /// Whether there was no room for it: later there will be.
    pub fn is_buffer_full(&self) -> bool {
        self.error().kind() == ErrorKind::BufferFull
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl std::error::Error for SendError {}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        error.into_error()
    }
}
