//! The leader's side of one follower's stream.
//!
//! 1. A follower's fetch is kept, one a partition ([`Feed::fetch`]), and tried
//!    ([`Feed::next_fetch`]): the driver asks the partition, and tells what it found
//!    ([`Feed::tried`]).
//! 2. With nothing to send the fetch waits, until the partition says that there is something
//!    ([`Feed::ready`]).
//! 3. Batches that are in memory no more are read beside the stream, so that a follower that
//!    catches up holds nobody back. Reads have a budget; a fetch beyond it is put aside until
//!    answers are sent.
//! 4. Answers go out together ([`Feed::message`]), up to a number of bytes. High watermarks that
//!    moved ride along, or follow by themselves shortly after.
//!
//! A driver with threads keeps the feed behind a mutex, and asks no partition while it holds that:
//! partitions call [`Feed::ready`] and [`Feed::progressed`] under their own locks. Time is passed
//! in as the duration since any fixed moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidelog_types::limits::{MAX_GRPC_MESSAGE_BYTES, MAX_MAX_MESSAGE_BYTES};
use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{ErrorCode, LeaderEpoch, TopicIdPartition};

use crate::fetched::{Fetched, LogRange};
use crate::messages::FollowerFetch;

/// How much one follower is sent, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one partition in an answer; at least one batch.
    pub partition_bytes: usize,
    /// Most bytes of a message, give or take the last partition's.
    pub message_bytes: usize,
    /// Most bytes that reads of the disk may hold, finished or under way. Further fetches wait
    /// their turn.
    pub read_bytes: usize,
    /// How long a high watermark that moved may wait for an answer to ride along with.
    pub progress_delay: Duration,
}

impl Limits {
    /// Those of a broker.
    pub const DEFAULT: Self = Self {
        partition_bytes: 1024 * 1024,
        message_bytes: 8 * 1024 * 1024,
        read_bytes: 16 * 1024 * 1024,
        progress_delay: Duration::from_millis(20),
    };
}

const _: () = assert!(
    Limits::DEFAULT.message_bytes + 2 * MAX_MAX_MESSAGE_BYTES as usize <= MAX_GRPC_MESSAGE_BYTES,
    "a message with a largest batch at its end must fit"
);

/// What a partition has for a follower's fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<B> {
    /// The answer.
    Answer(Fetched<B>),
    /// The answer but for its batches, which are in memory no more.
    OnDisk {
        /// Where they are.
        range: LogRange,
        /// The answer.
        answer: Fetched<LogRange>,
    },
    /// Nothing yet; the partition says when that changes.
    Nothing,
}

/// Batches to be read from the disk; tell [`Feed::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRead {
    /// Of which partition.
    pub partition: TopicIdPartition,
    /// Where, at most [`Limits::partition_bytes`].
    pub range: LogRange,
    leader_epoch: LeaderEpoch,
    answer: Fetched<LogRange>,
}

/// The answer to one fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<B> {
    /// Of which partition.
    pub partition: TopicIdPartition,
    /// The leader epoch of the fetch.
    pub leader_epoch: LeaderEpoch,
    /// What it says, or why the fetch is refused.
    pub result: Result<Fetched<B>, ErrorCode>,
}

/// One message to the follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<B> {
    /// Answers to fetches.
    pub answers: Vec<Answer<B>>,
    /// Partitions whose high watermark the follower does not know. The driver says how far each is,
    /// and sends no message with neither an answer nor such a word.
    pub progressed: Vec<TopicIdPartition>,
}

/// What one follower waits for, and what is ready for it. `B` is some batches.
#[derive(Debug)]
pub struct Feed<B> {
    limits: Limits,
    size_of: fn(&B) -> usize,
    /// Fetches that wait, one a partition.
    pending: BTreeMap<TopicIdPartition, FollowerFetch>,
    /// Partitions whose fetch may be answerable.
    ready: Queue,
    /// Partitions whose fetch needs the disk, while enough is read from it.
    deferred: Queue,
    /// Answers that were read from the disk.
    finished: VecDeque<Answer<B>>,
    /// What `finished` holds, and what is being read will at most.
    reading_bytes: usize,
    /// Answers of the next message, with their bytes.
    answers: Vec<Answer<B>>,
    answer_bytes: usize,
    /// Partitions whose high watermark the follower does not know.
    progressed: BTreeSet<TopicIdPartition>,
    /// When they are told without an answer to ride along with.
    flush_at: Option<Duration>,
    /// Whether the partition that is being asked was in `progressed`. An answer with batches tells
    /// how far it is; after any other answer it is put back.
    was_progressed: bool,
}

/// Partitions in the order they were put in, each once.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<TopicIdPartition>,
    queued: BTreeSet<TopicIdPartition>,
}

impl<B> Feed<B> {
    /// A stream that was just opened; `size_of` tells how many bytes some batches take in a
    /// message.
    pub fn new(limits: Limits, size_of: fn(&B) -> usize) -> Self {
        Self {
            limits,
            size_of,
            pending: BTreeMap::new(),
            ready: Queue::default(),
            deferred: Queue::default(),
            finished: VecDeque::new(),
            reading_bytes: 0,
            answers: Vec::new(),
            answer_bytes: 0,
            progressed: BTreeSet::new(),
            flush_at: None,
            was_progressed: false,
        }
    }

    /// The follower fetches. It takes the place of a fetch of the partition that is not answered.
    pub fn fetch(&mut self, partition: TopicIdPartition, fetch: FollowerFetch) {
        self.pending.insert(partition, fetch);
        self.ready.push(partition);
    }

    /// A fetch that waits at this partition can be answered now.
    pub fn ready(&mut self, partition: TopicIdPartition) {
        self.ready.push(partition);
    }

    /// The partition's high watermark moved. Returns whether [`Self::next_wake`] may have changed
    /// by that.
    pub fn progressed(&mut self, partition: TopicIdPartition, now: Duration) -> bool {
        self.progressed.insert(partition);
        let is_first = self.flush_at.is_none();
        self.flush_at.get_or_insert(now + self.limits.progress_delay);
        is_first
    }

    /// Takes a fetch that may be answerable, while the next message has room. The driver asks its
    /// partition, without a lock on the feed, and tells [`Self::tried`]. Once there is none, it
    /// takes the message.
    pub fn next_fetch(&mut self) -> Option<(TopicIdPartition, FollowerFetch)> {
        while self.has_room()
            && let Some(answer) = self.finished.pop_front()
        {
            self.reading_bytes -= self.size(&answer);
            self.add(answer);
        }
        if !self.has_room() {
            return None;
        }
        while let Some(partition) = self.next_ready() {
            if let Some(fetch) = self.pending.remove(&partition) {
                self.was_progressed = self.progressed.remove(&partition);
                return Some((partition, fetch));
            }
        }
        None
    }

    /// What a partition has for the fetch that [`Self::next_fetch`] gave. Returns what is to be
    /// read for it.
    pub fn tried(
        &mut self,
        partition: TopicIdPartition,
        fetch: FollowerFetch,
        found: Result<Found<B>, ErrorCode>,
    ) -> Option<DiskRead> {
        let leader_epoch = fetch.leader_epoch;
        let tells_progress = matches!(&found, Ok(Found::Answer(answer)) if answer.batches().is_some());
        if std::mem::take(&mut self.was_progressed) && !tells_progress {
            self.progressed.insert(partition);
        }
        let result = match found {
            Ok(Found::Nothing) => {
                self.keep(partition, fetch);
                return None;
            }
            Ok(Found::OnDisk { range, answer }) if self.may_read() => {
                self.reading_bytes += self.limits.partition_bytes;
                return Some(DiskRead {
                    partition,
                    range,
                    leader_epoch,
                    answer,
                });
            }
            Ok(Found::OnDisk { .. }) => {
                if !mutant::is_on(Mutant::DropDeferredFetch) {
                    self.keep(partition, fetch);
                    self.deferred.push(partition);
                }
                return None;
            }
            Ok(Found::Answer(answer)) => Ok(answer),
            Err(code) => Err(code),
        };
        self.add(Answer {
            partition,
            leader_epoch,
            result,
        });
        None
    }

    /// Batches were read, or could not be.
    pub fn read(&mut self, read: DiskRead, batches: Result<B, ErrorCode>) {
        let answer = Answer {
            partition: read.partition,
            leader_epoch: read.leader_epoch,
            result: batches.map(|batches| read.answer.map(|_| batches)),
        };
        self.reading_bytes = self.reading_bytes - self.limits.partition_bytes + self.size(&answer);
        self.finished.push_back(answer);
    }

    /// The next message: answers with what rides along, or high watermarks that waited long enough.
    pub fn message(&mut self, now: Duration) -> Option<Message<B>> {
        let is_due = self.flush_at.take_if(|at| *at <= now).is_some();
        if self.answers.is_empty() && (self.progressed.is_empty() || !is_due) {
            return None;
        }
        self.flush_at = None;
        self.answer_bytes = 0;
        Some(Message {
            answers: std::mem::take(&mut self.answers),
            progressed: std::mem::take(&mut self.progressed).into_iter().collect(),
        })
    }

    /// When there is something to do here; zero for at once.
    pub fn next_wake(&self) -> Option<Duration> {
        let has_work = !self.answers.is_empty()
            || !self.finished.is_empty()
            || !self.ready.is_empty()
            || (!self.deferred.is_empty() && self.may_read());
        if has_work {
            Some(Duration::ZERO)
        } else {
            self.flush_at
        }
    }

    fn next_ready(&mut self) -> Option<TopicIdPartition> {
        match self.ready.pop() {
            None if self.may_read() => self.deferred.pop(),
            ready => ready,
        }
    }

    /// Keeps a fetch for later, unless the follower fetched anew meanwhile.
    fn keep(&mut self, partition: TopicIdPartition, fetch: FollowerFetch) {
        self.pending.entry(partition).or_insert(fetch);
    }

    fn may_read(&self) -> bool {
        self.reading_bytes + self.limits.partition_bytes <= self.limits.read_bytes
    }

    fn has_room(&self) -> bool {
        self.answer_bytes < self.limits.message_bytes
    }

    fn add(&mut self, answer: Answer<B>) {
        self.answer_bytes += self.size(&answer);
        self.answers.push(answer);
    }

    fn size(&self, answer: &Answer<B>) -> usize {
        let fetched = answer.result.as_ref().ok();
        fetched.and_then(Fetched::batches).map_or(0, self.size_of)
    }
}

impl Queue {
    fn push(&mut self, partition: TopicIdPartition) {
        if self.queued.insert(partition) {
            self.order.push_back(partition);
        }
    }

    fn pop(&mut self) -> Option<TopicIdPartition> {
        let partition = self.order.pop_front()?;
        self.queued.remove(&partition);
        Some(partition)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests;
