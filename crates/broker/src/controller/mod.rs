//! Who is alive, and what follows from it.
//!
//! Every broker runs both services of this module:
//!
//! - [`Registration`]: this broker's own session. It registers with the metadata leader, sends
//!   heartbeats, serves once it has caught up with the metadata, registers anew when it lost its
//!   session, and fences *itself* when nobody answered for a session's length.
//! - [`Controller`]: the duties of the metadata leader, idle on every other broker. It keeps the
//!   session table, fences brokers for silence and for refused connections, makes the internal
//!   topic, and puts leaderships back in balance.
//!
//! Start-up and shutdown, in order:
//!
//! ```text
//! peers        = PeerPool::new(me, voters)
//! metadata     = Metadata::start(config, peers)
//! controller   = Controller::start(metadata, ControllerConfig::default())
//! peer listener: metadata.raft_service(), metadata.propose_service(), controller.service(), replication …
//! metadata.formed()                                  an emptied disk is refused here
//! replicas     loaded from the store
//! registration = Registration::start(metadata, RegistrationConfig { … })
//! ReplicaManager follows registration.status() and metadata.subscribe(); client listeners open
//!
//! registration.drain(timeout)                        leaderships move away (R11); clients are told who leads
//! client listeners close, replicas flush
//! registration.leave(timeout)                        fenced by its own wish; no session any more
//! controller.shutdown(); metadata.shutdown(); the peer listener closes last
//! ```
//!
//! - `leadership`: one metadata leadership, from election to its end
//! - `upkeep`: the internal topic, the balance of leaderships
//! - `service`: the metadata leader's end of the session streams
//! - `registration`, `session`, `status`: the broker's end

mod leadership;
mod registration;
mod service;
mod session;
mod status;
mod upkeep;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tidelog_cluster::sessions::{HEARTBEAT_INTERVAL, SESSION_TIMEOUT};
use tidelog_metadata::Metadata;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use registration::{FEATURE_LEVEL, LeaveError, Registration, RegistrationConfig};
pub use service::ControllerService;
pub use status::{BrokerStatus, SelfFence};

use service::SessionEvent;

/// Most session events that may wait for the metadata leader's task.
const EVENT_QUEUE: usize = 1024;
/// How long a proposal of the controller may take; what it wanted is looked at again then.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Timings of sessions and upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerConfig {
    /// How long a broker may be silent. The same on every broker.
    pub session_timeout: Duration,
    /// How often a broker sends a heartbeat.
    pub heartbeat_interval: Duration,
    /// How often leaderships are put back in balance.
    pub balance_interval: Duration,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            session_timeout: SESSION_TIMEOUT,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            balance_interval: Duration::from_mins(1),
        }
    }
}

/// The metadata leader's duties: idle while another broker leads. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    metadata: Metadata,
    events: mpsc::Sender<SessionEvent>,
    tasks: TaskTracker,
    /// Ends the duties, and every session stream.
    stop: CancellationToken,
}

impl Controller {
    /// Starts to watch for leadership. Must be called on a tokio runtime.
    pub fn start(metadata: Metadata, config: ControllerConfig) -> Self {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(leadership::run(
            metadata.clone(),
            config,
            received,
            tasks.clone(),
            stop.clone(),
        ));
        Self {
            metadata,
            events,
            tasks,
            stop,
        }
    }

    /// The service of session streams, for the peer listener.
    pub fn service(&self) -> ControllerService {
        service::service(self.metadata.clone(), self.events.clone(), self.stop.clone())
    }

    /// Ends the duties and every session stream.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
