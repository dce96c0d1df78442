//! The Log service: produce, fetch, offsets, producer ids.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message as _;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_metadata::Metadata;
use tidelog_proto::v1;
use tidelog_proto::v1::log_server::Log;
use tidelog_types::limits::MAX_PARTITIONS_PER_REQUEST;
use tidelog_types::{
    ErrorCode, LeaderEpoch, PartitionError, PartitionIndex, TopicIdPartition, TopicName, check_topic_id,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::producer_ids::{self, ProducerIds};
use super::{Listener, deadline, page, topic_id, unknown_topic};
use crate::metrics::Metrics;
use crate::partition::{OffsetQuery, ReplicaManager};

mod arrival;
pub(super) mod fetch;
pub(super) mod produce;

/// Produce requests of one stream that await their acknowledgement; beyond it the stream is not
/// read on.
const MAX_PRODUCES_IN_FLIGHT: usize = 1_000;
/// Fetch requests of one stream that wait; beyond it the stream is not read on.
const MAX_FETCHES_IN_FLIGHT: usize = 100;
/// Answers of one stream that were made and not yet sent.
const MAX_UNSENT_ANSWERS: usize = 4;

/// The service of one client listener. Cheap to clone.
#[derive(Clone)]
pub struct LogService {
    shared: Arc<Shared>,
    listener: Listener,
}

/// What the services of all listeners share.
pub struct Shared {
    replicas: Arc<ReplicaManager>,
    metadata: Metadata,
    producer_ids: ProducerIds,
    arrivals: arrival::Arrivals,
    metrics: Arc<Metrics>,
    /// Ends streams when the broker stops; the broker's own token or a child of it.
    shutdown: CancellationToken,
}

impl Shared {
    /// For one broker.
    pub fn new(
        replicas: Arc<ReplicaManager>,
        metadata: Metadata,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let producer_ids = ProducerIds::new(metadata.clone());
        Arc::new(Self {
            replicas,
            metadata,
            producer_ids,
            arrivals: arrival::Arrivals::default(),
            metrics,
            shutdown,
        })
    }
}

impl LogService {
    /// For one listener.
    pub fn new(shared: Arc<Shared>, listener: Listener) -> Self {
        Self { shared, listener }
    }

    /// A partition by name, as the brokers know it, with the largest batch that its topic takes.
    /// Where the request names an id, the topic must be that one.
    fn resolve(&self, topic: &str, id: Option<&[u8]>, partition: u32) -> Result<Target, PartitionError> {
        let meant = topic_id(id)?;
        let image = self.shared.metadata.image();
        let found = topic
            .parse::<TopicName>()
            .ok()
            .and_then(|name| image.topic_by_name(&name).cloned());
        check_topic_id(topic, meant, found.as_ref().map(|topic| topic.id))?;
        let found = found.ok_or_else(|| unknown_topic(topic))?;
        let index = PartitionIndex(partition);
        let Some(registration) = found.partition(index) else {
            let text = format!(
                "topic {topic} has {} partitions, so none numbered {partition}",
                found.partitions.len()
            );
            return Err(PartitionError::new(ErrorCode::UnknownTopicOrPartition, text));
        };
        let id = TopicIdPartition {
            topic_id: found.id,
            partition: index,
        };
        if registration
            .leader
            .is_some_and(|leader| leader != self.shared.replicas.local())
        {
            let text = format!("this broker does not lead {topic}-{partition}; ask its leader");
            let leader = registration
                .leader
                .map(|leader| (leader, registration.leader_epoch));
            return Err(PartitionError::new(ErrorCode::NotLeaderOrFollower, text).with_leader(leader));
        }
        Ok(Target {
            id,
            max_message_bytes: found.configs.max_message_bytes(),
            internal: found.name.is_internal(),
        })
    }

    fn refusal(&self, error: PartitionError) -> v1::Error {
        self.listener.refusal(&self.shared.metadata.image(), error)
    }

    async fn offset(&self, query: v1::PartitionOffsetQuery) -> v1::PartitionOffset {
        use v1::partition_offset_query::At;
        let at = match query.at {
            Some(At::Earliest(_)) => OffsetQuery::Earliest,
            Some(At::TimestampMs(timestamp_ms)) => OffsetQuery::Timestamp(timestamp_ms),
            Some(At::Latest(_)) | None => OffsetQuery::Latest,
        };
        let epoch = query.leader_epoch.map(LeaderEpoch);
        let found = async {
            let target = self.resolve(&query.topic, query.topic_id.as_deref(), query.partition)?;
            self.shared
                .replicas
                .target(target.id)?
                .list_offset(epoch, at)
                .await
        };
        let mut answer = v1::PartitionOffset {
            partition: query.partition,
            ..Default::default()
        };
        match found.await {
            Ok(found) => {
                answer.offset = found.offset.0;
                answer.timestamp_ms = found.timestamp_ms;
                answer.leader_epoch = found.leader_epoch.0;
                answer.size_bytes = found.size_bytes;
            }
            Err(error) => answer.error = Some(self.refusal(error)),
        }
        answer.topic = query.topic;
        answer
    }

    async fn new_producer(
        &self,
        request: v1::InitProducerRequest,
        within: Duration,
    ) -> Result<v1::InitProducerResponse, PartitionError> {
        let given_away = self.shared.metadata.image().next_producer_id.0;
        if let Some(raised) = producer_ids::raised(&request, given_away)? {
            return Ok(raised);
        }
        let replicas = &self.shared.replicas;
        let Some(epoch) = replicas.broker_epoch() else {
            let text = "this broker is not registered with the cluster yet; ask again or ask another";
            return Err(PartitionError::new(ErrorCode::LeaderNotAvailable, text));
        };
        let broker = BrokerIncarnation {
            broker: replicas.local(),
            epoch,
        };
        let id = self.shared.producer_ids.next(broker, within).await?;
        Ok(v1::InitProducerResponse {
            error: None,
            producer_id: id.0,
            producer_epoch: 0,
        })
    }
}

/// Where a request goes.
struct Target {
    id: TopicIdPartition,
    max_message_bytes: u32,
    internal: bool,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for LogService {
    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let request = request.into_inner();
        check_count(request.partitions.len())?;
        let accepted = self.take(request).await;
        let mut response = self.acknowledge(accepted).await;
        let size_bytes = response.encoded_len();
        page::shorten(
            size_bytes,
            response
                .partitions
                .iter_mut()
                .filter_map(|answer| answer.error.as_mut()),
        );
        Ok(Response::new(response))
    }

    type ProduceStreamStream = Answers<v1::ProduceResponse>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let (answers, receiver) = mpsc::channel(MAX_UNSENT_ANSWERS);
        tokio::spawn(produce::stream(self.clone(), request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        let mut request = request.into_inner();
        check_count(request.partitions.len())?;
        if request.max_bytes == 0 {
            request.max_bytes = fetch::unary_bytes(&request);
        }
        let (mut response, _permit) = self.read(request).await;
        let size_bytes = response.encoded_len();
        page::shorten(
            size_bytes,
            response
                .partitions
                .iter_mut()
                .filter_map(|answer| answer.error.as_mut()),
        );
        Ok(Response::new(response))
    }

    type FetchStreamStream = Answers<v1::FetchResponse>;

    async fn fetch_stream(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        let (answers, receiver) = mpsc::channel(MAX_UNSENT_ANSWERS);
        tokio::spawn(fetch::stream(self.clone(), request.into_inner(), answers));
        // Room for the answer is given back when the transport takes it.
        let answers = ReceiverStream::new(receiver).map(|answer| answer.map(|(response, _permit)| response));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let request = request.into_inner();
        check_count(request.partitions.len())?;
        let partitions = join_all(request.partitions.into_iter().map(|query| self.offset(query))).await;
        let mut response = v1::ListOffsetsResponse { partitions };
        let size_bytes = response.encoded_len();
        page::shorten(
            size_bytes,
            response
                .partitions
                .iter_mut()
                .filter_map(|answer| answer.error.as_mut()),
        );
        Ok(Response::new(response))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let within = deadline::within(request.metadata(), producer_ids::TIMEOUT);
        let answer = self.new_producer(request.into_inner(), within).await;
        Ok(Response::new(answer.unwrap_or_else(|error| {
            v1::InitProducerResponse {
                error: Some(self.refusal(error)),
                ..Default::default()
            }
        })))
    }
}

fn check_count(partitions: usize) -> Result<(), Status> {
    if partitions > MAX_PARTITIONS_PER_REQUEST {
        let text =
            format!("{partitions} partitions in one request; at most {MAX_PARTITIONS_PER_REQUEST} are taken");
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// The most a client may have a produce wait for replicas, and what 0 means.
const MAX_PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);

fn produce_timeout(timeout_ms: u32) -> Duration {
    match timeout_ms {
        0 => MAX_PRODUCE_TIMEOUT,
        ms => Duration::from_millis(ms.into()).min(MAX_PRODUCE_TIMEOUT),
    }
}

/// Serves a stream of requests: at most `MAX` of them at a time, each answered when its future is
/// done, in no fixed order.
macro_rules! serve {
    ($requests:expr, $answers:expr, $shutdown:expr, $max:expr, |$request:ident| $begin:expr) => {{
        let mut requests = $requests;
        let mut running = FuturesUnordered::new();
        let mut open = true;
        // Who said all that it had to say is answered all of it, and then the stream ends.
        while open || !running.is_empty() {
            tokio::select! {
                biased;
                () = $shutdown.cancelled() => {
                    let _ = $answers.send(Err(Status::unavailable("the broker is stopping; connect to another"))).await;
                    break;
                }
                Some(answer) = running.next() => {
                    // Nobody listens any more: what is in flight goes on without an answer.
                    if $answers.send(Ok(answer)).await.is_err() {
                        break;
                    }
                }
                next = requests.next(), if open && running.len() < $max => match next {
                    Some(Ok($request)) => match check_count($request.partitions.len()) {
                        Ok(()) => running.push($begin),
                        Err(status) => {
                            let _ = $answers.send(Err(status)).await;
                            break;
                        }
                    },
                    Some(Err(_)) => break,
                    None => open = false,
                },
            }
        }
    }};
}
use serve;
