//! One session stream, from the broker's side.

use std::time::{Duration, Instant};

use tidelog_cluster::session::Heartbeats;
use tidelog_cluster::sessions::HeartbeatAnswer;
use tidelog_metadata::Metadata;
use tidelog_metadata::peer::Lane;
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::controller_client::ControllerClient;
use tidelog_types::{BrokerEpoch, BrokerId};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Heartbeats that may wait to be sent.
const HEARTBEAT_QUEUE: usize = 4;
/// How long a stream may take to come about.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Heartbeats under way to one metadata leader.
pub(super) struct SessionStream {
    requests: mpsc::Sender<pb::SessionRequest>,
    answers: Streaming<pb::SessionResponse>,
    opened: Instant,
    heartbeats: Heartbeats,
}

/// What happened on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionNews {
    /// A heartbeat was answered.
    Answered {
        /// When it had been sent.
        sent: Instant,
        /// What the leader knows of the registration.
        answer: HeartbeatAnswer,
    },
    /// The stream broke, or its leader leads no more.
    Broken,
}

impl SessionStream {
    /// Opens a stream to the metadata leader.
    pub(super) async fn open(metadata: &Metadata, leader: BrokerId, interval: Duration) -> Option<Self> {
        let channel = metadata.peers().channel(leader, Lane::Control).ok()?;
        let (requests, sent) = mpsc::channel(HEARTBEAT_QUEUE);
        let mut client = ControllerClient::new(channel);
        let open = client.session(ReceiverStream::new(sent));
        let answers = match tokio::time::timeout(OPEN_TIMEOUT, open).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                tracing::debug!(%leader, %status, "no session with the metadata leader");
                return None;
            }
            Err(_) => return None,
        };
        Some(Self {
            requests,
            answers,
            opened: Instant::now(),
            heartbeats: Heartbeats::new(interval, Duration::ZERO),
        })
    }

    /// Sends heartbeats until there is news. Safe to drop and call again.
    pub(super) async fn news(&mut self, epoch: BrokerEpoch, metadata: &Metadata) -> SessionNews {
        loop {
            let wake = self.heartbeats.next_wake();
            let due = self.opened + wake.unwrap_or_default();
            tokio::select! {
                answer = self.answers.message() => {
                    let Ok(Some(answer)) = answer else { return SessionNews::Broken };
                    if let Some(sent) = self.heartbeats.answered(answer.sequence) {
                        let answer = HeartbeatAnswer { stale_epoch: answer.stale_epoch, fenced: answer.fenced };
                        return SessionNews::Answered { sent: self.opened + sent, answer };
                    }
                }
                () = sleep_until(due.into()), if wake.is_some() => {
                    let Some(sequence) = self.heartbeats.beat(self.opened.elapsed()) else { continue };
                    let heartbeat = pb::SessionRequest {
                        broker_epoch: epoch.0,
                        metadata_index: metadata.applied_index().0,
                        sequence,
                    };
                    if self.requests.try_send(heartbeat).is_err() {
                        return SessionNews::Broken;
                    }
                }
            }
        }
    }
}
