//! The peer listener's side: Raft's calls, and proposals forwarded by other brokers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::error::{InstallSnapshotError, RaftError};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::metadata_server::MetadataServer;
use tidelog_proto::internal::v1::propose_response::{Indeterminate, NotLeader, Result as Proposed};
use tidelog_proto::internal::v1::raft_server::RaftServer;
use tidelog_proto::internal::v1::{metadata_server, raft_server};
use tidelog_types::BrokerId;
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::codec::{DecodeError, command, outcome, raft, rpc};
use crate::contact::LastContact;
use crate::handle::Metadata;
use crate::node_id::RaftNodeId;
use crate::peer::{IdentityCheck, PeerRequest};
use crate::propose::{LocalProposal, MAX_PROPOSE_TIMEOUT};
use crate::raft_types::Raft;
use crate::taking_in::take_in;

/// Longest that taking a node in may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Raft's service, as the peer listener serves it.
pub type RaftService = InterceptedService<RaftServer<RaftCalls>, IdentityCheck>;
/// The service for forwarded proposals, as the peer listener serves it.
pub type ProposeService = InterceptedService<MetadataServer<ProposeCalls>, IdentityCheck>;

/// Answers the calls of the metadata group's other nodes.
pub struct RaftCalls {
    pub(crate) raft: Raft,
    pub(crate) node: RaftNodeId,
    pub(crate) contact: Arc<LastContact>,
    pub(crate) metadata: Metadata,
}

/// Answers proposals that other brokers forward.
pub struct ProposeCalls {
    pub(crate) metadata: Metadata,
}

impl Metadata {
    /// Raft's service, for the peer listener.
    pub fn raft_service(&self) -> RaftService {
        let calls = RaftCalls {
            raft: self.raft().clone(),
            node: self.node_id(),
            contact: self.contact(),
            metadata: self.clone(),
        };
        let server = RaftServer::new(calls)
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES);
        InterceptedService::new(server, self.peers().check())
    }

    /// The service for forwarded proposals, for the peer listener.
    pub fn propose_service(&self) -> ProposeService {
        let server = MetadataServer::new(ProposeCalls {
            metadata: self.clone(),
        });
        InterceptedService::new(server, self.peers().check())
    }
}

fn undecodable(error: DecodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: &impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the metadata of this broker stopped: {error}"))
}

impl RaftCalls {
    /// Refuses what is meant for a disk that is gone (M30).
    fn check_target(&self, to_node: u64) -> Result<(), Status> {
        if to_node == self.node.0 {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "a raft call for node {} reached node {}: the broker's data directory is another one",
            RaftNodeId(to_node),
            self.node
        )))
    }

    fn members(&self) -> Vec<u64> {
        self.raft
            .metrics()
            .borrow()
            .membership_config
            .nodes()
            .map(|(id, _)| *id)
            .collect()
    }

    fn voters(&self) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.voter_ids().collect()
    }

    /// The log index of the membership that this node knows; 0 if it knows none.
    fn membership_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.log_id().map_or(0, |id| id.index)
    }

    fn leader(&self) -> u32 {
        let leader = self.raft.metrics().borrow().current_leader;
        leader
            .and_then(|node| RaftNodeId(node).broker())
            .map_or(0, BrokerId::get)
    }
}

#[tonic::async_trait]
impl raft_server::Raft for RaftCalls {
    async fn hello(&self, _: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        let initialized = self
            .raft
            .is_initialized()
            .await
            .map_err(|error| stopped(&error))?;
        let cluster_id = self.metadata.peers().cluster_id();
        Ok(Response::new(pb::HelloResponse {
            node_id: self.node.0,
            pristine: !initialized,
            cluster_id: cluster_id
                .map(|id| id.as_bytes().to_vec().into())
                .unwrap_or_default(),
            member_node_ids: self.members(),
            voter_node_ids: self.voters().into_iter().collect(),
            leader: self.leader(),
            membership_index: self.membership_index(),
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        let from = PeerRequest::of(&request)?.from;
        let join = request.into_inner();
        let node = RaftNodeId(join.node_id);
        if node.broker() != Some(from) {
            return Err(Status::invalid_argument(format!(
                "broker {from} cannot join as node {node}"
            )));
        }
        let leads = self.raft.metrics().borrow().state == ServerState::Leader;
        if !leads {
            return Ok(Response::new(pb::JoinResponse {
                accepted: false,
                leader: self.leader(),
            }));
        }
        tokio::time::timeout(JOIN_TIMEOUT, take_in(&self.metadata, node, &join.address))
            .await
            .map_err(|_| {
                Status::deadline_exceeded(format!("node {node} is not caught up yet; ask again"))
            })??;
        Ok(Response::new(pb::JoinResponse {
            accepted: true,
            leader: self.leader(),
        }))
    }

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let message = request.into_inner();
        self.check_target(message.to_node)?;
        let request = rpc::append_from(message).map_err(undecodable)?;
        let answer = self
            .raft
            .append_entries(request)
            .await
            .map_err(|error| stopped(&error))?;
        if !matches!(answer, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
            self.contact.note();
        }
        Ok(Response::new(rpc::appended_to(answer)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let message = request.into_inner();
        self.check_target(message.to_node)?;
        let request = rpc::vote_request_from(&message).map_err(undecodable)?;
        let answer = self.raft.vote(request).await.map_err(|error| stopped(&error))?;
        Ok(Response::new(rpc::voted_to(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<pb::InstallSnapshotRequest>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let message = request.into_inner();
        self.check_target(message.to_node)?;
        let request = rpc::segment_from(message).map_err(undecodable)?;
        self.contact.note();
        let (vote, mismatch) = match self.raft.install_snapshot(request).await {
            Ok(answer) => (Some(raft::vote_to(&answer.vote)), None),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                (None, Some(rpc::mismatch_to(mismatch)))
            }
            Err(RaftError::Fatal(error)) => return Err(stopped(&error)),
        };
        Ok(Response::new(pb::InstallSnapshotResponse { vote, mismatch }))
    }
}

#[tonic::async_trait]
impl metadata_server::Metadata for ProposeCalls {
    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeResponse>, Status> {
        let message = request.into_inner();
        let timeout = Duration::from_millis(message.timeout_ms.into()).min(MAX_PROPOSE_TIMEOUT);
        let command = message
            .command
            .ok_or_else(|| undecodable(DecodeError::Field("command")))?;
        let command = command::from_message(command).map_err(undecodable)?;
        let result = match self.metadata.propose_here(&command, timeout).await {
            LocalProposal::Applied(applied) => Proposed::Outcome(outcome::to_message(applied)),
            LocalProposal::NotLeader => Proposed::NotLeader(NotLeader {}),
            LocalProposal::Indeterminate(message) => Proposed::Indeterminate(Indeterminate { message }),
            LocalProposal::Stopped(why) => return Err(stopped(&why)),
        };
        Ok(Response::new(pb::ProposeResponse { result: Some(result) }))
    }
}
