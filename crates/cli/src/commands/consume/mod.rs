//! `tidelog consume`: records to standard output, alone or as a member of a group.

mod ends;
mod filter;
mod from;
mod printer;
mod reading;
mod start;
mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tidelog_client::{Client, Consumer, OffsetAt, OffsetReset, TopicPartition};
use tidelog_group::Subscription;
use tokio_util::sync::CancellationToken;

use super::with_cluster;
use crate::args::{ConnectFlags, moment};
use crate::exit::{Exit, Failure};
use crate::output::{FORMAT_HELP, Format};
use crate::{interrupt, waiting};
use ends::{Ends, Question};
use filter::FilterFlags;
use from::From;
use printer::Printer;
use reading::{Membership, Reading, Stop, Until};
use topics::TopicFlags;

/// How long a group may take to take a member in, unless the command line says otherwise.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of `tidelog consume`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    topics: TopicFlags,
    /// Read as a member of this group: its partitions are shared among its members, and what was
    /// printed is committed
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    /// A name of this member that outlives it: started again under it, it gets its partitions back
    /// without a rebalance
    #[arg(long, value_name = "NAME", requires = "group")]
    instance_id: Option<String>,
    /// Where to begin: beginning, latest, an offset, @2026-11-30T14:00Z, @2026-11-30, @ and
    /// milliseconds since 1970, or -1h for an hour ago. A group goes on where it committed, and
    /// needs this only where it committed nothing: beginning or latest, since an offset is one
    /// partition's
    #[arg(
        long,
        value_name = "WHERE",
        required_unless_present = "group",
        allow_hyphen_values = true
    )]
    from: Option<From>,
    /// Stop after so many records
    #[arg(short = 'n', long = "records", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Stop at the end as it is now; in a group when everything up to there is read by this member
    /// or committed by others
    #[arg(long)]
    until_end: bool,
    /// Stop at the first record of this moment or later, in each partition: written as for --from
    #[arg(
        long,
        value_name = "MOMENT",
        value_parser = moment,
        allow_hyphen_values = true,
        conflicts_with = "until_end"
    )]
    until: Option<i64>,
    #[command(flatten)]
    filter: FilterFlags,
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
    with_cluster(|signalled| consume(flags, signalled))
}

async fn consume(flags: &Flags, signalled: CancellationToken) -> Result<()> {
    let prepared = tokio::select! {
        biased;
        prepared = prepare(flags) => prepared?,
        () = signalled.cancelled() => return Err(interrupt::ended("nothing was read")),
    };
    let Prepared {
        client,
        partitions,
        ends,
        consumer,
    } = prepared;
    let question = Question {
        at: OffsetAt::Latest,
        ..flags.question(&client, &partitions)
    };
    let membership = || Membership {
        commits_starts: flags.from == Some(From::Latest),
        ..Membership::default()
    };
    let reading = Reading {
        consumer,
        printer: Printer::new(flags.output, flags.format.clone()),
        filter: &flags.filter,
        stop: Stop {
            until: flags.until.filter(|_| ends.is_none()).map(|moment_ms| Until {
                moment_ms,
                question,
                passed: BTreeSet::new(),
            }),
            ends,
        },
        left: flags.records.unwrap_or(u64::MAX),
        unmarked: Vec::new(),
        unwritten: 0,
        group: flags.group.as_ref().map(|_| membership()),
    };
    reading.run(&signalled).await
}

/// What reading begins with.
struct Prepared {
    client: Client,
    partitions: Vec<TopicPartition>,
    ends: Option<Ends>,
    consumer: Consumer,
}

async fn prepare(flags: &Flags) -> Result<Prepared> {
    let reset = flags.from.filter(|_| flags.group.is_some()).map(From::reset);
    let reset = reset.transpose()?;
    let client = flags.connect.client().await?;
    let partitions = flags
        .topics
        .partitions(&client, &flags.connect, flags.group.is_some());
    let partitions = partitions.await?;
    let ends = match flags.stops_at() {
        Some(at) => {
            let question = Question {
                at,
                ..flags.question(&client, &partitions)
            };
            Some(
                waiting::on(
                    || "waiting for the ends of partitions".to_owned(),
                    Ends::of(&question),
                )
                .await?,
            )
        }
        None => None,
    };
    let consumer = match &flags.group {
        Some(group) => join(flags, &client, group, &partitions, reset).await?,
        None => assign(flags, &client, &partitions).await?,
    };
    Ok(Prepared {
        client,
        partitions,
        ends,
        consumer,
    })
}

impl Flags {
    fn question<'a>(&'a self, client: &'a Client, partitions: &'a [TopicPartition]) -> Question<'a> {
        Question {
            client,
            group: self.group.as_deref(),
            partitions,
            at: OffsetAt::Latest,
            timeout: self.connect.timeout(),
        }
    }

    /// Where reading stops, as far as it can be asked for now.
    fn stops_at(&self) -> Option<OffsetAt> {
        let now = jiff::Timestamp::now().as_millisecond();
        match self.until {
            Some(until) if until <= now => Some(OffsetAt::Timestamp(until)),
            _ => self.until_end.then_some(OffsetAt::Latest),
        }
    }
}

async fn join(
    flags: &Flags,
    client: &Client,
    group: &str,
    partitions: &[TopicPartition],
    reset: Option<OffsetReset>,
) -> Result<Consumer> {
    let reset = match reset {
        Some(reset) => reset,
        None => start::of_group(client, group, partitions, flags.connect.timeout()).await?,
    };
    let mut member = client
        .group(group)
        .topics(flags.topics.topics.iter().map(String::as_str))
        .auto_offset_reset(reset)
        .enable_auto_commit(true);
    if let Some(regex) = flags.topics.topic_regex.as_ref().and_then(Subscription::regex) {
        member = member.topic_regex(regex);
    }
    if let Some(instance_id) = &flags.instance_id {
        member = member.instance_id(instance_id);
    }
    let within = flags.connect.given_timeout().unwrap_or(JOIN_TIMEOUT);
    let joined = tokio::time::timeout(within, member.build());
    let joined = waiting::on(
        || {
            format!(
                "waiting up to {} s for group {group} to take this member in",
                within.as_secs()
            )
        },
        joined,
    );
    match joined.await {
        Ok(joined) => Ok(joined?),
        Err(_) => {
            let text = format!(
                "group {group} did not take this member in within {} s",
                within.as_secs()
            );
            Err(Failure::new(Exit::Unreachable, text).into())
        }
    }
}

async fn assign(flags: &Flags, client: &Client, partitions: &[TopicPartition]) -> Result<Consumer> {
    // Without a group the command line says where; the parser sees to it.
    let from = flags.from.unwrap_or(From::Latest);
    let assigned = start::of_partitions(client, partitions, from, flags.connect.timeout()).await?;
    Ok(client.consumer().assign(assigned).build().await?)
}
