//! `tidelog consume`: records to standard output, alone or as a member of a group.

mod ends;
mod from;
mod printer;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use futures::FutureExt;
use tidelog_client::{Client, ConsumedRecord, Consumer, TopicPartition};
use tidelog_types::PartitionIndex;
use tokio_util::sync::CancellationToken;

use super::runtime;
use crate::args::ConnectFlags;
use crate::exit::{Exit, Failure, is_broken_pipe};
use crate::interrupt;
use crate::output::{FORMAT_HELP, Format};
use ends::Ends;
use from::From;
use printer::Printer;

/// How often it is looked whether the end is reached, while nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long committing and leaving the group may take.
const CLOSE: Duration = Duration::from_secs(30);

/// Flags of `tidelog consume`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Read as a member of this group: its partitions are shared among its members, and what was printed is committed
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    /// Where to begin (in a group: where nothing is committed): beginning, latest, an OFFSET, or @TIMESTAMP in milliseconds since 1970
    #[arg(long, value_name = "WHERE")]
    from: From,
    /// Only these partitions; repeatable
    #[arg(short, long, value_name = "N", conflicts_with = "group")]
    partition: Vec<u32>,
    /// Stop after so many records
    #[arg(short = 'n', long = "records", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Stop at the end as it is now; in a group when everything up to there is read by this member or committed by others
    #[arg(long)]
    until_end: bool,
    /// How records are shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: RecordFormat,
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "output", help = FORMAT_HELP)]
    format: Option<Format>,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// How records are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The value and a line end
    #[default]
    Text,
    /// {topic, partition, offset, timestamp, key, value, headers}, an object a line
    Json,
    /// The value's bytes and nothing else
    Raw,
}

/// Consumes until it is enough, or a signal comes.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    runtime()?.block_on(consume(flags))
}

async fn consume(flags: &Flags) -> Result<()> {
    let signalled = interrupt::listen()?;
    let client = flags.connect.client().await?;
    let partitions = partitions(flags, &client).await?;
    let ends = if flags.until_end {
        Some(Ends::of(&client, flags.group.as_deref(), &partitions).await?)
    } else {
        None
    };
    let consumer = match &flags.group {
        Some(group) => {
            client
                .group(group)
                .topics(flags.topics.iter().map(String::as_str))
                .auto_offset_reset(flags.from.reset()?)
                .enable_auto_commit(true)
                .build()
                .await?
        }
        None => {
            let start = flags.from.start();
            let assigned = partitions.into_iter().map(|partition| (partition, start));
            client.consumer().assign(assigned).build().await?
        }
    };
    let mut reading = Reading {
        consumer,
        printer: Printer::new(flags.output, flags.format.clone()),
        ends,
        left: flags.records.unwrap_or(u64::MAX),
        unmarked: Vec::new(),
        in_group: flags.group.is_some(),
    };
    let read = reading.run(&signalled).await;
    reading.finish(read, &signalled).await
}

/// The partitions that are meant. That the topics exist is found out here.
async fn partitions(flags: &Flags, client: &Client) -> Result<Vec<TopicPartition>> {
    let mut all = Vec::new();
    for topic in &flags.topics {
        let there = client.partitions(topic).await?;
        if flags.partition.is_empty() {
            all.extend(there);
            continue;
        }
        for wanted in flags.partition.iter().map(|number| PartitionIndex(*number)) {
            let found = there.iter().find(|partition| partition.partition == wanted);
            let missing = || {
                let text = format!(
                    "topic {topic} has {} partition(s), and none of number {wanted}",
                    there.len()
                );
                Failure::new(Exit::NotFound, text)
            };
            all.push(found.cloned().ok_or_else(missing)?);
        }
    }
    Ok(all)
}

struct Reading {
    consumer: Consumer,
    printer: Printer,
    ends: Option<Ends>,
    left: u64,
    /// Printed, and perhaps not yet out of this process: not to be committed before.
    unmarked: Vec<ConsumedRecord>,
    in_group: bool,
}

impl Reading {
    async fn run(&mut self, signalled: &CancellationToken) -> Result<()> {
        while self.left > 0 && !signalled.is_cancelled() {
            // What is buffered is shown before anything is waited for.
            let at_hand = self.consumer.recv().now_or_never();
            let record = match at_hand {
                Some(record) => record?,
                None => {
                    self.flush()?;
                    if self.at_end().await? {
                        break;
                    }
                    let next = tokio::select! {
                        () = signalled.cancelled() => break,
                        () = tokio::time::sleep(LOOK_INTERVAL), if self.ends.is_some() => continue,
                        record = self.consumer.recv() => record,
                    };
                    next?
                }
            };
            if self.ends.as_ref().is_some_and(|ends| ends.is_beyond(&record)) {
                // A topic that is written to without a pause always has a record at hand, and its end must be noticed all the same.
                self.flush()?;
                if self.at_end().await? {
                    break;
                }
                continue;
            }
            self.printer.print(&record)?;
            self.left -= 1;
            self.unmarked.push(record);
            if self.unmarked.len() >= printer::MAX_UNFLUSHED {
                self.flush()?;
            }
        }
        self.flush()
    }

    async fn at_end(&mut self) -> Result<bool> {
        match &mut self.ends {
            Some(ends) => ends.are_reached(&self.consumer).await,
            None => Ok(false),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.printer.flush()?;
        for record in self.unmarked.drain(..) {
            if self.in_group {
                self.consumer.mark(&record);
            }
        }
        Ok(())
    }

    async fn finish(self, read: Result<()>, signalled: &CancellationToken) -> Result<()> {
        let closed = self.consumer.close(CLOSE).await;
        match read {
            // Whoever read our output has enough of it; what it got is committed.
            Err(error) if is_broken_pipe(&error) => {}
            read => read?,
        }
        closed?;
        if signalled.is_cancelled() {
            return Err(Failure::new(Exit::Interrupted, "").into());
        }
        Ok(())
    }
}
