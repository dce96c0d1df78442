//! Offsets by position or timestamp.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

use crate::client::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Snapshot, no_such_partition, topic_gone};
use crate::wire::log::{OffsetQuery, list_offsets};
use crate::wire::{Refusal, log::FoundOffset};

/// How long one leader may take to look offsets up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first offset whose timestamp is at least this, milliseconds since 1970; the high
    /// watermark if there is none.
    Timestamp(i64),
}

/// An offset that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The offset that was found.
    pub offset: u64,
    /// Timestamp of the record there, for a question by timestamp that found one; milliseconds
    /// since 1970.
    pub timestamp_ms: Option<i64>,
    /// Epoch of the leader that answered.
    pub leader_epoch: u32,
}

/// Asks each leader once for its partitions, all leaders at the same time; hints and stale pictures
/// go to the metadata cache.
///
/// Whatever this client was acknowledged, in an epoch that it knew, is before the end that it is
/// told: a question carries the newest epoch that the client has seen (R6, C8).
pub(crate) async fn ask_once(client: &Inner, queries: Vec<OffsetQuery>) -> Vec<FoundOffset> {
    let snapshot = client.metadata.snapshot();
    let mut by_leader: BTreeMap<String, Vec<OffsetQuery>> = BTreeMap::new();
    let mut found = Vec::with_capacity(queries.len());
    let mut ids = BTreeMap::new();
    for mut query in queries {
        let name = &query.partition.topic;
        query.topic_id = query.topic_id.or_else(|| snapshot.id(name));
        ids.insert(query.partition.clone(), query.topic_id);
        let leader = query
            .topic_id
            .and_then(|id| snapshot.leader(name, id, query.partition.partition));
        match leader {
            Some((_, epoch, address)) => {
                query.leader_epoch = query.leader_epoch.max(Some(epoch));
                by_leader.entry(address.to_owned()).or_default().push(query);
            }
            None => found.push(no_leader(client, &snapshot, query)),
        }
    }
    let asked = by_leader
        .into_iter()
        .map(|(address, queries)| ask_leader(client, address, queries));
    found.extend(futures::future::join_all(asked).await.into_iter().flatten());
    for answer in &found {
        if let Err(refusal) = &answer.outcome {
            let id = ids.get(&answer.partition).copied().flatten();
            client.learn(&answer.partition, id, refusal);
        }
    }
    found
}

async fn ask_leader(client: &Inner, address: String, queries: Vec<OffsetQuery>) -> Vec<FoundOffset> {
    let partitions: Vec<TopicPartition> = queries.iter().map(|query| query.partition.clone()).collect();
    let asked = async { list_offsets(client.connections.to(&address)?, queries, TIMEOUT).await };
    match asked.await {
        Ok(found) => found,
        Err(error) => {
            let refusal = Refusal::new(error.context(&address));
            let failed = |partition| FoundOffset {
                partition,
                outcome: Err(refusal.clone()),
            };
            partitions.into_iter().map(failed).collect()
        }
    }
}

fn no_leader(client: &Inner, snapshot: &Snapshot, query: OffsetQuery) -> FoundOffset {
    let OffsetQuery {
        partition, topic_id, ..
    } = query;
    client.metadata.want(&partition.topic);
    let gone = topic_id.filter(|id| snapshot.is_gone(*id));
    let error = match (gone, snapshot.topic(&partition.topic)) {
        (Some(gone), _) => topic_gone(&partition.topic, gone, snapshot),
        (None, Some(Err(error))) => error.clone(),
        (None, Some(Ok(entry))) if entry.partitions.len() <= partition.partition.0 as usize => {
            no_such_partition(&partition.topic, partition.partition, entry.partitions.len())
        }
        _ => Error::new(
            ErrorKind::Refused(ErrorCode::LeaderNotAvailable),
            format!("partition {partition} has no leader at this moment"),
        ),
    };
    FoundOffset {
        partition,
        outcome: Err(Refusal::new(error)),
    }
}

/// Looks all of them up, asking again where that may help, until `deadline`. What does not exist
/// until then does not for good.
pub(crate) async fn look_up(
    client: &Inner,
    queries: Vec<OffsetQuery>,
    deadline: Instant,
) -> Result<BTreeMap<TopicPartition, PartitionOffset>> {
    let mut done = BTreeMap::new();
    let mut open = queries;
    let mut pause = crate::backoff::delays();
    loop {
        client.metadata.check_home()?;
        let mut failure = None;
        for answer in ask_once(client, open.clone()).await {
            match answer.outcome {
                Ok(offset) => {
                    open.retain(|query| query.partition != answer.partition);
                    done.insert(answer.partition, offset);
                }
                Err(refusal) if refusal.error.is_retriable() => failure = Some(refusal.error),
                Err(refusal) => return Err(refusal.error),
            }
        }
        let Some(failure) = failure else { return Ok(done) };
        let wake = Instant::now() + pause.next().unwrap_or(crate::backoff::LONGEST);
        if wake >= deadline {
            return Err(failure.unknown_for_good());
        }
        tokio::time::sleep_until(wake).await;
    }
}
