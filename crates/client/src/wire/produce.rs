//! The Log service as producers use it: produce streams and producer ids.

use std::time::Duration;

use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_types::{LeaderEpoch, ProducerStamp, TopicId, TopicPartition};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Refusal, id_bytes, log, malformed, refused, request, status_error};
use crate::connection::Channel;
use crate::error::{Error, Result};
use crate::producer::{Acks, Identity};

/// One partition's batch in a request.
#[derive(Debug, Clone)]
pub(crate) struct BatchToProduce {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) bytes: Bytes,
}

/// What one message of the stream carries: batches of any partitions that the broker leads, in
/// order.
#[derive(Debug, Clone)]
pub(crate) struct ProduceRequest {
    pub(crate) correlation_id: u64,
    pub(crate) acks: Acks,
    pub(crate) timeout: Duration,
    pub(crate) batches: Vec<BatchToProduce>,
}

/// The answer to one request: the base offset of each batch, or its refusal, in the request's
/// order.
#[derive(Debug, Clone)]
pub(crate) struct ProduceAnswer {
    pub(crate) correlation_id: u64,
    pub(crate) outcomes: Vec<Result<u64, Refusal>>,
}

/// The answering half of a produce stream.
#[derive(Debug)]
pub(crate) struct ProduceAnswers(Streaming<v1::ProduceResponse>);

/// Opens a stream. When this returns the broker has taken the call, and requests may be put into
/// the queue; an error means that it never saw one. `on_sent` is called whenever a request left the
/// queue.
pub(crate) async fn open(
    channel: Channel,
    requests: mpsc::Receiver<ProduceRequest>,
    on_sent: impl Fn() + Send + 'static,
) -> Result<ProduceAnswers> {
    let messages = ReceiverStream::new(requests).map(move |request| {
        on_sent();
        message(request)
    });
    let opened = log::client(channel).produce_stream(messages).await;
    let answers = opened.map_err(|status| status_error(&status))?;
    Ok(ProduceAnswers(answers.into_inner()))
}

impl ProduceAnswers {
    /// The next answer, in no fixed order. An error is the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<ProduceAnswer> {
        let answer = self.0.message().await.map_err(|status| status_error(&status))?;
        let answer = answer.ok_or_else(|| {
            Error::new(
                crate::error::ErrorKind::Unreachable,
                "the broker ended the stream",
            )
        })?;
        Ok(ProduceAnswer {
            correlation_id: answer.correlation_id,
            outcomes: answer.partitions.into_iter().map(outcome).collect(),
        })
    }
}

fn outcome(told: v1::PartitionProduced) -> Result<u64, Refusal> {
    refused(told.error).map(|()| told.base_offset)
}

fn message(request: ProduceRequest) -> v1::ProduceRequest {
    let acks = match request.acks {
        Acks::All => v1::Acks::All,
        Acks::Leader => v1::Acks::Leader,
        Acks::None => v1::Acks::None,
    };
    let partition = |batch: BatchToProduce| v1::PartitionProduce {
        topic: batch.partition.topic.into(),
        partition: batch.partition.partition.0,
        topic_id: Some(id_bytes(batch.topic_id)),
        leader_epoch: Some(batch.leader_epoch.0),
        data: Some(v1::partition_produce::Data::Batch(batch.bytes)),
    };
    v1::ProduceRequest {
        correlation_id: request.correlation_id,
        acks: acks.into(),
        timeout_ms: (request.timeout.as_millis() as u32).max(1),
        partitions: request.batches.into_iter().map(partition).collect(),
    }
}

/// A new producer id, or the epoch after `current`.
pub(crate) async fn init_producer(
    channel: Channel,
    current: Option<Identity>,
    timeout: Duration,
) -> Result<Identity> {
    let message = v1::InitProducerRequest {
        producer_id: current.map(|identity| identity.id.0),
        producer_epoch: current.map(|identity| identity.epoch.0.into()),
    };
    let asked = log::client(channel)
        .init_producer(request(message, timeout))
        .await;
    let answer = asked.map_err(|status| status_error(&status))?.into_inner();
    super::accepted(answer.error)?;
    let fields = || {
        let id = i64::try_from(answer.producer_id).ok()?;
        let epoch = i16::try_from(answer.producer_epoch).ok()?;
        ProducerStamp::from_wire(id, epoch, 0)
    };
    let stamp = fields().ok_or_else(|| malformed("a producer's id and epoch"))?;
    Ok(Identity {
        id: stamp.id,
        epoch: stamp.epoch,
    })
}
