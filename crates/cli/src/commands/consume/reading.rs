//! Reading: records out, in a group what came out committed, until it is enough.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures::FutureExt;
use tidelog_client::{ConsumedRecord, Consumer, OffsetAt, TopicPartition};
use tokio_util::sync::CancellationToken;

use super::ends::{Ends, Question};
use super::filter::FilterFlags;
use super::printer::{MAX_UNFLUSHED, Printer};
use crate::exit::{Exit, Failure, is_broken_pipe};
use crate::{interrupt, tell};

/// How often it is looked whether the end is reached, while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long what is printed may take to leave this process after a signal, before it counts as
/// perhaps not written.
const WRITE_GRACE: Duration = Duration::from_millis(500);
/// How long committing and leaving the group may take.
const CLOSE: Duration = Duration::from_secs(30);

/// A run.
pub(super) struct Reading<'a> {
    pub(super) consumer: Consumer,
    pub(super) printer: Printer,
    pub(super) filter: &'a FilterFlags,
    pub(super) stop: Stop<'a>,
    /// How many records may still be shown.
    pub(super) left: u64,
    /// Read, and perhaps not yet out of this process: not to be committed before.
    pub(super) unmarked: Vec<ConsumedRecord>,
    /// How many of them are printed.
    pub(super) unwritten: u64,
    pub(super) group: Option<Membership>,
}

/// Where reading stops, besides a number of records.
pub(super) struct Stop<'a> {
    pub(super) ends: Option<Ends>,
    /// Where it stops at a moment that has not come.
    pub(super) until: Option<Until<'a>>,
}

/// A moment to come.
pub(super) struct Until<'a> {
    pub(super) moment_ms: i64,
    /// What is asked when it has come.
    pub(super) question: Question<'a>,
    /// Partitions of which a record of that moment or later was seen: records may be stamped ahead.
    pub(super) passed: BTreeSet<TopicPartition>,
}

/// What a member of a group has beyond.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Whether the place where reading begins is committed: an end of the log is one of which
    /// nobody else could know.
    pub(super) commits_starts: bool,
    /// Partitions of which something was read here, or whose start is committed.
    pub(super) begun: BTreeSet<TopicPartition>,
}

impl Reading<'_> {
    /// Reads until it is enough or a signal comes, and leaves in order.
    pub(super) async fn run(mut self, signalled: &CancellationToken) -> Result<()> {
        let too_late = async {
            signalled.cancelled().await;
            tokio::time::sleep(WRITE_GRACE).await;
        };
        let read = tokio::select! {
            biased;
            read = self.read(signalled) => read,
            () = too_late => Ok(()),
        };
        self.finish(read, signalled).await
    }

    async fn read(&mut self, signalled: &CancellationToken) -> Result<()> {
        while self.left > 0 && !signalled.is_cancelled() {
            // What is buffered is shown before anything is waited for.
            let at_hand = self.consumer.recv().now_or_never();
            let record = match at_hand {
                Some(record) => record?,
                None => {
                    self.flush().await?;
                    self.commit_starts().await;
                    if self.at_end().await? {
                        break;
                    }
                    let looks = self.stop.is_set() || self.group.is_some();
                    tokio::select! {
                        () = signalled.cancelled() => break,
                        () = tokio::time::sleep(LOOK_INTERVAL), if looks => continue,
                        record = self.consumer.recv() => record?,
                    }
                }
            };
            if self.stop.is_beyond(&record) {
                // A topic that is written to without a pause always has a record at hand, and its
                // end must be noticed all the same.
                self.flush().await?;
                if self.at_end().await? {
                    break;
                }
                continue;
            }
            self.take(record)?;
            if self.unmarked.len() >= MAX_UNFLUSHED || self.printer.is_full() {
                self.flush().await?;
                self.stop.look().await?;
            }
        }
        self.flush().await
    }

    fn take(&mut self, record: ConsumedRecord) -> Result<()> {
        if let Some(group) = &mut self.group {
            group.begun.insert(record.topic_partition());
        }
        if self.filter.matches(&record) {
            self.printer.print(&record)?;
            self.left -= 1;
            self.unwritten += 1;
        }
        self.unmarked.push(record);
        Ok(())
    }

    async fn at_end(&mut self) -> Result<bool> {
        self.stop.look().await?;
        match &mut self.stop.ends {
            Some(ends) => ends.are_reached(&self.consumer).await,
            None => Ok(false),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.printer.flush().await?;
        self.unwritten = 0;
        for record in self.unmarked.drain(..) {
            if self.group.is_some() {
                self.consumer.mark(&record);
            }
        }
        Ok(())
    }

    /// Commits where this member begins, of partitions that nobody committed for: else whoever goes
    /// on there begins at another end, and a member that reads `--until-end` never learns that
    /// there was nothing to read.
    async fn commit_starts(&mut self) {
        let Some(group) = self.group.as_mut().filter(|group| group.commits_starts) else {
            return;
        };
        let new = self.consumer.assignment().into_iter();
        let new: Vec<_> = new
            .filter(|partition| !group.begun.contains(partition))
            .filter_map(|partition| Some((partition.clone(), self.consumer.position(&partition)?)))
            .collect();
        if new.is_empty() {
            return;
        }
        let Ok(committed) = self.consumer.committed().await else {
            return;
        };
        let missing: Vec<_> = new
            .iter()
            .filter(|(partition, _)| committed.iter().all(|known| known.partition != *partition))
            .cloned()
            .collect();
        let done = missing.is_empty() || self.consumer.commit_offsets(missing).await.is_ok();
        if done {
            group
                .begun
                .extend(new.into_iter().map(|(partition, _)| partition));
        }
    }

    async fn finish(self, read: Result<()>, signalled: &CancellationToken) -> Result<()> {
        let closing = self.consumer.close(CLOSE);
        let too_late = async {
            signalled.cancelled().await;
            tokio::time::sleep(interrupt::CLOSE).await;
        };
        let closed = tokio::select! {
            biased;
            closed = closing => closed.map_err(anyhow::Error::from),
            () = too_late => Err(anyhow::anyhow!(
                "the group was not left in time: its partitions stay with this member until its session ends"
            )),
        };
        match read {
            // Whoever read our output has enough of it; what it got is committed.
            Err(error) if is_broken_pipe(&error) => {}
            read => read?,
        }
        if !signalled.is_cancelled() {
            return closed;
        }
        if let Err(error) = closed {
            tell!("tidelog: {error}");
        }
        let committed = if self.group.is_some() {
            ", and are not committed"
        } else {
            ""
        };
        let text = match self.unwritten {
            0 => String::new(),
            unwritten => format!(
                "interrupted: {unwritten} record(s) were read and perhaps not written to standard output{committed}"
            ),
        };
        Err(Failure::new(Exit::Interrupted, text).into())
    }
}

impl Stop<'_> {
    fn is_set(&self) -> bool {
        self.ends.is_some() || self.until.is_some()
    }

    fn is_beyond(&mut self, record: &ConsumedRecord) -> bool {
        let until = self.until.as_mut();
        self.ends.as_ref().is_some_and(|ends| ends.is_beyond(record))
            || until.is_some_and(|until| until.is_passed_by(record))
    }

    /// Looks up the ends once their moment has come.
    async fn look(&mut self) -> Result<()> {
        let now = jiff::Timestamp::now().as_millisecond();
        if let Some(mut until) = self.until.take_if(|until| now >= until.moment_ms) {
            until.question.at = OffsetAt::Timestamp(until.moment_ms);
            self.ends = Some(Ends::of(&until.question).await?);
        }
        Ok(())
    }
}

impl Until<'_> {
    fn is_passed_by(&mut self, record: &ConsumedRecord) -> bool {
        let partition = record.topic_partition();
        if record.timestamp_ms >= self.moment_ms {
            self.passed.insert(partition);
            return true;
        }
        self.passed.contains(&partition)
    }
}
