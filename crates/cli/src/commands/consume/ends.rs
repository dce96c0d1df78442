//! `--until-end` and `--until`: where every partition ends for this run, and whether that is
//! reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidelog_client::{Client, ConsumedRecord, Consumer, ErrorCode, OffsetAt, TopicPartition};

use crate::tell;

/// How often the group's commits are looked at, for partitions that other members read.
const COMMITS_INTERVAL: Duration = Duration::from_millis(500);
/// After so long without a record it is said what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(5);

/// Whose ends are asked for.
pub(super) struct Question<'a> {
    pub(super) client: &'a Client,
    pub(super) group: Option<&'a str>,
    pub(super) partitions: &'a [TopicPartition],
    /// The end, or the first record of a moment.
    pub(super) at: OffsetAt,
    pub(super) timeout: Duration,
}

/// The ends as they were, of partitions that held anything.
pub(super) struct Ends {
    client: Client,
    timeout: Duration,
    group: Option<String>,
    snapshot: BTreeMap<TopicPartition, u64>,
    /// Which of them are not known to be reached: what is, stays so.
    open: BTreeMap<TopicPartition, u64>,
    looked: Option<Instant>,
    /// When something was last reached, or said.
    quiet_since: Instant,
    told: bool,
}

impl Ends {
    pub(super) async fn of(question: &Question<'_>) -> Result<Self> {
        let admin = question.client.admin().timeout(question.timeout);
        let at = |at| {
            let partitions = question.partitions.iter().cloned();
            partitions.map(move |partition| (partition, at))
        };
        let starts = admin.list_offsets(at(OffsetAt::Earliest)).await?;
        let ends = admin.list_offsets(at(question.at)).await?;
        let ends: BTreeMap<_, _> = ends
            .into_iter()
            .map(|(partition, end)| (partition, end.offset))
            .collect();
        let open = ends
            .iter()
            .filter(|(partition, end)| starts.get(*partition).is_none_or(|start| start.offset < **end))
            .map(|(partition, end)| (partition.clone(), *end))
            .collect();
        Ok(Self {
            client: question.client.clone(),
            timeout: question.timeout,
            group: question.group.map(str::to_owned),
            snapshot: ends,
            open,
            looked: None,
            quiet_since: Instant::now(),
            told: false,
        })
    }

    /// Whether a record came after reading began.
    pub(super) fn is_beyond(&self, record: &ConsumedRecord) -> bool {
        let end = self.snapshot.get(&record.topic_partition());
        end.is_some_and(|end| record.offset >= *end)
    }

    /// Whether everything up to the ends is read here, or committed by whoever of the group.
    pub(super) async fn are_reached(&mut self, consumer: &Consumer) -> Result<bool> {
        let before = self.open.len();
        self.open.retain(|partition, end| {
            consumer
                .position(partition)
                .is_none_or(|position| position < *end)
        });
        let due = self
            .looked
            .is_none_or(|looked| looked.elapsed() >= COMMITS_INTERVAL);
        if let Some(group) = self.group.clone().filter(|_| due && !self.open.is_empty()) {
            self.looked = Some(Instant::now());
            let committed = self.committed(&group).await?;
            self.open
                .retain(|partition, end| committed.get(partition).is_none_or(|offset| offset < end));
            self.say_who_is_waited_for(consumer, &group, &committed);
        }
        if self.open.len() < before {
            self.quiet_since = Instant::now();
        }
        Ok(self.open.is_empty())
    }

    /// Another member that owns a partition and does nothing holds this one up: whoever waits
    /// should know.
    fn say_who_is_waited_for(
        &mut self,
        consumer: &Consumer,
        group: &str,
        committed: &BTreeMap<TopicPartition, u64>,
    ) {
        let own = consumer.assignment();
        let others = || self.open.iter().filter(|(partition, _)| !own.contains(partition));
        if self.told || self.quiet_since.elapsed() < SAY_AFTER {
            return;
        }
        let Some((partition, end)) = others().next() else {
            return;
        };
        let at = match committed.get(partition) {
            Some(offset) => format!("is committed up to {offset} of {end}"),
            None => format!("has nothing committed of {end}"),
        };
        tell!(
            "tidelog: waiting for other members of group {group}, which own {} partition(s) that are not at their ends: {partition} {at}",
            others().count()
        );
        self.told = true;
    }

    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, u64>> {
        committed(&self.client, group, self.timeout).await
    }
}

/// What the group committed, whoever did.
pub(super) async fn committed(
    client: &Client,
    group: &str,
    timeout: Duration,
) -> Result<BTreeMap<TopicPartition, u64>> {
    match client.admin().timeout(timeout).group_offsets(group).await {
        Ok(offsets) => Ok(offsets
            .into_iter()
            .map(|committed| (committed.partition, committed.offset))
            .collect()),
        // The group is not there before its first member has joined.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}
