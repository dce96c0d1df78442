//! Whether the broker is ready.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidelog_metadata::Metadata;
use tidelog_metadata::forming::Formation;

use crate::controller::Registration;
use crate::health::Health;
use crate::partition::ReplicaManager;

/// The broker, as health checks see it.
pub(super) struct BrokerHealth {
    metadata: Metadata,
    replicas: Arc<ReplicaManager>,
    registration: Arc<OnceLock<Registration>>,
}

impl BrokerHealth {
    pub(super) fn new(
        metadata: Metadata,
        replicas: Arc<ReplicaManager>,
        registration: Arc<OnceLock<Registration>>,
    ) -> Self {
        Self {
            metadata,
            replicas,
            registration,
        }
    }
}

impl Health for BrokerHealth {
    fn unready_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.metadata.formation() {
            Formation::Formed => {}
            Formation::Waiting(what) => {
                reasons.push(format!("the cluster has not formed: waiting for {what}"));
            }
            Formation::Refused(error) => reasons.push(error.to_string()),
        }
        match self
            .registration
            .get()
            .map(|registration| *registration.status().borrow())
        {
            None => reasons.push("not registered with the cluster yet".to_owned()),
            Some(status) if status.epoch.is_none() => {
                reasons.push("not registered with the cluster".to_owned());
            }
            Some(status) if status.draining => reasons.push("about to stop".to_owned()),
            Some(status) if status.fenced => reasons.push("catching up with the metadata".to_owned()),
            Some(_) if self.replicas.is_fenced() => {
                reasons.push("its session with the cluster ran out".to_owned());
            }
            Some(_) => {}
        }
        reasons
    }

    fn since_contact(&self) -> Option<Duration> {
        if self.metadata.is_leader() {
            // It answers its own heartbeats for a while after the last quorum.
            return self.metadata.since_quorum_ack();
        }
        // Nobody leads: what was heard of the last leader says nothing of now.
        self.metadata.leader()?;
        self.registration.get()?.self_fence().since_heard()
    }
}
