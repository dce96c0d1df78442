//! Reading: long polls, several at a time on a stream.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::limits::{MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS};
use tidelog_types::{LeaderEpoch, Offset, PartitionError, TopicIdPartition};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{FuturesUnordered, LogService, MAX_FETCHES_IN_FLIGHT, StreamExt, check_count, serve};
use crate::grpc::plain;
use crate::partition::{FetchSpec, PartitionFetch, PartitionFetched};

/// What a partition is answered with at most where the request does not say, bytes. Kafka's max.partition.fetch.bytes.
const DEFAULT_PARTITION_BYTES: u32 = 1024 * 1024;

/// Serves a fetch stream to its end.
pub(super) async fn stream(
    service: LogService,
    requests: Streaming<v1::FetchRequest>,
    answers: mpsc::Sender<Result<v1::FetchResponse, Status>>,
) {
    serve!(
        requests,
        answers,
        service.shared.shutdown,
        MAX_FETCHES_IN_FLIGHT,
        |request| {
            let service = service.clone();
            async move { service.read(request).await }
        }
    );
}

impl LogService {
    /// Reads what a request asks for, waiting for enough of it.
    pub(super) async fn read(&self, request: v1::FetchRequest) -> v1::FetchResponse {
        let mut targets = Vec::new();
        let mut answers = Vec::with_capacity(request.partitions.len());
        for fetch in request.partitions {
            let mut answer = empty(&fetch);
            match self.resolve(&fetch.topic, fetch.partition) {
                Ok(target) => targets.push((answers.len(), spec_of(&fetch, target.id), fetch.fetch_offset)),
                Err(error) => answer.error = Some(self.refusal(error)),
            }
            answers.push(answer);
        }
        // A refused partition is worth telling at once.
        let refused = targets.len() < answers.len();
        let max_wait = if refused {
            0
        } else {
            request.max_wait_ms.min(MAX_FETCH_WAIT_MS)
        };
        let spec = FetchSpec {
            partitions: targets.iter().map(|(_, spec, _)| *spec).collect(),
            max_wait: Duration::from_millis(max_wait.into()),
            min_bytes: request.min_bytes as usize,
            max_bytes: at_most(request.max_bytes, MAX_FETCH_BYTES, MAX_FETCH_BYTES),
        };
        let read = self.shared.replicas.fetch(spec).await;
        for ((slot, _, from), found) in targets.into_iter().zip(read) {
            let answer = &mut answers[slot];
            match found.and_then(|found| fill(answer, found, Offset(from), request.plain_records)) {
                Ok(bytes) => {
                    self.shared.metrics.fetched_bytes.inc_by(bytes);
                }
                Err(error) => answer.error = Some(self.refusal(error)),
            }
        }
        if answers
            .iter()
            .any(|answer| answer.error.is_some() || has_data(answer))
        {
            answers.retain(|answer| answer.error.is_some() || has_data(answer));
        }
        v1::FetchResponse {
            correlation_id: request.correlation_id,
            partitions: answers,
        }
    }
}

fn has_data(answer: &v1::PartitionFetched) -> bool {
    !answer.batches.is_empty() || !answer.records.is_empty()
}

fn empty(fetch: &v1::PartitionFetch) -> v1::PartitionFetched {
    v1::PartitionFetched {
        topic: fetch.topic.clone(),
        partition: fetch.partition,
        next_offset: fetch.fetch_offset,
        ..Default::default()
    }
}

fn spec_of(fetch: &v1::PartitionFetch, id: TopicIdPartition) -> PartitionFetch<TopicIdPartition> {
    PartitionFetch {
        partition: id,
        leader_epoch: fetch.leader_epoch.map(LeaderEpoch),
        fetch_offset: Offset(fetch.fetch_offset),
        max_bytes: at_most(fetch.max_bytes, DEFAULT_PARTITION_BYTES, MAX_FETCH_BYTES),
    }
}

fn at_most(asked: u32, default: u32, most: u32) -> usize {
    if asked == 0 {
        default as usize
    } else {
        asked.min(most) as usize
    }
}

/// Puts what was read into an answer; says how many bytes of batches it was.
fn fill(
    answer: &mut v1::PartitionFetched,
    found: PartitionFetched,
    from: Offset,
    plain_records: bool,
) -> Result<u64, PartitionError> {
    answer.high_watermark = found.high_watermark.0;
    answer.log_start_offset = found.log_start.0;
    answer.leader_epoch = found.leader_epoch.0;
    answer.next_offset = found.next_offset.0;
    let bytes = found.batches.iter().map(|batch| batch.len() as u64).sum();
    if plain_records {
        let opened = plain::open(found.batches, from)?;
        answer.records = opened.records;
        answer.next_offset = opened.next.0;
    } else {
        answer.batches = found.batches;
    }
    Ok(bytes)
}
