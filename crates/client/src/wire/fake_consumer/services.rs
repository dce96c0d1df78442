//! The three services, as far as a consumer calls them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tidelog_proto::v1;
use tidelog_proto::v1::admin_server::{Admin, AdminServer};
use tidelog_proto::v1::groups_server::{Groups, GroupsServer};
use tidelog_proto::v1::log_server::{Log, LogServer};
use tidelog_types::ErrorCode;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use super::{FakePartition, FakeSession, State, refusal, topic_id};

pub(super) fn router(id: u32, state: Arc<State>) -> Router {
    let broker = Broker { id, state };
    tonic::transport::Server::builder()
        .add_service(AdminServer::new(broker.clone()))
        .add_service(LogServer::new(broker.clone()))
        .add_service(GroupsServer::new(broker))
}

#[derive(Clone)]
struct Broker {
    id: u32,
    state: Arc<State>,
}

impl Broker {
    /// What there is of a partition from an offset on; whether that is worth an answer at once.
    fn read(&self, fetch: &v1::PartitionFetch) -> (v1::PartitionFetched, bool) {
        let world = self.state.world.lock();
        let mut answer = v1::PartitionFetched {
            topic: fetch.topic.clone(),
            partition: fetch.partition,
            next_offset: fetch.fetch_offset,
            ..Default::default()
        };
        let key = (fetch.topic.clone(), fetch.partition);
        let Some(partition) = world.partitions.get(&key) else {
            answer.error = Some(refusal(ErrorCode::UnknownTopicOrPartition.number()));
            return (answer, true);
        };
        let within = (partition.log_start..=partition.end).contains(&fetch.fetch_offset);
        let out_of_range = (!within).then_some(ErrorCode::OffsetOutOfRange);
        if let Some(code) = self.wrong(partition, fetch.leader_epoch).or(out_of_range) {
            let mut error = refusal(code.number());
            error.leader = Some(world.leader(partition.leader, partition.epoch));
            answer.error = Some(error);
            return (answer, true);
        }
        (answer.high_watermark, answer.log_start_offset) = (partition.end, partition.log_start);
        answer.leader_epoch = partition.epoch;
        let mut room = fetch.max_bytes as usize;
        for (at, (_, batch)) in partition.batches.iter().enumerate() {
            let next = partition
                .batches
                .get(at + 1)
                .map_or(partition.end, |(base, _)| *base);
            if next > fetch.fetch_offset && (answer.batches.is_empty() || batch.len() <= room) {
                room = room.saturating_sub(batch.len());
                answer.batches.push(batch.clone());
            }
        }
        let has_data = !answer.batches.is_empty();
        (answer, has_data)
    }

    /// What a leader refuses for the epoch that its sender believes in.
    fn wrong(&self, partition: &FakePartition, leader_epoch: Option<u32>) -> Option<ErrorCode> {
        let asked = leader_epoch.unwrap_or(partition.epoch);
        match asked.cmp(&partition.epoch) {
            _ if partition.leader != self.id => Some(ErrorCode::NotLeaderOrFollower),
            std::cmp::Ordering::Less => Some(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => Some(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => None,
        }
    }

    async fn answer(self, request: v1::FetchRequest) -> Result<v1::FetchResponse, Status> {
        let noted = request.partitions.iter().map(|fetch| (self.id, fetch.clone()));
        self.state.world.lock().fetches.extend(noted);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(request.max_wait_ms.into());
        loop {
            let changed = self.state.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut all: Vec<_> = request.partitions.iter().map(|fetch| self.read(fetch)).collect();
            let any = all.iter().any(|(_, worth)| *worth);
            if any || tokio::time::timeout_at(deadline, changed).await.is_err() {
                all.retain(|(_, worth)| *worth || !any);
                return Ok(v1::FetchResponse {
                    correlation_id: request.correlation_id,
                    partitions: all.into_iter().map(|(answer, _)| answer).collect(),
                });
            }
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this fake"))
}

#[tonic::async_trait]
impl Log for Broker {
    type ProduceStreamStream = Answers<v1::ProduceResponse>;
    type FetchStreamStream = Answers<v1::FetchResponse>;

    async fn produce(&self, _: Request<v1::ProduceRequest>) -> Result<Response<v1::ProduceResponse>, Status> {
        not_here()
    }

    async fn produce_stream(
        &self,
        _: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        not_here()
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Result<Response<v1::FetchResponse>, Status> {
        not_here()
    }

    async fn fetch_stream(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        let broker = self.clone();
        let answers = request
            .into_inner()
            .take_while(|request| std::future::ready(request.is_ok()))
            .map(move |request| {
                let broker = broker.clone();
                async move { broker.answer(request?).await }
            })
            .buffer_unordered(100);
        Ok(Response::new(answers.boxed()))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        use v1::partition_offset_query::At;
        let mut world = self.state.world.lock();
        let mut found = |query: v1::PartitionOffsetQuery| {
            world.offset_queries.push(query.clone());
            let partition = world.partitions.get(&(query.topic.clone(), query.partition));
            let partition = partition.expect("tests ask for what is there");
            let wrong = self.wrong(partition, query.leader_epoch);
            v1::PartitionOffset {
                topic: query.topic,
                partition: query.partition,
                error: wrong.map(|code| refusal(code.number())),
                offset: match query.at {
                    Some(At::Earliest(_)) => partition.log_start,
                    _ => partition.end,
                },
                timestamp_ms: None,
                leader_epoch: partition.epoch,
                size_bytes: None,
            }
        };
        let partitions = request
            .into_inner()
            .partitions
            .into_iter()
            .map(&mut found)
            .collect();
        Ok(Response::new(v1::ListOffsetsResponse { partitions }))
    }

    async fn init_producer(
        &self,
        _: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl Groups for Broker {
    type SessionStream = Answers<v1::SessionEvent>;

    async fn find_coordinator(
        &self,
        request: Request<v1::FindCoordinatorRequest>,
    ) -> Result<Response<v1::FindCoordinatorResponse>, Status> {
        let world = self.state.world.lock();
        let coordinator = |group_id| v1::Coordinator {
            group_id,
            error: None,
            coordinator: Some(world.leader(world.coordinator, 1)),
        };
        let groups = request.into_inner().group_ids;
        Ok(Response::new(v1::FindCoordinatorResponse {
            coordinators: groups.into_iter().map(coordinator).collect(),
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut said = request.into_inner();
        let first = said.message().await?.and_then(|message| message.request);
        let Some(v1::session_request::Request::Join(join)) = first else {
            return Err(Status::invalid_argument("a Join comes first"));
        };
        let (events, told) = mpsc::unbounded_channel();
        let (to_test, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                if to_test.send(message.request.expect("a request")).is_err() {
                    break;
                }
            }
        });
        let _ = self.state.opened.send(FakeSession {
            broker: self.id,
            epoch: join.member_epoch,
            join,
            requests,
            events,
        });
        Ok(Response::new(UnboundedReceiverStream::new(told).boxed()))
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let request = request.into_inner();
        let mut world = self.state.world.lock();
        world.commits.push(request.clone());
        let member_epoch = request.member_epoch;
        let code = match world.commit_refusals.pop_front() {
            None if member_epoch < world.commit_epoch => Some(ErrorCode::StaleMemberEpoch.number()),
            None if world.coordinator != self.id => Some(ErrorCode::NotCoordinator.number()),
            code => code,
        };
        if let Some(code) = code {
            return Ok(Response::new(v1::CommitResponse {
                error: Some(refusal(code)),
                failures: Vec::new(),
            }));
        }
        for offset in request.offsets {
            let event = format!("commit {}-{}@{}", offset.topic, offset.partition, offset.offset);
            world.events.push(event);
            world
                .committed
                .insert((offset.topic, offset.partition), offset.offset);
        }
        Ok(Response::new(v1::CommitResponse::default()))
    }

    async fn offsets(
        &self,
        request: Request<v1::OffsetsRequest>,
    ) -> Result<Response<v1::OffsetsResponse>, Status> {
        let mut world = self.state.world.lock();
        let request = request.into_inner();
        let wanted = super::session::owned(&request.partitions);
        let committed = world.committed.iter();
        let committed = committed.filter(|(key, _)| wanted.is_empty() || wanted.contains(key));
        let committed = committed.map(|(key, offset)| v1::CommittedOffset {
            topic: key.0.clone(),
            partition: key.1,
            offset: *offset,
            ..Default::default()
        });
        let committed = committed.collect();
        let (offsets, next_token) = world.page(committed, request.page);
        Ok(Response::new(v1::OffsetsResponse {
            offsets,
            next_token,
            ..Default::default()
        }))
    }

    async fn list(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        not_here()
    }

    async fn describe(
        &self,
        _: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        not_here()
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        not_here()
    }
}

#[tonic::async_trait]
impl Admin for Broker {
    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        let mut world = self.state.world.lock();
        let request = request.into_inner();
        let (names, next_token) = world.page(request.topics, request.page);
        let brokers = world.addresses.iter().map(|(id, address)| v1::BrokerNode {
            broker_id: *id,
            address: address.clone(),
            alive: true,
        });
        let topic = |name: String| {
            let of_topic = world.partitions.iter().filter(|((topic, _), _)| *topic == name);
            let partitions: Vec<_> = of_topic
                .map(|(key, known)| {
                    let told = world.stale_leaders.get(key);
                    let (leader, leader_epoch) = told.copied().unwrap_or((known.leader, known.epoch));
                    v1::PartitionMetadata {
                        partition: key.1,
                        leader,
                        leader_epoch,
                    }
                })
                .collect();
            v1::TopicMetadata {
                topic_id: bytes::Bytes::copy_from_slice(topic_id(&name).as_bytes()),
                error: partitions
                    .is_empty()
                    .then(|| refusal(ErrorCode::UnknownTopicOrPartition.number())),
                name,
                internal: false,
                partitions,
            }
        };
        Ok(Response::new(v1::MetadataResponse {
            brokers: brokers.collect(),
            topics: names.into_iter().map(topic).collect(),
            next_token,
            ..Default::default()
        }))
    }

    async fn create_topic(
        &self,
        _: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        not_here()
    }

    async fn delete_topic(
        &self,
        _: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        not_here()
    }

    async fn alter_topic_configs(
        &self,
        _: Request<v1::AlterTopicConfigsRequest>,
    ) -> Result<Response<v1::AlterTopicConfigsResponse>, Status> {
        not_here()
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        let mut world = self.state.world.lock();
        let request = request.into_inner();
        let known = world.partitions.keys().filter(|key| key.0 == request.name);
        let known = known.map(|(_, partition)| v1::PartitionDescription {
            partition: *partition,
            ..Default::default()
        });
        let known = known.collect();
        let (partitions, next_token) = world.page(known, request.page);
        let id = world.described_as.pop_front();
        let id = id.unwrap_or_else(|| topic_id(&request.name));
        Ok(Response::new(v1::DescribeTopicResponse {
            name: request.name,
            topic_id: bytes::Bytes::copy_from_slice(id.as_bytes()),
            partitions,
            next_token,
            ..Default::default()
        }))
    }

    async fn list_topics(
        &self,
        _: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        not_here()
    }

    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let contact_ms_ago = self.state.world.lock().cut_off_ms.get(&self.id).copied();
        Ok(Response::new(v1::DescribeClusterResponse {
            answered_by: Some(v1::BrokerStanding {
                broker_id: self.id,
                contact_ms_ago,
                stale: contact_ms_ago.is_some(),
                unready_reasons: Vec::new(),
            }),
            ..Default::default()
        }))
    }

    async fn describe_broker(
        &self,
        _: Request<v1::DescribeBrokerRequest>,
    ) -> Result<Response<v1::DescribeBrokerResponse>, Status> {
        not_here()
    }
}
