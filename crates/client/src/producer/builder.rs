//! A producer's options, with Kafka's names and defaults where a reason is not given.

use std::time::Duration;

use tidelog_producer::LineSettings;
use tidelog_record::{Compression, HEADER_BYTES};
use tidelog_types::limits::MAX_MAX_MESSAGE_BYTES;

use super::Producer;
use super::queue::BatchSettings;
use crate::client::Client;
use crate::error::{Error, Result};

/// Batches of a partition that a broker remembers of an idempotent producer (R9).
const MAX_IN_FLIGHT_IDEMPOTENT: usize = 5;
/// The most without idempotence.
const MAX_IN_FLIGHT: usize = 1_000;
/// The largest buffer memory, bytes.
const MAX_BUFFER_MEMORY: usize = u32::MAX as usize;

/// When the cluster acknowledges a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// When it is on stable storage on every in-sync replica, and these are at least
    /// min.insync.replicas.
    #[default]
    All,
    /// When it is on the leader's stable storage. If the leader is lost, so may be the record.
    Leader,
    /// When the leader has taken it. Nothing is promised.
    None,
}

/// Options of a [`Producer`].
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use std::time::Duration;
/// use tidelog_client::Compression;
///
/// let producer = client
///     .producer()
///     .compression(Compression::Lz4)
///     .linger(Duration::from_millis(5))
///     .delivery_timeout(Duration::from_secs(30))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    client: Client,
    settings: Settings,
}

/// The options, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) linger: Duration,
    pub(crate) batch_size: usize,
    pub(crate) buffer_memory: usize,
    pub(crate) max_request_size: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) compression: Compression,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            settings: Settings::default(),
        }
    }

    /// When a record counts as stored; [`Acks::All`] by default. Less than that needs
    /// [`enable_idempotence(false)`](Self::enable_idempotence).
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Whether records are numbered so that a retry never stores one twice or out of order; true by
    /// default.
    #[must_use]
    pub fn enable_idempotence(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = idempotent;
        self
    }

    /// How long a batch waits for more records before it is sent. Zero by default: a lone record
    /// waits for nothing, and a flood makes large batches all the same, since a batch grows while
    /// others of its partition are in flight.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// The size up to which a batch grows, bytes, uncompressed; 256 KiB by default. A larger record
    /// gets a batch of its own.
    #[must_use]
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.settings.batch_size = bytes;
        self
    }

    /// How much may wait for acknowledgement, bytes; 32 MiB by default. Beyond it, enqueueing
    /// waits.
    #[must_use]
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.settings.buffer_memory = bytes;
        self
    }

    /// The largest record, bytes, with what frames it in its batch; 1 MiB by default. A larger one
    /// is refused when it is enqueued.
    #[must_use]
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.settings.max_request_size = bytes;
        self
    }

    /// How many batches of one partition are sent before the first is acknowledged; 5 by default,
    /// which is the most with idempotence. Without idempotence and with more than 1, a retry may
    /// come to stand behind a record that was sent later.
    #[must_use]
    pub fn max_in_flight_requests_per_partition(mut self, batches: usize) -> Self {
        self.settings.max_in_flight = batches;
        self
    }

    /// How long a record is tried for, from its enqueueing on; 120 s by default. Then it fails with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// How long a broker may take to answer; 30 s by default. Then its connection counts as lost,
    /// and what it had is sent again.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// How batches are compressed; not at all by default.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Checks the options and begins. Does not wait for the cluster: records enqueued before the
    /// producer has its id are sent when it does.
    #[expect(
        clippy::unused_async,
        reason = "so that a later version may ask the cluster here"
    )]
    pub async fn build(self) -> Result<Producer> {
        self.settings.check()?;
        Ok(Producer::start(self.client, self.settings))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            linger: Duration::ZERO,
            batch_size: 256 * 1024,
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            max_in_flight: MAX_IN_FLIGHT_IDEMPOTENT,
            delivery_timeout: Duration::from_mins(2),
            request_timeout: Duration::from_secs(30),
            compression: Compression::None,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        let bound = |name: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!(
                "{name} is {value}: choose {least} to {most}"
            )))
        };
        if self.idempotent && self.acks != Acks::All {
            return Err(Error::invalid(
                "acks below All lose records that a broker acknowledged, so they do not go with idempotence: \
                 choose Acks::All, or enable_idempotence(false)",
            ));
        }
        let most_in_flight = if self.idempotent {
            MAX_IN_FLIGHT_IDEMPOTENT
        } else {
            MAX_IN_FLIGHT
        };
        let least_bytes = HEADER_BYTES + 1;
        bound(
            "max_in_flight_requests_per_partition",
            self.max_in_flight,
            1,
            most_in_flight,
        )?;
        bound(
            "max_request_size",
            self.max_request_size,
            least_bytes,
            MAX_MAX_MESSAGE_BYTES as usize,
        )?;
        bound("batch_size", self.batch_size, 0, MAX_MAX_MESSAGE_BYTES as usize)?;
        bound(
            "buffer_memory",
            self.buffer_memory,
            least_bytes,
            MAX_BUFFER_MEMORY,
        )?;
        if self.request_timeout.is_zero() {
            return Err(Error::invalid(
                "request_timeout is zero: nothing is answered in no time",
            ));
        }
        if self.delivery_timeout <= self.linger {
            return Err(Error::invalid(format!(
                "delivery_timeout is {:?} and linger is {:?}: records would be given up before they are sent",
                self.delivery_timeout, self.linger
            )));
        }
        Ok(())
    }

    pub(crate) fn line(&self) -> LineSettings {
        LineSettings {
            idempotent: self.idempotent,
            max_in_flight: self.max_in_flight as u64,
        }
    }

    pub(crate) fn batches(&self) -> BatchSettings {
        BatchSettings {
            compression: self.compression,
            // What no single record may exceed, no batch should.
            batch_size: self.batch_size.min(self.max_request_size),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: fn(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err().message().to_owned()
    }

    #[test]
    fn options_that_contradict_each_other_are_refused_by_name() {
        Settings::default().check().unwrap();
        assert!(refused(|options| options.acks = Acks::Leader).contains("enable_idempotence(false)"));
        assert!(
            refused(|options| options.max_in_flight = 6)
                .contains("max_in_flight_requests_per_partition is 6: choose 1 to 5")
        );
        assert!(refused(|options| options.max_request_size = 0).contains("max_request_size is 0"));
        assert!(refused(|options| options.linger = Duration::from_secs(200)).contains("delivery_timeout"));
        assert!(refused(|options| options.request_timeout = Duration::ZERO).contains("request_timeout"));
        assert!(refused(|options| options.buffer_memory = 1).contains("buffer_memory"));
        let leader = Settings {
            acks: Acks::Leader,
            idempotent: false,
            max_in_flight: 100,
            ..Settings::default()
        };
        leader.check().unwrap();
    }
}
