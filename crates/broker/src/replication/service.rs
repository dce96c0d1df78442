//! The leader's side: the gRPC service.

use std::sync::Arc;

use tidelog_proto::internal::v1 as proto;
use tidelog_proto::internal::v1::replication_server::{Replication, ReplicationServer};
use tidelog_types::limits::MAX_GRPC_MESSAGE_BYTES;
use tidelog_types::{BrokerEpoch, BrokerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::session::Session;
use super::wire::Peer;
use crate::partition::ReplicaManager;

/// Answers to one follower that are on their way into its stream.
const OUTBOUND_MESSAGES: usize = 2;

/// Serves followers' streams.
pub struct ReplicationService {
    manager: Arc<ReplicaManager>,
    /// Ends every stream.
    stop: CancellationToken,
}

impl ReplicationService {
    /// The service, to be added to the peer listener. Streams end when `stop` is cancelled.
    pub fn server(manager: Arc<ReplicaManager>, stop: CancellationToken) -> ReplicationServer<Self> {
        ReplicationServer::new(Self { manager, stop })
            .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES)
    }

    fn greet(&self, first: &proto::ReplicaFetchRequest) -> Result<Peer, Status> {
        let hello = first
            .hello
            .as_ref()
            .ok_or_else(|| Status::invalid_argument("a replication stream begins with a hello"))?;
        let local = self.manager.local();
        if hello.leader_id != local.get() {
            let message = format!("this is broker {local}, not broker {}", hello.leader_id);
            return Err(Status::failed_precondition(message));
        }
        let broker = BrokerId::new(hello.broker_id)
            .filter(|broker| *broker != local)
            .ok_or_else(|| Status::invalid_argument("no broker follows itself or has the id 0"))?;
        Ok(Peer {
            broker,
            broker_epoch: BrokerEpoch(hello.broker_epoch),
        })
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    type FetchStream = ReceiverStream<Result<proto::ReplicaFetchResponse, Status>>;

    async fn fetch(
        &self,
        request: Request<Streaming<proto::ReplicaFetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an empty stream"))?;
        let peer = self.greet(&first)?;
        let (outbound, answers) = mpsc::channel(OUTBOUND_MESSAGES);
        let session = Session::new(Arc::clone(&self.manager), peer);
        session.receive(first);
        let stop = self.stop.child_token();
        let reading = Arc::clone(&session).read(inbound, stop.clone());
        tokio::spawn(reading);
        tokio::spawn(session.write(outbound, stop));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
