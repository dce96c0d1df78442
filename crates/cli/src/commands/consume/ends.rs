//! `--until-end`: where every partition ended when reading began, and whether that is reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use tidelog_client::{Client, ConsumedRecord, Consumer, ErrorCode, OffsetAt, TopicPartition};

/// How often the group's commits are looked at, for partitions that other members read.
const COMMITS_INTERVAL: Duration = Duration::from_millis(500);

/// The ends as they were, of partitions that held anything.
pub(super) struct Ends {
    client: Client,
    group: Option<String>,
    snapshot: BTreeMap<TopicPartition, u64>,
    /// Which of them are known to be reached: they stay so.
    open: BTreeMap<TopicPartition, u64>,
    looked: Option<Instant>,
}

impl Ends {
    pub(super) async fn of(
        client: &Client,
        group: Option<&str>,
        partitions: &[TopicPartition],
    ) -> Result<Self> {
        let admin = client.admin();
        let at = |at| partitions.iter().cloned().map(move |partition| (partition, at));
        let starts = admin.list_offsets(at(OffsetAt::Earliest)).await?;
        let ends = admin.list_offsets(at(OffsetAt::Latest)).await?;
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
            client: client.clone(),
            group: group.map(str::to_owned),
            snapshot: ends,
            open,
            looked: None,
        })
    }

    /// Whether a record came after reading began.
    pub(super) fn is_beyond(&self, record: &ConsumedRecord) -> bool {
        let end = self.snapshot.get(&record.topic_partition());
        end.is_some_and(|end| record.offset >= *end)
    }

    /// Whether everything up to the ends is read, or committed by the rest of the group.
    pub(super) async fn are_reached(&mut self, consumer: &Consumer) -> Result<bool> {
        self.open.retain(|partition, end| {
            consumer
                .position(partition)
                .is_none_or(|position| position < *end)
        });
        if self.open.is_empty() {
            return Ok(true);
        }
        let due = self
            .looked
            .is_none_or(|looked| looked.elapsed() >= COMMITS_INTERVAL);
        if let Some(group) = self.group.clone().filter(|_| due) {
            self.looked = Some(Instant::now());
            for committed in self.committed(&group).await? {
                let (partition, offset) = committed;
                if self.open.get(&partition).is_some_and(|end| offset >= *end) {
                    self.open.remove(&partition);
                }
            }
        }
        Ok(self.open.is_empty())
    }

    async fn committed(&self, group: &str) -> Result<Vec<(TopicPartition, u64)>> {
        match self.client.admin().group_offsets(group).await {
            Ok(offsets) => Ok(offsets
                .into_iter()
                .map(|committed| (committed.partition, committed.offset))
                .collect()),
            // The group is not there before its first member has joined.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
