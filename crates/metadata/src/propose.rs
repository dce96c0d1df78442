//! Proposals: handed to Raft here if this broker leads, else forwarded to the one that does.

use std::time::Duration;

use openraft::ServerState;
use openraft::error::{ClientWriteError, RaftError};
use thiserror::Error;
use tidelog_cluster::{Command, Outcome};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::metadata_client::MetadataClient;
use tidelog_proto::internal::v1::propose_response::Result as Proposed;
use tidelog_types::{BrokerId, ErrorCode, PartitionError};
use tokio::time::Instant;

use crate::codec::{command, outcome};
use crate::handle::Metadata;
use crate::membership::other_nodes;
use crate::node_id::RaftNodeId;
use crate::peer::{Lane, is_refused};
use crate::raft_types::EncodedCommand;

/// Longest a proposal may wait.
pub const MAX_PROPOSE_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest encoded command that is written to the log, bytes. The largest that anybody has a use
/// for, a topic with its configs or a registration with its listeners, is far below it; what is
/// refused here costs no sync and no replication.
pub const MAX_COMMAND_BYTES: usize = 256 * 1024;
/// How long to wait before a leader that did not take the proposal is asked again, unless another
/// one is known sooner.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why a proposal has no outcome. Every one of them may be tried again: commands compare and set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nobody took the command in time; it is not in the log.
    #[error("no metadata leader took the command within {0:?}; nothing was changed; try again")]
    NoLeader(Duration),
    /// The command may be in the log, and may be applied later.
    #[error("it is not known whether the command was applied: {0}; look, or try again")]
    Indeterminate(String),
    /// This broker's metadata stopped.
    #[error("this broker's metadata stopped: {0}")]
    Stopped(String),
}

impl ProposeError {
    /// Whether proposing the same again may succeed, here.
    pub const fn is_retriable(&self) -> bool {
        !matches!(self, Self::Stopped(_))
    }
}

/// What came of a proposal at one broker.
pub(crate) enum LocalProposal {
    Applied(Outcome),
    NotLeader,
    Indeterminate(String),
    Stopped(String),
}

impl Metadata {
    /// Proposes a command and waits until it was applied by the metadata leader. This broker's own
    /// image may follow a moment later: [`Metadata::wait_for_index`].
    ///
    /// Dropping the future does not take the command back.
    pub async fn propose(&self, command: Command, timeout: Duration) -> Result<Outcome, ProposeError> {
        let timeout = timeout.min(MAX_PROPOSE_TIMEOUT);
        let deadline = Instant::now() + timeout;
        if let Some(refused) = self.refuse_too_large(command::to_bytes(&command).len()) {
            return Ok(refused);
        }
        let mut leaders = self.leader_watch();
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(ProposeError::NoLeader(timeout));
            }
            let leader = leaders.borrow_and_update().map(|leader| leader.broker);
            let tried = match leader {
                Some(broker) if broker == self.broker() => self.propose_here(&command, rest).await,
                Some(broker) => self.forward(broker, &command, rest).await,
                None => LocalProposal::NotLeader,
            };
            match tried {
                LocalProposal::Applied(outcome) => return Ok(outcome),
                LocalProposal::Indeterminate(why) => return Err(ProposeError::Indeterminate(why)),
                LocalProposal::Stopped(why) => return Err(ProposeError::Stopped(why)),
                LocalProposal::NotLeader => {
                    let pause = RETRY_PAUSE.min(deadline.saturating_duration_since(Instant::now()));
                    let _ = tokio::time::timeout(pause, leaders.changed()).await;
                }
            }
        }
    }

    /// The refusal of a command that the log does not take.
    fn refuse_too_large(&self, bytes: usize) -> Option<Outcome> {
        (bytes > MAX_COMMAND_BYTES).then(|| Outcome {
            index: self.applied_index(),
            result: Err(PartitionError::new(
                ErrorCode::InvalidRequest,
                format!("a metadata command of {bytes} bytes; at most {MAX_COMMAND_BYTES} are taken: ask for less at a time"),
            )),
        })
    }

    /// The refusal of a registration from a directory that is not its broker's any more, if this
    /// broker leads and knows.
    fn refuse_replaced(&self, command: &Command) -> Option<Outcome> {
        let Command::RegisterBroker(register) = command else {
            return None;
        };
        let node = RaftNodeId::new(register.broker, register.directory);
        let replaced = {
            let metrics = self.raft().metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            metrics.state == ServerState::Leader
                && membership.get_node(&node.0).is_none()
                && !other_nodes(membership, node).is_empty()
        };
        replaced.then(|| Outcome {
            index: self.applied_index(),
            result: Err(PartitionError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "broker {} is part of this cluster on another data directory than {}; one broker has one directory",
                    register.broker, register.directory
                ),
            )),
        })
    }

    /// Proposes to the Raft of this broker, if it leads.
    pub(crate) async fn propose_here(&self, command: &Command, timeout: Duration) -> LocalProposal {
        let bytes = EncodedCommand(command::to_bytes(command));
        // Also what others forward, whatever they looked at.
        if let Some(refused) = self.refuse_too_large(bytes.0.len()) {
            return LocalProposal::Applied(refused);
        }
        if let Some(refused) = self.refuse_replaced(command) {
            return LocalProposal::Applied(refused);
        }
        match tokio::time::timeout(timeout, self.raft().client_write(bytes)).await {
            Err(_) => LocalProposal::Indeterminate(format!("it was not applied within {timeout:?}")),
            Ok(Ok(written)) => match outcome::from_bytes(&written.data.0) {
                Ok(outcome) => LocalProposal::Applied(outcome),
                Err(error) => LocalProposal::Indeterminate(error.to_string()),
            },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => LocalProposal::NotLeader,
            Ok(Err(error)) => LocalProposal::Stopped(error.to_string()),
        }
    }

    async fn forward(&self, to: BrokerId, command: &Command, timeout: Duration) -> LocalProposal {
        let channel = match self.peers().channel(to, Lane::Control) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::debug!(%error, "a proposal cannot be forwarded");
                return LocalProposal::NotLeader;
            }
        };
        let request = pb::ProposeRequest {
            command: Some(command::to_message(command)),
            timeout_ms: timeout.as_millis() as u32,
        };
        let mut client = MetadataClient::new(channel);
        let answer = match tokio::time::timeout(timeout, client.propose(request)).await {
            Err(_) => {
                return LocalProposal::Indeterminate(format!(
                    "broker {to} gave no answer within {timeout:?}"
                ));
            }
            // Nothing listens there, or it refused before it looked: nothing was done.
            Ok(Err(status)) if is_refused(&status) || status.code() == tonic::Code::FailedPrecondition => {
                return LocalProposal::NotLeader;
            }
            Ok(Err(status)) => {
                return LocalProposal::Indeterminate(format!("broker {to} answered {}", status.message()));
            }
            Ok(Ok(answer)) => answer.into_inner().result,
        };
        match answer {
            Some(Proposed::Outcome(message)) => match outcome::from_message(message) {
                Ok(outcome) => LocalProposal::Applied(outcome),
                Err(error) => LocalProposal::Indeterminate(error.to_string()),
            },
            Some(Proposed::NotLeader(_)) => LocalProposal::NotLeader,
            Some(Proposed::Indeterminate(why)) => LocalProposal::Indeterminate(why.message),
            None => LocalProposal::Indeterminate(format!("broker {to} gave an empty answer")),
        }
    }
}
