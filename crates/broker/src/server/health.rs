//! What the HTTP listener tells of the broker.

use std::sync::{Arc, OnceLock};

use tidelog_metadata::Metadata;
use tidelog_metadata::forming::Formation;

use super::disk::DiskHandle;
use crate::controller::Registration;
use crate::grpc::PartitionCounts;
use crate::http::Health;
use crate::metrics::{Metrics, Snapshot};
use crate::partition::ReplicaManager;

/// The broker, as health checks and scrapes see it.
pub(super) struct BrokerHealth {
    metadata: Metadata,
    replicas: Arc<ReplicaManager>,
    registration: Arc<OnceLock<Registration>>,
    metrics: Arc<Metrics>,
    disk: DiskHandle,
}

impl BrokerHealth {
    pub(super) fn new(
        metadata: Metadata,
        replicas: Arc<ReplicaManager>,
        registration: Arc<OnceLock<Registration>>,
        metrics: Arc<Metrics>,
        disk: DiskHandle,
    ) -> Self {
        Self {
            metadata,
            replicas,
            registration,
            metrics,
            disk,
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

    fn metrics(&self) -> String {
        let image = self.metadata.image();
        let counts = PartitionCounts::of(&image);
        let led = self
            .replicas
            .partitions()
            .iter()
            .filter(|partition| partition.status().is_leader)
            .count();
        self.metrics.expose(&Snapshot {
            under_replicated_partitions: counts.under_replicated.into(),
            under_min_isr_partitions: counts.under_min_isr.into(),
            offline_partitions: counts.offline.into(),
            leader_partitions: led as u64,
            stray_partitions: self.replicas.strays().len() as u64,
            alive_brokers: image.brokers.values().filter(|broker| !broker.fenced).count() as u64,
            metadata_leader: self
                .metadata
                .leader()
                .map_or(0, |leader| leader.broker.get().into()),
            metadata_index: self.metadata.applied_index().0,
            disk_free_bytes: self.disk.free_bytes(),
            disk_reserve_bytes: self.disk.reserve_bytes(),
        })
    }
}
