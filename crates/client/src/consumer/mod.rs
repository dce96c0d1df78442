//! Reading records: as a member of a group, or from partitions chosen by hand.
//!
//! | module | what |
//! | --- | --- |
//! | `builder`, `options` | how a consumer is made |
//! | `slot`, `slots`, `marks` | pure: partitions, taking turns, what was processed |
//! | `repeated` | pure: how often an error is told |
//! | `plan` | pure: what to fetch next |
//! | `shared` | those under a lock, with wake-ups |
//! | `fetcher`, `broker_stream`, `lookups` | the tasks that fetch |
//! | `membership` | the tasks that keep a member in its group |
//! | `committer`, `offset`, `listener` | commits and hooks |

mod broker_stream;
mod builder;
mod committer;
mod errors;
mod fetcher;
mod listener;
mod lookups;
mod marks;
mod membership;
mod offset;
mod options;
mod plan;
mod repeated;
mod shared;
mod slot;
mod slots;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tidelog_types::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::CommittedOffset;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::{OffsetAt, look_up};
use crate::record::ConsumedRecord;
use crate::wire::log::OffsetQuery;
use crate::wire::session::Assigned;

pub use builder::{AssignedConsumerBuilder, GroupConsumerBuilder};
pub use committer::Committer;
pub use listener::{HookFuture, RebalanceListener};
pub use offset::OffsetAndMetadata;
pub use options::{OffsetReset, StartAt};

use shared::Shared;

/// Offsets by partition, each the one behind the last record.
pub type Ends = BTreeMap<TopicPartition, u64>;

/// How long looking up the ends of partitions may take.
const END_OFFSETS_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads records: made by [`Client::group`] or [`Client::consumer`].
///
/// Records come one at a time from [`recv`](Self::recv), in offset order within a partition, while
/// the next ones are fetched ahead within bounds. Say of each that it is processed with
/// [`mark`](Self::mark), in any order, and [`commit`](Self::commit) now and then: of every
/// partition the unbroken run of marked records is committed, never more. Whatever is marked is
/// also committed before a partition is given up to another member, and by [`close`](Self::close).
/// So every record is processed at least once; again after a crash if it was not committed.
///
/// A member whose application calls for no record for `max_poll_interval` leaves its group, and
/// joins again with the next call. Heartbeats do not depend on the application.
///
/// Dropping a consumer without closing it commits nothing and says no farewell: its partitions go
/// to other members when its session ends, 45 s later by default.
///
/// ```no_run
/// # async fn example(client: tidelog_client::Client) -> tidelog_client::Result<()> {
/// use std::time::Duration;
/// use tidelog_client::OffsetReset;
///
/// let group = client.group("inventory").topics(["orders"]).auto_offset_reset(OffsetReset::Earliest);
/// let mut consumer = group.build().await?;
/// for _ in 0..100 {
///     let record = consumer.recv().await?;
///     println!("{}-{}@{}: {:?}", record.topic, record.partition, record.offset, record.value);
///     consumer.mark(&record);
/// }
/// consumer.close(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    shared: Arc<Shared>,
    /// Their end is this consumer's.
    _tasks: JoinSet<()>,
    member: Option<Member>,
}

/// What a member of a group has beyond.
#[derive(Debug)]
struct Member {
    committer: Committer,
    closing: mpsc::Sender<oneshot::Sender<Result<()>>>,
    /// Cancelled when the session is over.
    over: CancellationToken,
}

impl Consumer {
    /// The next record; waits for one. While brokers cannot be reached, or a partition has no
    /// leader, it goes on trying and waits: that passes, and the log says so.
    ///
    /// An error is one partition's, or the end:
    ///
    /// - One partition's comes in turn with the other partitions' records. A *final* one
    ///   ([`Error::is_retriable`] is false: the partition is damaged, or its position is not in the
    ///   log and `auto_offset_reset` is none) stops reading the partition until
    ///   [`seek`](Self::seek) or a rebalance. A *passing* one (nobody has known the partition for
    ///   30 s) does not: reading goes on by itself when it has passed.
    /// - The end (the member was refused for good, say) is what every later call is answered with:
    ///   make another consumer.
    ///
    /// An error is told at once, and as long as it lasts again and again, at a pace that slows down
    /// to once a second: a loop that only logs what fails costs nothing.
    ///
    /// Cancel-safe: dropping the future loses no record.
    pub async fn recv(&mut self) -> Result<ConsumedRecord> {
        // Without ends there is always a next record.
        self.shared
            .next(None)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Closed, "no record"))
    }

    /// The next record that stands below these ends; `None` once every partition that they name is
    /// read up to there. Partitions that are not named, or not assigned any more, hold nothing up.
    /// With [`end_offsets`](Self::end_offsets) this reads exactly what was there at one moment.
    /// Cancel-safe.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: tidelog_client::Consumer) -> tidelog_client::Result<()> {
    /// let ends = consumer.end_offsets().await?;
    /// while let Some(record) = consumer.recv_until(&ends).await? {
    ///     println!("{:?}", record.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_until(&mut self, ends: &Ends) -> Result<Option<ConsumedRecord>> {
        self.shared.next(Some(ends)).await
    }

    /// The records as a stream. Ends after the error that is the end of the consumer; dropping it
    /// loses no record.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: tidelog_client::Consumer) -> tidelog_client::Result<()> {
    /// use futures::TryStreamExt;
    ///
    /// let first: Vec<_> = futures::StreamExt::take(consumer.stream(), 10).try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(&mut self) -> impl Stream<Item = Result<ConsumedRecord>> + Send + '_ {
        futures::stream::unfold((self, false), |(consumer, over)| async move {
            if over {
                return None;
            }
            let record = consumer.recv().await;
            let over = record.is_err() && consumer.shared.has_ended();
            Some((record, (consumer, over)))
        })
    }

    /// Says that a record is processed: [`commit`](Self::commit) may go past it once all records
    /// before it are marked too. Of a partition that was lost, or sought since, it says nothing.
    pub fn mark(&self, record: &ConsumedRecord) {
        self.shared.mark(record);
    }

    /// A handle that marks: for tasks that process records side by side.
    pub fn marker(&self) -> Marker {
        Marker {
            shared: Arc::clone(&self.shared),
        }
    }

    /// A handle that commits: for other tasks.
    pub fn committer(&self) -> Result<Committer> {
        Ok(self.member()?.committer.clone())
    }

    /// Commits what is marked: see [`Committer::commit`].
    pub async fn commit(&self) -> Result<()> {
        self.member()?.committer.commit().await
    }

    /// Commits these offsets: see [`Committer::commit_offsets`].
    pub async fn commit_offsets<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        self.member()?.committer.commit_offsets(offsets).await
    }

    /// Everything that the group committed, by whichever member, with the notes that were kept with
    /// it.
    pub async fn committed(&self) -> Result<Vec<CommittedOffset>> {
        self.member()?.committer.committed().await
    }

    /// The partitions that are read at this moment, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment()
    }

    /// The offset of the next record to come; `None` if the partition is not assigned, or it is not
    /// known yet where it begins. Past a record as soon as it was handed out.
    pub fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.shared.position(partition)
    }

    /// How many offsets the position is behind the high watermark, as of the last fetch; `None`
    /// before the first.
    pub fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        self.shared.lag(partition)
    }

    /// The high watermarks of everything assigned, asked for now.
    pub async fn end_offsets(&self) -> Result<Ends> {
        let query = |read: Assigned| OffsetQuery {
            partition: read.partition,
            topic_id: Some(read.topic_id),
            leader_epoch: None,
            at: OffsetAt::Latest,
        };
        let queries = self.shared.read().into_iter().map(query).collect();
        let deadline = Instant::now() + END_OFFSETS_TIMEOUT;
        let found = look_up(&self.client.inner, queries, deadline).await?;
        Ok(found
            .into_iter()
            .map(|(partition, found)| (partition, found.offset))
            .collect())
    }

    /// Goes on elsewhere with a partition. What was handed out before and is marked later counts no
    /// more.
    pub fn seek(&self, partition: &TopicPartition, to: impl Into<StartAt>) -> Result<()> {
        self.shared.seek(partition, to.into())
    }

    /// Hands out nothing of these partitions and fetches no more of them, until
    /// [`resume`](Self::resume). They stay ours.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.shared.pause(partitions, true)
    }

    /// Undoes [`pause`](Self::pause).
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.shared.pause(partitions, false)
    }

    /// Stops reading, runs [`RebalanceListener::revoked`], commits what is marked, and leaves the
    /// group; waits for all of it, `deadline` at the longest. A static member keeps its partitions
    /// until its session ends, so that it may come back; [`leave`](Self::leave) gives them up.
    ///
    /// An error says that a commit failed, or that not everything was done in time; the consumer is
    /// gone in any case.
    pub async fn close(self, deadline: Duration) -> Result<()> {
        self.shared.end(errors::closed());
        let Some(member) = &self.member else {
            return Ok(());
        };
        let (reply, done) = oneshot::channel();
        let leave = async {
            if member.closing.send(reply).await.is_err() {
                return Ok(());
            }
            let committed = done.await.unwrap_or(Ok(()));
            member.over.cancelled().await;
            committed
        };
        tokio::time::timeout(deadline, leave).await.unwrap_or_else(|_| {
            let message = format!(
                "leaving the group took longer than {} ms: partitions stay with this member until its session ends",
                deadline.as_millis()
            );
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    /// As [`close`](Self::close), and a static member gives its name up: its partitions go to other
    /// members at once, and the group may be empty afterwards. For a process that will not come
    /// back (KIP-1092's `LEAVE_GROUP`).
    pub async fn leave(self, deadline: Duration) -> Result<()> {
        self.shared.leave_for_good();
        self.close(deadline).await
    }

    fn member(&self) -> Result<&Member> {
        self.member.as_ref().ok_or_else(|| {
            Error::invalid("partitions are assigned by hand here: only a member of a group commits")
        })
    }
}

/// Marks records as processed. Cheap to clone.
///
/// ```no_run
/// # async fn example(mut consumer: tidelog_client::Consumer) -> tidelog_client::Result<()> {
/// let marker = consumer.marker();
/// loop {
///     let record = consumer.recv().await?;
///     let marker = marker.clone();
///     // Side by side, done in any order: commits wait for the slowest.
///     tokio::spawn(async move { marker.mark(&record) });
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Marker {
    shared: Arc<Shared>,
}

impl Marker {
    /// See [`Consumer::mark`].
    pub fn mark(&self, record: &ConsumedRecord) {
        self.shared.mark(record);
    }
}
