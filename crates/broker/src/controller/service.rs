//! The metadata leader's end of the session streams.

use std::pin::Pin;

use futures::Stream;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::sessions::{HeartbeatAnswer, answers_heartbeats};
use tidelog_metadata::Metadata;
use tidelog_metadata::peer::{IdentityCheck, PeerRequest};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::controller_server::{Controller, ControllerServer};
use tidelog_types::{BrokerEpoch, BrokerId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

/// Answers that may wait for a broker to take them.
const ANSWER_QUEUE: usize = 8;

/// The service of session streams, as the peer listener serves it.
pub type ControllerService = InterceptedService<ControllerServer<Sessions>, IdentityCheck>;

/// What the streams report to the leader's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionEvent {
    Heard(BrokerIncarnation),
    /// The stream ended, in whatever way.
    Broken(BrokerIncarnation),
}

/// The service to which brokers open their session streams.
pub struct Sessions {
    metadata: Metadata,
    events: mpsc::Sender<SessionEvent>,
    stop: CancellationToken,
}

pub(super) fn service(
    metadata: Metadata,
    events: mpsc::Sender<SessionEvent>,
    stop: CancellationToken,
) -> ControllerService {
    let check = metadata.peers().check();
    InterceptedService::new(
        ControllerServer::new(Sessions {
            metadata,
            events,
            stop,
        }),
        check,
    )
}

type Answers = Pin<Box<dyn Stream<Item = Result<pb::SessionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Controller for Sessions {
    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let from = PeerRequest::of(&request)?.from;
        let (answers, answered) = mpsc::channel(ANSWER_QUEUE);
        let session = Session {
            metadata: self.metadata.clone(),
            events: self.events.clone(),
            broker: from,
            answers,
            last: None,
        };
        let (heartbeats, stop) = (request.into_inner(), self.stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(session.serve(heartbeats)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }
}

/// One broker's stream.
struct Session {
    metadata: Metadata,
    events: mpsc::Sender<SessionEvent>,
    broker: BrokerId,
    answers: mpsc::Sender<Result<pb::SessionResponse, Status>>,
    last: Option<BrokerIncarnation>,
}

impl Session {
    async fn serve(mut self, mut heartbeats: Streaming<pb::SessionRequest>) {
        while let Ok(Some(heartbeat)) = heartbeats.message().await {
            let answer = self.answer(heartbeat).await;
            let over = answer.is_err();
            if self.answers.send(answer).await.is_err() || over {
                break;
            }
        }
        // The broker may be dead; or it only changed its mind. Whoever leads finds out.
        if let Some(incarnation) = self.last {
            let _ = self.events.send(SessionEvent::Broken(incarnation)).await;
        }
    }

    async fn answer(&mut self, heartbeat: pb::SessionRequest) -> Result<pb::SessionResponse, Status> {
        if !self.metadata.is_leader() {
            return Err(Status::failed_precondition(format!(
                "broker {} does not lead the metadata",
                self.metadata.broker()
            )));
        }
        if !answers_heartbeats(self.metadata.since_quorum_ack(), self.metadata.election_max()) {
            return Err(Status::unavailable(format!(
                "broker {} leads the metadata, as far as it knows, but no majority of the voters answers it",
                self.metadata.broker()
            )));
        }
        let incarnation = BrokerIncarnation {
            broker: self.broker,
            epoch: BrokerEpoch(heartbeat.broker_epoch),
        };
        self.last = Some(incarnation);
        let answer = HeartbeatAnswer::of(&self.metadata.image(), incarnation);
        if !answer.stale_epoch {
            let heard = self.events.send(SessionEvent::Heard(incarnation)).await;
            heard.map_err(|_| Status::unavailable("the controller is shutting down"))?;
        }
        Ok(pb::SessionResponse {
            sequence: heartbeat.sequence,
            stale_epoch: answer.stale_epoch,
            fenced: answer.fenced,
        })
    }
}
