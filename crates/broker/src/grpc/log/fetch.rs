//! Reading: long polls, several at a time on a stream.

use std::time::Duration;

use tidelog_proto::v1;
use tidelog_types::limits::{MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS};
use tidelog_types::{LeaderEpoch, Offset, PartitionError, TopicIdPartition};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{FuturesUnordered, LogService, MAX_FETCHES_IN_FLIGHT, StreamExt, check_count, serve};
use crate::grpc::page::UNARY_ANSWER_BYTES;
use crate::grpc::plain;
use crate::partition::{Answer, FetchPermit, FetchSpec, PartitionFetch, PartitionFetched};

/// What a partition is answered with at most where the request does not say, bytes. Kafka's
/// max.partition.fetch.bytes.
const DEFAULT_PARTITION_BYTES: u32 = 1024 * 1024;

/// What a partition takes in an answer besides its topic's name and its batches, bytes.
const PARTITION_FRAME_BYTES: usize = 100;
/// What is left for each batch's tag and length, bytes: of small batches, a fifteenth of what they
/// are.
const BATCH_FRAMES_BYTES: usize = 512 * 1024;
/// Room for batches that is always given, bytes, however many partitions are named.
const LEAST_UNARY_BYTES: usize = 64 * 1024;

/// What a unary fetch that does not say is answered with at most, bytes: what gRPC clients take by
/// default, all told.
pub(super) fn unary_bytes(request: &v1::FetchRequest) -> u32 {
    let beside: usize = request
        .partitions
        .iter()
        .map(|fetch| fetch.topic.len() + PARTITION_FRAME_BYTES)
        .sum();
    let room = UNARY_ANSWER_BYTES.saturating_sub(BATCH_FRAMES_BYTES + beside);
    room.max(LEAST_UNARY_BYTES) as u32
}

/// Serves a fetch stream to its end.
pub(super) async fn stream(
    service: LogService,
    requests: Streaming<v1::FetchRequest>,
    answers: mpsc::Sender<Result<(v1::FetchResponse, FetchPermit), Status>>,
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
    /// Reads what a request asks for, waiting for enough of it. The permit is for as long as the
    /// answer is held.
    pub(super) async fn read(&self, request: v1::FetchRequest) -> (v1::FetchResponse, FetchPermit) {
        let mut targets = Vec::new();
        let mut answers = Vec::with_capacity(request.partitions.len());
        for fetch in request.partitions {
            let mut answer = empty(&fetch);
            match self.resolve(&fetch.topic, fetch.topic_id.as_deref(), fetch.partition) {
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
        let max_bytes = spec.max_bytes;
        let fetched = self.shared.replicas.fetch(spec).await;
        let permit = fetched.permit;
        let found: Vec<_> = targets
            .into_iter()
            .zip(fetched.answers)
            .map(|((slot, _, from), found)| (slot, Offset(from), found))
            .collect();
        let slots: Vec<usize> = found.iter().map(|(slot, _, _)| *slot).collect();
        for (slot, filled) in self
            .fill_all(found, request.plain_records, max_bytes, slots)
            .await
        {
            let answer = &mut answers[slot];
            match filled {
                Ok(filled) => {
                    self.shared.metrics.fetched_bytes.inc_by(filled.stored_bytes);
                    filled.put(answer);
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
        let response = v1::FetchResponse {
            correlation_id: request.correlation_id,
            partitions: answers,
        };
        (response, permit)
    }

    /// Opens what was read, if plain records are asked for: on a thread of its own, since that may
    /// take long.
    async fn fill_all(
        &self,
        found: Vec<(usize, Offset, Answer)>,
        plain_records: bool,
        max_bytes: usize,
        slots: Vec<usize>,
    ) -> Vec<(usize, Result<Filled, PartitionError>)> {
        if !plain_records {
            let fill = |(slot, _, found): (usize, Offset, Answer)| (slot, found.map(Filled::batches));
            return found.into_iter().map(fill).collect();
        }
        let opened = self
            .shared
            .replicas
            .off_workers(move || open_all(found, max_bytes))
            .await;
        opened.unwrap_or_else(|error| {
            let failed = |slot| (slot, Err(error.clone()));
            slots.into_iter().map(failed).collect()
        })
    }
}

/// Opens what was read of each partition, all of it together in `max_bytes`, but at least one
/// batch.
fn open_all(
    found: Vec<(usize, Offset, Answer)>,
    max_bytes: usize,
) -> Vec<(usize, Result<Filled, PartitionError>)> {
    let mut total = 0;
    let mut open_one = |from, found: PartitionFetched| {
        let filled = Filled::records(found, from, max_bytes.saturating_sub(total), total == 0)?;
        total += filled.opened_bytes;
        Ok(filled)
    };
    found
        .into_iter()
        .map(|(slot, from, found)| (slot, found.and_then(|found| open_one(from, found))))
        .collect()
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

/// What was read of a partition, in the shape that was asked for.
struct Filled {
    found: PartitionFetched,
    records: Vec<v1::Record>,
    /// Bytes of the batches that were read.
    stored_bytes: u64,
    /// Bytes of the records in the answer.
    opened_bytes: usize,
}

impl Filled {
    fn batches(found: PartitionFetched) -> Self {
        Self {
            stored_bytes: found.size_bytes() as u64,
            found,
            records: Vec::new(),
            opened_bytes: 0,
        }
    }

    fn records(
        mut found: PartitionFetched,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Self, PartitionError> {
        let stored_bytes = found.size_bytes() as u64;
        let batches = std::mem::take(&mut found.batches);
        let opened = plain::open(batches, from, max_bytes, at_least_one)?;
        found.next_offset = opened.next;
        Ok(Self {
            found,
            records: opened.records,
            stored_bytes,
            opened_bytes: opened.size_bytes,
        })
    }

    fn put(self, answer: &mut v1::PartitionFetched) {
        answer.high_watermark = self.found.high_watermark.0;
        answer.log_start_offset = self.found.log_start.0;
        answer.leader_epoch = self.found.leader_epoch.0;
        answer.next_offset = self.found.next_offset.0;
        answer.batches = self.found.batches;
        answer.records = self.records;
    }
}
