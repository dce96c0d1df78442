//! Brokers on loopback listeners, as far as a producer sees them. They share one log, keep R9's
//! rule, and answer as a script says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_proto::v1;
use tidelog_proto::v1::admin_server::{Admin, AdminServer};
use tidelog_proto::v1::log_server::{Log, LogServer};
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, ProducerStamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The topic there is.
pub(crate) const TOPIC: &str = "orders";

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Append and answer.
    Store,
    /// Append, and answer when the test releases it.
    Hold,
    Refuse(ErrorCode),
    /// Append, then end the stream.
    StoreThenBreak,
    /// End the stream.
    Break,
    /// Append nothing and never answer.
    Silence,
}

/// A batch as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) broker: u32,
    pub(crate) correlation_id: u64,
    pub(crate) acks: i32,
    pub(crate) partition: u32,
    pub(crate) stamp: Option<ProducerStamp>,
    pub(crate) record_count: u32,
}

/// The cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Counts requests, so that tests can wait for them.
    requests: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

struct State {
    addresses: BTreeMap<u32, String>,
    partitions: u32,
    leader: u32,
    epoch: u32,
    /// Whether Admin.Metadata tells of the leader that there is.
    metadata_knows: bool,
    script: VecDeque<Reply>,
    otherwise: Reply,
    seen: Vec<Seen>,
    /// Values of the records by partition.
    logs: HashMap<u32, Vec<String>>,
    stored: HashMap<(u32, u64, u16, i32), u64>,
    next_sequence: HashMap<(u32, u64, u16), i32>,
    next_producer_id: u64,
}

#[derive(Clone)]
struct Broker {
    id: u32,
    cluster: Cluster,
}

impl Cluster {
    /// Starts brokers 1 to `brokers`; broker 1 leads.
    pub(crate) async fn start(brokers: u32, partitions: u32) -> Self {
        let cluster = Self(Arc::new(Shared {
            state: Mutex::new(State {
                addresses: BTreeMap::new(),
                partitions,
                leader: 1,
                epoch: 1,
                metadata_knows: true,
                script: VecDeque::new(),
                otherwise: Reply::Store,
                seen: Vec::new(),
                logs: HashMap::new(),
                stored: HashMap::new(),
                next_sequence: HashMap::new(),
                next_producer_id: 7,
            }),
            requests: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }));
        for id in 1..=brokers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            cluster.0.state.lock().addresses.insert(id, address);
            let broker = Broker {
                id,
                cluster: cluster.clone(),
            };
            let server = tonic::transport::Server::builder()
                .add_service(LogServer::new(broker.clone()))
                .add_service(AdminServer::new(broker))
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::spawn(server);
        }
        cluster
    }

    pub(crate) async fn client(&self) -> tidelog_client::Client {
        let bootstrap = self.0.state.lock().addresses[&1].clone();
        tidelog_client::Client::builder([bootstrap])
            .connect()
            .await
            .unwrap()
    }

    /// What is done with the next requests, and with all after them.
    pub(crate) fn script(&self, next: impl IntoIterator<Item = Reply>, otherwise: Reply) {
        let mut state = self.0.state.lock();
        state.script = next.into_iter().collect();
        state.otherwise = otherwise;
    }

    /// Answers what is held, now and from now on.
    pub(crate) fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Another broker leads; whether metadata tells, or only the hint in a refusal.
    pub(crate) fn lead(&self, leader: u32, metadata_knows: bool) {
        let mut state = self.0.state.lock();
        state.leader = leader;
        state.epoch += 1;
        state.metadata_knows = metadata_knows;
    }

    /// A broker's address as metadata tells it from now on.
    pub(crate) fn readdress(&self, broker: u32, address: String) {
        self.0.state.lock().addresses.insert(broker, address);
    }

    /// Waits until so many requests came in.
    pub(crate) async fn requests(&self, count: usize) {
        let mut requests = self.0.requests.subscribe();
        let seen = requests.wait_for(|seen| *seen >= count);
        tokio::time::timeout(Duration::from_secs(20), seen)
            .await
            .expect("requests should have come in")
            .unwrap();
    }

    pub(crate) fn request_count(&self) -> usize {
        *self.0.requests.borrow()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.state.lock().seen.clone()
    }

    /// Values of a partition's records.
    pub(crate) fn log(&self, partition: u32) -> Vec<String> {
        self.0
            .state
            .lock()
            .logs
            .get(&partition)
            .cloned()
            .unwrap_or_default()
    }
}

impl State {
    fn append(&mut self, partition: u32, batch: &Batch) -> Result<u64, ErrorCode> {
        let log = self.logs.entry(partition).or_default();
        let base = log.len() as u64;
        if let Some(stamp) = batch.info().producer {
            let (epoch, sequence) = (stamp.epoch.0, stamp.base_sequence.to_wire());
            let key = (partition, stamp.id.0, epoch, sequence);
            if let Some(offset) = self.stored.get(&key) {
                return Ok(*offset);
            }
            let next = self
                .next_sequence
                .entry((partition, stamp.id.0, epoch))
                .or_insert(0);
            if *next != sequence {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            *next += batch.header().record_count as i32;
            self.stored.insert(key, base);
        }
        let records = batch.open(tidelog_record::DEFAULT_OPENED_BYTES).unwrap();
        let value = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        log.extend(records.iter().map(|record| value(record.unwrap().value)));
        Ok(base)
    }

    fn produce(&mut self, broker: u32, request: &v1::ProduceRequest, reply: Reply) -> v1::ProduceResponse {
        let mut partitions = Vec::new();
        for produce in &request.partitions {
            let Some(v1::partition_produce::Data::Batch(bytes)) = &produce.data else {
                panic!("a batch was expected");
            };
            let batch = Batch::from_producer(bytes.clone(), u32::MAX).unwrap();
            self.seen.push(Seen {
                broker,
                correlation_id: request.correlation_id,
                acks: request.acks,
                partition: produce.partition,
                stamp: batch.info().producer,
                record_count: batch.header().record_count,
            });
            let outcome = match reply {
                _ if broker != self.leader => Err(ErrorCode::NotLeaderOrFollower),
                Reply::Refuse(code) => Err(code),
                Reply::Break | Reply::Silence => Err(ErrorCode::UnknownServerError),
                Reply::Store | Reply::Hold | Reply::StoreThenBreak => self.append(produce.partition, &batch),
            };
            partitions.push(v1::PartitionProduced {
                topic: produce.topic.clone(),
                partition: produce.partition,
                base_offset: outcome.unwrap_or_default(),
                error: outcome.err().map(|code| self.refusal(code)),
                ..Default::default()
            });
        }
        v1::ProduceResponse {
            correlation_id: request.correlation_id,
            partitions,
        }
    }

    fn refusal(&self, code: ErrorCode) -> v1::Error {
        let leader = (code == ErrorCode::NotLeaderOrFollower).then(|| v1::Leader {
            broker_id: self.leader,
            leader_epoch: self.epoch,
            address: self.addresses[&self.leader].clone(),
        });
        v1::Error {
            code: code.number(),
            message: "as the script says".into(),
            leader,
        }
    }
}

type Answers = mpsc::Sender<Result<v1::ProduceResponse, Status>>;

async fn serve(broker: Broker, mut requests: Streaming<v1::ProduceRequest>, answers: Answers) {
    let shared = &broker.cluster.0;
    while let Ok(Some(request)) = requests.message().await {
        let (reply, answer) = {
            let mut state = shared.state.lock();
            let otherwise = state.otherwise;
            let reply = state.script.pop_front().unwrap_or(otherwise);
            (reply, state.produce(broker.id, &request, reply))
        };
        shared.requests.send_modify(|count| *count += 1);
        match reply {
            Reply::Store | Reply::Refuse(_) => {
                let _ = answers.send(Ok(answer)).await;
            }
            Reply::Hold => {
                let (answers, mut released) = (answers.clone(), shared.released.subscribe());
                tokio::spawn(async move {
                    let _ = released.wait_for(|released| *released).await;
                    let _ = answers.send(Ok(answer)).await;
                });
            }
            Reply::Silence => {}
            Reply::Break | Reply::StoreThenBreak => {
                let _ = answers
                    .send(Err(Status::unavailable("the script breaks the stream")))
                    .await;
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Log for Broker {
    type ProduceStreamStream = Pin<Box<dyn Stream<Item = Result<v1::ProduceResponse, Status>> + Send>>;
    type FetchStreamStream = Pin<Box<dyn Stream<Item = Result<v1::FetchResponse, Status>> + Send>>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let (answers, receiver) = mpsc::channel(16);
        tokio::spawn(serve(self.clone(), request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.cluster.0.state.lock();
        let (producer_id, producer_epoch) = match (request.producer_id, request.producer_epoch) {
            (Some(id), Some(epoch)) => (id, epoch + 1),
            _ => {
                state.next_producer_id += 1;
                (state.next_producer_id, 0)
            }
        };
        Ok(Response::new(v1::InitProducerResponse {
            error: None,
            producer_id,
            producer_epoch,
        }))
    }

    async fn produce(&self, _: Request<v1::ProduceRequest>) -> Result<Response<v1::ProduceResponse>, Status> {
        Err(Status::unimplemented("a producer streams"))
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn fetch_stream(
        &self,
        _: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_offsets(
        &self,
        _: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

impl State {
    fn metadata(&self, name: String) -> v1::TopicMetadata {
        if name != TOPIC {
            let error = Some(self.refusal(ErrorCode::UnknownTopicOrPartition));
            return v1::TopicMetadata {
                name,
                error,
                ..Default::default()
            };
        }
        let (leader, leader_epoch) = if self.metadata_knows {
            (self.leader, self.epoch)
        } else {
            (1, 1)
        };
        let partition = |partition| v1::PartitionMetadata {
            partition,
            leader,
            leader_epoch,
        };
        v1::TopicMetadata {
            name,
            topic_id: vec![1; 16].into(),
            partitions: (0..self.partitions).map(partition).collect(),
            ..Default::default()
        }
    }
}

#[tonic::async_trait]
impl Admin for Broker {
    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        let state = self.cluster.0.state.lock();
        let node = |(id, address): (&u32, &String)| v1::BrokerNode {
            broker_id: *id,
            address: address.clone(),
            alive: true,
        };
        let topics = request.into_inner().topics.into_iter();
        Ok(Response::new(v1::MetadataResponse {
            metadata_index: 1,
            brokers: state.addresses.iter().map(node).collect(),
            topics: topics.map(|name| state.metadata(name)).collect(),
            ..Default::default()
        }))
    }

    async fn create_topic(
        &self,
        _: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn delete_topic(
        &self,
        _: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn alter_topic_configs(
        &self,
        _: Request<v1::AlterTopicConfigsRequest>,
    ) -> Result<Response<v1::AlterTopicConfigsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn describe_topic(
        &self,
        _: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_topics(
        &self,
        _: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn describe_broker(
        &self,
        _: Request<v1::DescribeBrokerRequest>,
    ) -> Result<Response<v1::DescribeBrokerResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}
