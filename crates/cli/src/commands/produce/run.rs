//! Sending: lines in, acknowledgements counted, and what is left when a signal comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tidelog_client::{Client, DeliveryFuture, Error, ErrorCode, ErrorKind, Producer, Record, RecordMetadata};
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::input::InputFlags;
use super::lines::Source;
use super::tally::Tally;
use crate::exit::{Exit, Failure};
use crate::waiting::{self, Looked};
use crate::{interrupt, tell};

/// Most records whose acknowledgement is awaited at a time.
const MAX_AWAITED: usize = 10_000;
/// How long a producer may take to end when there is nothing to wait for any more.
const END: Duration = Duration::from_millis(200);

/// What is sent, and how.
pub(super) struct Sending<'a> {
    pub(super) topic: &'a str,
    pub(super) input: &'a InputFlags,
    pub(super) rate: Option<u32>,
    pub(super) producer: Producer,
    pub(super) client: Client,
    /// Where acknowledgements are shown, if they are.
    pub(super) acks: Option<Acks>,
    pub(super) sources: VecDeque<Source>,
}

/// A run.
pub(super) struct Run<'a> {
    sending: Sending<'a>,
    began: Instant,
    awaited: FuturesUnordered<Awaited>,
    sent: u64,
    /// Read, and not yet handed to the producer.
    unsent: u64,
    tally: Tally,
    /// A record failed because its topic is gone. Another topic may have the name by now: nobody
    /// has looked yet.
    topic_in_doubt: bool,
}

/// A record on its way.
struct Awaited {
    record: u64,
    bytes: u64,
    delivery: DeliveryFuture,
}

/// What became of it.
struct Settled {
    record: u64,
    bytes: u64,
    outcome: tidelog_client::Result<RecordMetadata>,
}

/// What a signal leaves.
#[derive(Debug, Default)]
struct Left {
    /// Sent, and perhaps stored.
    unacknowledged: u64,
    unsent: u64,
    failed: u64,
}

impl Left {
    fn error(&self) -> anyhow::Error {
        let Self {
            unacknowledged,
            unsent,
            failed,
        } = self;
        let mut text = if unacknowledged + unsent == 0 {
            "interrupted: what was read before is sent and answered".to_owned()
        } else {
            format!(
                "interrupted: {unacknowledged} record(s) were sent and not acknowledged, so that they may be stored; \
                 {unsent} record(s) that were read were not sent"
            )
        };
        if *failed > 0 {
            text = format!("{text}; {failed} record(s) failed");
        }
        Failure::new(Exit::Interrupted, text).into()
    }
}

impl Future for Awaited {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        self.delivery.poll_unpin(context).map(|outcome| Settled {
            record: self.record,
            bytes: self.bytes,
            outcome,
        })
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(sending: Sending<'a>) -> Self {
        Self {
            sending,
            began: Instant::now(),
            awaited: FuturesUnordered::new(),
            sent: 0,
            unsent: 0,
            tally: Tally::default(),
            topic_in_doubt: false,
        }
    }

    /// Sends until the input ends or a signal comes, and waits for what was sent.
    pub(super) async fn run(mut self, signalled: &CancellationToken) -> Result<()> {
        let input = tokio::select! {
            biased;
            () = signalled.cancelled() => Ok(()),
            drained = self.drain() => drained,
        };
        let settled = tokio::select! {
            biased;
            settled = self.settle() => Some(settled),
            () = signalled.cancelled() => None,
        };
        let Some(settled) = settled else {
            return self.leave().await;
        };
        // Everything is answered or given up: there is nothing left that closing could lose.
        let _ = self.sending.producer.close(END).await;
        self.say_figures();
        if signalled.is_cancelled() {
            return Err(self.left().error());
        }
        let unsent = self.left().unsent;
        if input.is_err() && unsent > 0 {
            tell!("tidelog: {unsent} record(s) that were read were not sent");
        }
        let gone = self.ends_without_topic().await;
        input.and(settled).and(gone)?;
        if self.tally.failed > 0 {
            let text = format!(
                "{} of {} record(s) were not acknowledged",
                self.tally.failed, self.sent
            );
            return Err(Failure::new(Exit::Failed, text).into());
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        while let Some(source) = self.sending.sources.front_mut() {
            let name = source.name.clone();
            let mut number = 0;
            while let Some(lines) = self.next_lines().await? {
                self.unsent += lines.len() as u64;
                for line in lines {
                    number += 1;
                    let record = self.sending.input.record(self.sending.topic, line);
                    let record = record.map_err(|why| {
                        let text = format!("line {number} of {name} is no record: {why}");
                        Failure::new(Exit::Failed, text)
                    })?;
                    match record {
                        Some(record) => self.send(record).await?,
                        None => self.unsent -= 1,
                    }
                }
            }
            self.sending.sources.pop_front();
        }
        Ok(())
    }

    /// What is at hand of the first source, counting acknowledgements while nothing is; `None` at
    /// its end.
    async fn next_lines(&mut self) -> Result<Option<Vec<Bytes>>> {
        loop {
            let Some(source) = self.sending.sources.front_mut() else {
                return Ok(None);
            };
            let settled = tokio::select! {
                biased;
                lines = source.lines.recv() => return lines.transpose(),
                Some(settled) = self.awaited.next() => settled,
            };
            self.count(settled)?;
            while let Some(Some(settled)) = self.awaited.next().now_or_never() {
                self.count(settled)?;
            }
            self.ends_without_topic().await?;
            self.show().await?;
        }
    }

    async fn send(&mut self, record: Record) -> Result<()> {
        if let Some(rate) = self.sending.rate {
            self.until(self.began + Duration::from_secs_f64(self.sent as f64 / f64::from(rate)))
                .await?;
        }
        while self.awaited.len() >= MAX_AWAITED
            && let Some(settled) = self.awaited.next().await
        {
            self.count(settled)?;
        }
        if self.sending.acks.as_ref().is_some_and(Acks::are_enough) {
            self.show().await?;
        }
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) as u64;
        let bytes = length(&record.key) + length(&record.value);
        let enqueued = self.sending.producer.enqueue(record).await;
        self.sent += 1;
        self.unsent -= 1;
        match enqueued {
            Ok(delivery) => self.awaited.push(Awaited {
                record: self.sent,
                bytes,
                delivery,
            }),
            Err(error) => self.fail(&error)?,
        }
        self.ends_without_topic().await
    }

    /// The end, if the topic is gone: each further record would be waited with for as long as one
    /// that failed was.
    async fn ends_without_topic(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.topic_in_doubt) {
            return Ok(());
        }
        // Where there is such a topic, it lacks a partition that a record named, or it is another
        // one under the name: further records may be taken.
        match waiting::look_for(&self.sending.client, self.sending.topic).await {
            Looked::Missing(missing) => {
                let text = format!("{}: {missing}", ErrorCode::UnknownTopicOrPartition);
                Err(Failure::new(Exit::NotFound, text).into())
            }
            Looked::There | Looked::Unsure(_) => Ok(()),
        }
    }

    /// Counts acknowledgements until a record is due.
    async fn until(&mut self, due: Instant) -> Result<()> {
        loop {
            let settled = tokio::select! {
                () = tokio::time::sleep_until(due.into()) => return Ok(()),
                Some(settled) = self.awaited.next() => settled,
            };
            self.count(settled)?;
            self.ends_without_topic().await?;
            self.show().await?;
        }
    }

    /// Waits until everything that was sent is acknowledged or has failed.
    async fn settle(&mut self) -> Result<()> {
        let mut shown = Ok(());
        while let Some(settled) = self.awaited.next().await {
            shown = shown.and(self.count(settled));
            if self.sending.acks.as_ref().is_some_and(Acks::are_enough) {
                shown = shown.and(self.show().await);
            }
        }
        shown.and(self.show().await)
    }

    /// After a signal: waits a little for what is on its way, and says what is left.
    async fn leave(mut self) -> Result<()> {
        let waited = tokio::time::timeout(interrupt::CLOSE, self.settle()).await;
        let mut unacknowledged = 0;
        if waited.is_err() {
            // What is not answered by now is given up, and says whether it was ever sent.
            let _ = tokio::time::timeout(END, self.sending.producer.close(Duration::ZERO)).await;
            while let Some(Some(settled)) = self.awaited.next().now_or_never() {
                match settled.outcome {
                    Err(error) if error.maybe_written() => unacknowledged += 1,
                    Err(_) => self.unsent += 1,
                    Ok(_) => self.tally.acknowledge(settled.bytes),
                }
            }
            unacknowledged += self.awaited.len() as u64;
        }
        let left = Left {
            unacknowledged,
            ..self.left()
        };
        self.say_figures();
        Err(left.error())
    }

    /// What is not sent, and what failed. Takes what waits to be read out of its queue.
    fn left(&mut self) -> Left {
        for source in &mut self.sending.sources {
            while let Ok(Ok(lines)) = source.lines.try_recv() {
                self.unsent += lines.len() as u64;
            }
        }
        Left {
            unacknowledged: 0,
            unsent: self.unsent,
            failed: self.tally.failed,
        }
    }

    fn count(&mut self, settled: Settled) -> Result<()> {
        match settled.outcome {
            Ok(stored) => {
                self.tally.acknowledge(settled.bytes);
                if let Some(acks) = &mut self.sending.acks {
                    acks.note(settled.record, &stored)?;
                }
            }
            Err(error) => self.fail(&error)?,
        }
        Ok(())
    }

    /// Notes a failure. One that every record meets from then on is the end.
    fn fail(&mut self, error: &Error) -> Result<()> {
        if let Some(told) = self.tally.fail(error) {
            tell!(
                "tidelog: a record was not acknowledged (others like it are counted): {}",
                crate::exit::in_flags(&told)
            );
        }
        self.topic_in_doubt |= says_topic_is_gone(error);
        match error.kind() {
            ErrorKind::ForeignCluster => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    async fn show(&mut self) -> Result<()> {
        match &mut self.sending.acks {
            Some(acks) => acks.flush().await,
            None => Ok(()),
        }
    }

    fn say_figures(&self) {
        for kind in self.tally.kinds() {
            tell!("tidelog: {}", crate::exit::in_flags(&kind));
        }
        tell!("{}", self.tally.figures(self.began.elapsed()));
    }
}

/// Whether a record failed for good because the cluster knows no such topic or partition, or not
/// the one that it was meant for.
fn says_topic_is_gone(error: &Error) -> bool {
    let codes = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    !error.is_retriable() && error.code().is_some_and(|code| codes.contains(&code))
}
