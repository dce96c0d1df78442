//! The Groups service: consumer groups over gRPC.

pub(crate) mod convert;
mod pages;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tidelog_cluster::image::ClusterImage;
use tidelog_group::{AssignmentVersion, Effect, MemberEpoch};
use tidelog_proto::v1;
use tidelog_proto::v1::groups_server::Groups as GroupsApi;
use tidelog_types::limits::MAX_PAGE_SIZE;
use tidelog_types::{
    BrokerId, ErrorCode, GroupId, LeaderEpoch, PartitionError, PartitionIndex, TopicIdPartition, TopicName,
    coordinator_partition,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::{Listener, deadline};
use crate::coordinator::{ReplicaLog, StateLog};
use crate::group::{Groups, MemberStream};

/// Most groups one FindCoordinator may name.
const MAX_GROUPS_PER_REQUEST: usize = 1_000;
/// How long a commit or deletion may wait for replication, if its caller waits that long.
const REPLICATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The newest cluster image.
pub type Images = Arc<dyn Fn() -> Arc<ClusterImage> + Send + Sync>;

/// The service of one client listener: addresses in its answers are that listener's.
pub struct GroupsService<L = ReplicaLog> {
    groups: Groups<L>,
    images: Images,
    listener: Listener,
    tasks: TaskTracker,
}

impl<L> Clone for GroupsService<L> {
    fn clone(&self) -> Self {
        Self {
            groups: self.groups.clone(),
            images: Arc::clone(&self.images),
            listener: self.listener.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl<L: StateLog> GroupsService<L> {
    /// For one listener.
    pub fn new(groups: Groups<L>, images: Images, listener: Listener, tasks: TaskTracker) -> Self {
        Self {
            groups,
            images,
            listener,
            tasks,
        }
    }

    fn coordinator(&self, group: &str) -> Result<v1::Leader, PartitionError> {
        let group: GroupId = convert::group_id(group)?;
        let image = (self.images)();
        let (broker, epoch) = leader(&image, &group).ok_or_else(|| {
            let message = format!("group {group} has no coordinator at this moment: ask again");
            PartitionError::new(ErrorCode::CoordinatorNotAvailable, message)
        })?;
        Ok(v1::Leader {
            broker_id: broker.get(),
            leader_epoch: epoch.0,
            address: self.listener.address(&image, broker),
        })
    }

    /// A refusal, naming the coordinator where this broker is not the one.
    fn refusal(&self, group: &str, error: PartitionError) -> v1::Error {
        let image = (self.images)();
        let error = match error.code {
            ErrorCode::NotCoordinator if error.leader.is_none() => {
                let leader = group.parse().ok().and_then(|group| leader(&image, &group));
                error.with_leader(leader)
            }
            _ => error,
        };
        self.listener.refusal(&image, error)
    }

    async fn open(&self, join: v1::Join, host: String) -> Result<MemberStream, PartitionError> {
        let fresh = uuid::Uuid::new_v4().to_string();
        let join = convert::join(join, fresh, host, &self.groups.topics())?;
        self.groups.join(join).await
    }

    async fn do_commit(
        &self,
        request: v1::CommitRequest,
        within: Duration,
    ) -> Result<Vec<tidelog_group::CommitFailure>, PartitionError> {
        let group = convert::group_id(&request.group_id)?;
        let member = convert::member(&request.member_id, request.member_epoch)?;
        let offsets = convert::offsets_to_commit(request.offsets)?;
        self.groups.commit(group, member, offsets, within).await
    }

    async fn do_offsets(&self, request: v1::OffsetsRequest) -> Result<v1::OffsetsResponse, PartitionError> {
        let group = convert::group_id(&request.group_id)?;
        let member = convert::member(&request.member_id, request.member_epoch)?;
        let wanted = match request.partitions {
            all if all.is_empty() => None,
            some => Some(convert::partitions(&some, &self.groups.topics())?),
        };
        let offsets = self.groups.offsets(group, member, wanted).await?;
        pages::offsets(offsets, request.page)
    }

    async fn do_list(
        &self,
        page: v1::PageRequest,
    ) -> Result<(Vec<v1::GroupSummary>, String), PartitionError> {
        let size = if page.size == 0 {
            MAX_PAGE_SIZE
        } else {
            page.size.min(MAX_PAGE_SIZE)
        } as usize;
        let after = match page.token.as_str() {
            "" => None,
            token => Some(convert::group_id(token)?),
        };
        let mut groups = self.groups.list(after, size + 1).await?;
        let more = groups.len() > size;
        groups.truncate(size);
        let next_token = match groups.last() {
            Some(last) if more => last.group.to_string(),
            _ => String::new(),
        };
        Ok((groups.into_iter().map(convert::summary).collect(), next_token))
    }

    async fn do_describe(
        &self,
        group: &str,
        page: Option<v1::PageRequest>,
    ) -> Result<v1::DescribeGroupResponse, PartitionError> {
        let id = convert::group_id(group)?;
        let description = self.groups.describe(id).await?;
        pages::description(group, description, &self.groups.topics(), page)
    }

    /// What the coordinator tells a member, as it reads it.
    fn event(&self, group: &str, effect: Effect) -> Option<v1::SessionEvent> {
        use v1::session_event::Event;
        let event = match effect {
            Effect::Joined { member, epoch, .. } => {
                let config = self.groups.config();
                Event::Joined(v1::Joined {
                    member_id: member.to_string(),
                    member_epoch: epoch.0,
                    heartbeat_interval_ms: config.heartbeat_interval.as_millis() as u32,
                    session_timeout_ms: config.session_timeout.as_millis() as u32,
                })
            }
            Effect::Assign {
                version,
                epoch,
                partitions,
                unknown_topics,
                ..
            } => Event::Assignment(v1::Assignment {
                version: version.0,
                member_epoch: epoch.0,
                partitions: convert::by_topic(&partitions, &self.groups.topics()),
                unknown_topics: unknown_topics.iter().map(ToString::to_string).collect(),
            }),
            Effect::HeartbeatAnswer { epoch, .. } => Event::Heartbeat(v1::HeartbeatAnswer {
                member_epoch: epoch.0,
            }),
            // After an orderly leave the stream just ends.
            Effect::End { error, .. } => Event::Ended(self.refusal(group, error?)),
            Effect::Reply { .. } => return None,
        };
        Some(v1::SessionEvent { event: Some(event) })
    }

    fn ended(&self, group: &str, error: PartitionError) -> v1::SessionEvent {
        let error = self.refusal(group, error);
        v1::SessionEvent {
            event: Some(v1::session_event::Event::Ended(error)),
        }
    }
}

fn leader(image: &ClusterImage, group: &GroupId) -> Option<(BrokerId, LeaderEpoch)> {
    let topic = image.topic_by_name(&TopicName::consumer_offsets())?;
    let partition: PartitionIndex = coordinator_partition(group);
    let registration = image.partition(TopicIdPartition {
        topic_id: topic.id,
        partition,
    })?;
    Some((registration.leader?, registration.leader_epoch))
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::SessionEvent, Status>> + Send>>;

#[tonic::async_trait]
impl<L: StateLog> GroupsApi for GroupsService<L> {
    type SessionStream = Events;

    async fn find_coordinator(
        &self,
        request: Request<v1::FindCoordinatorRequest>,
    ) -> Result<Response<v1::FindCoordinatorResponse>, Status> {
        let group_ids = request.into_inner().group_ids;
        if group_ids.len() > MAX_GROUPS_PER_REQUEST {
            return Err(Status::invalid_argument(format!(
                "at most {MAX_GROUPS_PER_REQUEST} groups a request"
            )));
        }
        let coordinators = group_ids.into_iter().map(|group_id| {
            let (error, coordinator) = match self.coordinator(&group_id) {
                Ok(leader) => (None, Some(leader)),
                Err(error) => (Some(error.into()), None),
            };
            v1::Coordinator {
                group_id,
                error,
                coordinator,
            }
        });
        Ok(Response::new(v1::FindCoordinatorResponse {
            coordinators: coordinators.collect(),
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Events>, Status> {
        let host = request
            .remote_addr()
            .map(|address| address.ip().to_string())
            .unwrap_or_default();
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(v1::session_request::Request::Join(join)) = first else {
            return Err(Status::invalid_argument(
                "the first request of a session must be a Join",
            ));
        };
        let group = join.group_id.clone();
        let mut session = match self.open(join, host).await {
            Ok(session) => session,
            Err(error) => {
                let ended = self.ended(&group, error);
                return Ok(Response::new(futures::stream::iter([Ok(ended)]).boxed()));
            }
        };
        let events = session
            .take_events()
            .ok_or_else(|| Status::internal("a session without events"))?;
        let (refusals, refused) = tokio::sync::mpsc::channel(1);
        // The coordinator's last word ends the stream, though the client may keep its half open.
        let over = CancellationToken::new();
        let told_all = over.clone();
        let service = self.clone();
        let pump_group = group.clone();
        self.tasks.spawn(async move {
            let why = over.run_until_cancelled(service.pump(&session, requests)).await;
            if let Some(Err(error)) = why {
                // Only this: the receiver is gone if the client is.
                let _ = refusals.send(Ok(service.ended(&pump_group, error))).await;
            }
            session.disconnected().await;
        });
        let service = self.clone();
        let told = ReceiverStream::new(events)
            .filter_map(move |effect| futures::future::ready(service.event(&group, effect).map(Ok)));
        let over = futures::stream::once(async move { told_all.cancel() })
            .filter_map(|()| futures::future::ready(None));
        Ok(Response::new(
            told.chain(over).chain(ReceiverStream::new(refused)).boxed(),
        ))
    }

    async fn commit(
        &self,
        request: Request<v1::CommitRequest>,
    ) -> Result<Response<v1::CommitResponse>, Status> {
        let within = deadline::within(request.metadata(), REPLICATE_TIMEOUT);
        let request = request.into_inner();
        let group = request.group_id.clone();
        Ok(Response::new(match self.do_commit(request, within).await {
            Ok(failures) => v1::CommitResponse {
                error: None,
                failures: failures.into_iter().map(convert::failure).collect(),
            },
            Err(error) => v1::CommitResponse {
                error: Some(self.refusal(&group, error)),
                failures: Vec::new(),
            },
        }))
    }

    async fn offsets(
        &self,
        request: Request<v1::OffsetsRequest>,
    ) -> Result<Response<v1::OffsetsResponse>, Status> {
        let request = request.into_inner();
        let group = request.group_id.clone();
        Ok(Response::new(match self.do_offsets(request).await {
            Ok(page) => page,
            Err(error) => v1::OffsetsResponse {
                error: Some(self.refusal(&group, error)),
                ..Default::default()
            },
        }))
    }

    async fn list(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let page = request.into_inner().page.unwrap_or_default();
        Ok(Response::new(match self.do_list(page).await {
            Ok((groups, next_token)) => v1::ListGroupsResponse {
                error: None,
                groups,
                next_token,
            },
            Err(error) => v1::ListGroupsResponse {
                error: Some(error.into()),
                ..Default::default()
            },
        }))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        let request = request.into_inner();
        let group = request.group_id;
        let answer = self.do_describe(&group, request.page).await;
        Ok(Response::new(answer.unwrap_or_else(|error| {
            v1::DescribeGroupResponse {
                error: Some(self.refusal(&group, error)),
                group_id: group,
                ..Default::default()
            }
        })))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let within = deadline::within(request.metadata(), REPLICATE_TIMEOUT);
        let group = request.into_inner().group_id;
        let deleted = match convert::group_id(&group) {
            Ok(id) => self.groups.delete(id, within).await,
            Err(error) => Err(error),
        };
        let error = deleted.err().map(|error| self.refusal(&group, error));
        Ok(Response::new(v1::DeleteGroupResponse { error }))
    }
}

impl<L: StateLog> GroupsService<L> {
    /// A member's messages, until its stream or its coordinator is gone. An error is the member's
    /// own mistake.
    async fn pump(
        &self,
        session: &MemberStream,
        mut requests: Streaming<v1::SessionRequest>,
    ) -> Result<(), PartitionError> {
        use v1::session_request::Request as Said;
        while let Ok(Some(message)) = requests.message().await {
            let heard = match message.request {
                Some(Said::Heartbeat(heartbeat)) => {
                    session.heartbeat(MemberEpoch(heartbeat.member_epoch)).await
                }
                Some(Said::Revoked(revoked)) => {
                    let owned = convert::partitions(&revoked.owned, &self.groups.topics())?;
                    session
                        .revoked(AssignmentVersion(revoked.assignment_version), owned)
                        .await
                }
                Some(Said::Subscribe(subscribe)) => {
                    session.subscribe(convert::subscription(subscribe)?).await
                }
                Some(Said::Leave(leave)) => session.leave(leave.keep_instance).await,
                Some(Said::Join(_)) => {
                    let message = "a stream joins once: open another one to join again";
                    return Err(PartitionError::new(ErrorCode::InvalidRequest, message));
                }
                // A newer client's request that this broker does not know.
                None => true,
            };
            if !heard {
                break;
            }
        }
        Ok(())
    }
}
