//! Raft's calls to other nodes, over the peer channels.
#![expect(clippy::result_large_err, reason = "openraft's trait fixes the error type")]

use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use tidelog_proto::internal::v1::raft_client::RaftClient;
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tonic::{Response, Status};

use crate::codec::{DecodeError, raft, rpc};
use crate::node_id::RaftNodeId;
use crate::peer::{Lane, PeerChannel, PeerPool};
use crate::raft_types::TypeConfig;

/// How long to leave a node alone that could not be reached.
const BACKOFF: Duration = Duration::from_millis(100);

type Failure<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// Makes [`Connection`]s.
pub(crate) struct Network {
    pub(crate) peers: PeerPool,
}

/// Calls to one node.
pub(crate) struct Connection {
    peers: PeerPool,
    target: RaftNodeId,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        let target = RaftNodeId(target);
        // The configured address wins over the one of the day the node joined.
        if let Some(broker) = target.broker()
            && self.peers.address(broker).is_none()
        {
            self.peers.set_address(broker, &node.addr);
        }
        Connection {
            peers: self.peers.clone(),
            target,
        }
    }
}

impl Connection {
    fn client<E: std::error::Error>(&self) -> Result<RaftClient<PeerChannel>, Failure<E>> {
        let unknown = || unreachable_node(&DecodeError::Field("node id"));
        let broker = self.target.broker().ok_or_else(unknown)?;
        let channel = self
            .peers
            .channel(broker, Lane::Control)
            .map_err(|error| unreachable_node(&error))?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES))
    }
}

fn unreachable_node<E: std::error::Error>(error: &(impl std::error::Error + 'static)) -> Failure<E> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn undecodable<E: std::error::Error>(error: DecodeError) -> Failure<E> {
    RPCError::Network(NetworkError::new(&error))
}

/// Waits for an answer as long as Raft allows. Whatever goes wrong, the node is left alone for a
/// moment.
async fn within<T, E: std::error::Error>(
    option: &RPCOption,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure<E>> {
    match tokio::time::timeout(option.hard_ttl(), call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            tracing::debug!(%status, "a raft call failed");
            Err(RPCError::Unreachable(Unreachable::new(&AnyError::error(
                status.message(),
            ))))
        }
        Err(elapsed) => Err(unreachable_node(&elapsed)),
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        let message = rpc::append_to(self.target.0, request);
        let mut client = self.client()?;
        let answer = within(&option, client.append_entries(message)).await?;
        rpc::appended_from(answer).map_err(undecodable)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        let message = rpc::segment_to(self.target.0, request);
        let mut client = self.client()?;
        let answer = within(&option, client.install_snapshot(message)).await?;
        if let Some(mismatch) = answer.mismatch {
            let error = InstallSnapshotError::SnapshotMismatch(rpc::mismatch_from(mismatch));
            return Err(RPCError::RemoteError(RemoteError::new(
                self.target.0,
                RaftError::APIError(error),
            )));
        }
        let vote = raft::required_vote(answer.vote.as_ref()).map_err(undecodable)?;
        Ok(InstallSnapshotResponse { vote })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        let message = rpc::vote_request_to(self.target.0, &request);
        let mut client = self.client()?;
        let answer = within(&option, client.vote(message)).await?;
        rpc::voted_from(&answer).map_err(undecodable)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
