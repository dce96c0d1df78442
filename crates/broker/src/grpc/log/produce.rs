//! Appending: in the order of the requests, answered as the acknowledgements come.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tidelog_proto::v1;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, LeaderEpoch, PartitionError};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{
    FuturesUnordered, LogService, MAX_PRODUCES_IN_FLIGHT, StreamExt, check_count, produce_timeout, serve,
};
use crate::grpc::plain;
use crate::partition::{Acks, DiskUse, Produce, ProduceCompletion};

/// A request whose batches have their offsets, or their refusals.
pub(super) struct Accepted {
    correlation_id: u64,
    timeout: std::time::Duration,
    began: Instant,
    partitions: Vec<AcceptedPartition>,
}

struct AcceptedPartition {
    topic: String,
    partition: u32,
    size_bytes: usize,
    completion: Result<ProduceCompletion, PartitionError>,
}

/// Serves a produce stream to its end.
pub(super) async fn stream(
    service: LogService,
    requests: Streaming<v1::ProduceRequest>,
    answers: mpsc::Sender<Result<v1::ProduceResponse, Status>>,
) {
    serve!(
        requests,
        answers,
        service.shared.shutdown,
        MAX_PRODUCES_IN_FLIGHT,
        |request| {
            // Taken here, one request after another: their batches are appended in the order they
            // were sent.
            let accepted = service.take(request).await;
            service.acknowledge(accepted)
        }
    );
}

impl LogService {
    /// Checks and appends a request's batches, waiting only for room.
    pub(super) async fn take(&self, request: v1::ProduceRequest) -> Accepted {
        let acks = match v1::Acks::try_from(request.acks) {
            Ok(v1::Acks::Leader) => Acks::Leader,
            Ok(v1::Acks::None) => Acks::None,
            Ok(v1::Acks::All) | Err(_) => Acks::All,
        };
        let began = Instant::now();
        let mut partitions = Vec::with_capacity(request.partitions.len());
        for produce in request.partitions {
            let (topic, partition) = (produce.topic.clone(), produce.partition);
            let mut size_bytes = 0;
            let completion = self.append(produce, acks, &mut size_bytes).await;
            partitions.push(AcceptedPartition {
                topic,
                partition,
                size_bytes,
                completion,
            });
        }
        Accepted {
            correlation_id: request.correlation_id,
            timeout: produce_timeout(request.timeout_ms),
            began,
            partitions,
        }
    }

    async fn append(
        &self,
        produce: v1::PartitionProduce,
        acks: Acks,
        size_bytes: &mut usize,
    ) -> Result<ProduceCompletion, PartitionError> {
        let target = self.resolve(&produce.topic, produce.topic_id.as_deref(), produce.partition)?;
        if target.internal {
            let text = format!(
                "{} belongs to the cluster itself; produce to a topic of your own",
                produce.topic
            );
            return Err(PartitionError::new(ErrorCode::InvalidTopicException, text));
        }
        let batch = match produce.data {
            Some(v1::partition_produce::Data::Batch(bytes)) => {
                let batch = Batch::from_producer(bytes, target.max_message_bytes)?;
                self.shared.arrivals.check(&batch).await?;
                batch
            }
            Some(v1::partition_produce::Data::Records(records)) => {
                plain::build(&records, target.max_message_bytes, now_ms())?
            }
            None => {
                let text = "a produce without data: send a batch or plain records";
                return Err(PartitionError::new(ErrorCode::InvalidRecord, text));
            }
        };
        *size_bytes = batch.bytes().len();
        let replicas = &self.shared.replicas;
        let permit = replicas.reserve(*size_bytes).await;
        let leader_epoch = produce.leader_epoch.map(LeaderEpoch);
        replicas.append(
            target.id,
            Produce {
                leader_epoch,
                batch,
                acks,
                purpose: DiskUse::Produce,
                permit,
            },
        )
    }

    /// Waits for a request's acknowledgements.
    pub(super) fn acknowledge(
        &self,
        accepted: Accepted,
    ) -> impl Future<Output = v1::ProduceResponse> + Send + use<> {
        let service = self.clone();
        async move {
            let Accepted {
                correlation_id,
                timeout,
                began,
                partitions,
            } = accepted;
            let waited = partitions
                .into_iter()
                .map(|partition| service.produced(partition, timeout, began));
            v1::ProduceResponse {
                correlation_id,
                partitions: join_all(waited).await,
            }
        }
    }

    async fn produced(
        &self,
        accepted: AcceptedPartition,
        timeout: std::time::Duration,
        began: Instant,
    ) -> v1::PartitionProduced {
        let result = match accepted.completion {
            Ok(completion) => completion.wait(timeout).await,
            Err(error) => Err(error),
        };
        let metrics = &self.shared.metrics;
        let mut answer = v1::PartitionProduced {
            topic: accepted.topic,
            partition: accepted.partition,
            ..Default::default()
        };
        match result {
            Ok(produced) => {
                metrics.produced_batches.inc();
                metrics.produced_bytes.inc_by(accepted.size_bytes as u64);
                metrics.produced_in(began.elapsed());
                answer.base_offset = produced.base_offset.0;
                answer.leader_epoch = produced.leader_epoch.0;
                answer.log_start_offset = produced.log_start.0;
                answer.duplicate = produced.duplicate;
            }
            Err(error) => {
                metrics.produce_errors.inc();
                answer.error = Some(self.refusal(error));
            }
        }
        answer
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
