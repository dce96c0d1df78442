//! Asking partitions' leaders, on this broker or another, where their logs begin and end and how
//! large they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_cluster::image::TopicImage;
use tidelog_metadata::peer::{Lane, PeerPool};
use tidelog_proto::v1;
use tidelog_proto::v1::log_client::LogClient;
use tidelog_proto::v1::log_server::Log;
use tidelog_types::limits::MAX_PARTITIONS_PER_REQUEST;
use tidelog_types::{BrokerId, Offset, PartitionIndex};
use tonic::Request;

use super::log::LogService;

/// How long another broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many partitions are asked for in one request: each takes two queries.
const PARTITIONS_AT_ONCE: usize = MAX_PARTITIONS_PER_REQUEST / 2;

/// Where a partition's log begins, up to where it is readable, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The log start offset.
    pub log_start: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// Its size on the leader, bytes; `None` if its version does not tell it.
    pub size_bytes: Option<u64>,
}

/// Asks leaders. Cheap to clone.
#[derive(Clone)]
pub struct Leaders {
    local: BrokerId,
    log: LogService,
    peers: PeerPool,
}

impl Leaders {
    /// For a broker with its own log service, and connections to the others.
    pub fn new(local: BrokerId, log: LogService, peers: PeerPool) -> Self {
        Self { local, log, peers }
    }

    /// The bounds of every partition of a topic; `None` where the leader does not answer or does
    /// not serve yet.
    pub async fn bounds(&self, topic: &Arc<TopicImage>) -> Vec<Option<LogBounds>> {
        self.bounds_of(topic, 0..topic.partitions.len()).await
    }

    /// The same of some of its partitions, by number: the others are not asked for, and are `None`.
    pub async fn bounds_of(&self, topic: &Arc<TopicImage>, wanted: Range<usize>) -> Vec<Option<LogBounds>> {
        let mut by_leader: BTreeMap<BrokerId, Vec<PartitionIndex>> = BTreeMap::new();
        let wanted = topic
            .iter()
            .filter(|(partition, _)| wanted.contains(&(partition.partition.0 as usize)));
        for (partition, registration) in wanted {
            if let Some(leader) = registration.leader {
                by_leader.entry(leader).or_default().push(partition.partition);
            }
        }
        let asked = by_leader.iter().flat_map(|(leader, partitions)| {
            let parts = partitions.chunks(PARTITIONS_AT_ONCE);
            parts.map(|part| self.ask(*leader, topic, part))
        });
        let mut bounds = vec![None; topic.partitions.len()];
        for (partition, found) in futures::future::join_all(asked).await.into_iter().flatten() {
            if let Some(slot) = bounds.get_mut(partition.0 as usize) {
                *slot = Some(found);
            }
        }
        bounds
    }

    async fn ask(
        &self,
        leader: BrokerId,
        topic: &Arc<TopicImage>,
        partitions: &[PartitionIndex],
    ) -> Vec<(PartitionIndex, LogBounds)> {
        let query = |partition: &PartitionIndex, at| v1::PartitionOffsetQuery {
            topic: topic.name.to_string(),
            partition: partition.0,
            leader_epoch: None,
            at: Some(at),
            topic_id: Some(Bytes::copy_from_slice(topic.id.as_bytes())),
        };
        let queries = partitions.iter().flat_map(|partition| {
            use v1::partition_offset_query::At;
            [
                query(partition, At::Earliest(true)),
                query(partition, At::Latest(true)),
            ]
        });
        let request = Request::new(v1::ListOffsetsRequest {
            partitions: queries.collect(),
        });
        let answer = if leader == self.local {
            self.log.list_offsets(request).await
        } else {
            let Ok(channel) = self.peers.channel(leader, Lane::Control) else {
                return Vec::new();
            };
            let mut client = LogClient::new(channel);
            let asked = tokio::time::timeout(TIMEOUT, client.list_offsets(request));
            match asked.await {
                Ok(answer) => answer,
                Err(_) => return Vec::new(),
            }
        };
        let Ok(answer) = answer else { return Vec::new() };
        let answers = answer.into_inner().partitions;
        partitions
            .iter()
            .copied()
            .zip(answers.chunks_exact(2))
            .filter(|(_, pair)| pair.iter().all(|answer| answer.error.is_none()))
            .map(|(partition, pair)| {
                let bounds = LogBounds {
                    log_start: Offset(pair[0].offset),
                    high_watermark: Offset(pair[1].offset),
                    size_bytes: pair[1].size_bytes,
                };
                (partition, bounds)
            })
            .collect()
    }
}
