//! Log.FetchStream: several questions may wait at once, each answered when it has something.

use std::time::Duration;

use bytes::Bytes;
use tidelog_proto::v1;
use tidelog_types::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Refusal, id_bytes, refused, status_error, topic_partition};
use crate::connection::Channel;
use crate::error::Result;

/// One question, about any number of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchAsk {
    /// Comes back with the answer.
    pub(crate) id: u64,
    pub(crate) max_wait: Duration,
    pub(crate) min_bytes: u32,
    pub(crate) max_bytes: u32,
    pub(crate) partitions: Vec<PartitionAsk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionAsk {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    /// The newest epoch that was seen (R6).
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) fetch_offset: Offset,
    pub(crate) max_bytes: u32,
}

/// An answer: partitions without news are left out.
#[derive(Debug)]
pub(crate) struct FetchAnswer {
    pub(crate) id: u64,
    pub(crate) partitions: Vec<(TopicPartition, Result<Fetched, Refusal>)>,
}

/// What a leader has of a partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) high_watermark: Offset,
    /// One RecordBatch each; the first may begin below what was asked for.
    pub(crate) batches: Vec<Bytes>,
}

/// The answers of one stream.
pub(crate) struct FetchAnswers(Streaming<v1::FetchResponse>);

impl FetchAnswers {
    /// The next answer; `None` when the broker ended the stream. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<FetchAnswer>> {
        match self.0.message().await {
            Ok(Some(response)) => answer(response).map(Some),
            Ok(None) => Ok(None),
            Err(status) => Err(status_error(&status)),
        }
    }
}

/// Opens a stream over which everything from `asks` is asked.
pub(crate) async fn fetch_stream(channel: Channel, asks: mpsc::Receiver<FetchAsk>) -> Result<FetchAnswers> {
    let requests = ReceiverStream::new(asks).map(request);
    let opened = super::log::client(channel).fetch_stream(requests).await;
    let answers = opened.map_err(|status| status_error(&status))?.into_inner();
    Ok(FetchAnswers(answers))
}

fn request(ask: FetchAsk) -> v1::FetchRequest {
    let partition = |ask: PartitionAsk| v1::PartitionFetch {
        topic: ask.partition.topic.into(),
        partition: ask.partition.partition.0,
        topic_id: Some(id_bytes(ask.topic_id)),
        leader_epoch: ask.leader_epoch.map(|epoch| epoch.0),
        fetch_offset: ask.fetch_offset.0,
        max_bytes: ask.max_bytes,
    };
    v1::FetchRequest {
        correlation_id: ask.id,
        max_wait_ms: ask.max_wait.as_millis() as u32,
        min_bytes: ask.min_bytes,
        max_bytes: ask.max_bytes,
        plain_records: false,
        partitions: ask.partitions.into_iter().map(partition).collect(),
    }
}

fn answer(response: v1::FetchResponse) -> Result<FetchAnswer> {
    let partition = |told: v1::PartitionFetched| {
        let partition = topic_partition(&told.topic, told.partition)?;
        let fetched = refused(told.error).map(|()| Fetched {
            leader_epoch: LeaderEpoch(told.leader_epoch),
            high_watermark: Offset(told.high_watermark),
            batches: told.batches,
        });
        Ok((partition, fetched))
    };
    Ok(FetchAnswer {
        id: response.correlation_id,
        partitions: response
            .partitions
            .into_iter()
            .map(partition)
            .collect::<Result<_>>()?,
    })
}
