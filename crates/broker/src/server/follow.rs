//! What a broker does in the background: finding its cluster, registering, following the metadata.

use std::sync::{Arc, OnceLock};

use tidelog_cluster::image::ClusterImage;
use tidelog_group::Topics;
use tidelog_metadata::Metadata;
use tidelog_storage::RocksStore;
use tidelog_types::BrokerEpoch;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::disk::DiskWatch;
use super::hooks::Fatal;
use crate::controller::{BrokerStatus, Registration, RegistrationConfig};
use crate::group::topics_of;
use crate::partition::ReplicaManager;

/// Everything that the way into the cluster takes.
pub(super) struct BringUp {
    pub(super) metadata: Metadata,
    pub(super) store: Arc<RocksStore>,
    pub(super) replicas: Arc<ReplicaManager>,
    pub(super) registration: Arc<OnceLock<Registration>>,
    pub(super) registration_config: RegistrationConfig,
    pub(super) topics: watch::Sender<Arc<Topics>>,
    pub(super) fatal: Fatal,
    /// Cancelled when the broker begins to stop. It loses its registration and its metadata log
    /// then, and neither is worth a warning.
    pub(super) stopping: CancellationToken,
}

/// Starts the background tasks; they end with `stop`.
pub(super) fn start(tasks: &TaskTracker, bring_up: BringUp, disk: DiskWatch, stop: CancellationToken) {
    let (metadata, fatal) = (bring_up.metadata.clone(), bring_up.fatal.clone());
    let token = bring_up.stopping.clone();
    tasks.spawn(async move {
        // Both may have come by the time this is looked at: then the broker ended its metadata
        // itself.
        if let Some(reason) = token.run_until_cancelled(metadata.failed()).await
            && !token.is_cancelled()
        {
            fatal.fail(format!("the metadata log stopped: {reason}"));
        }
    });
    tasks.spawn(disk.run(stop.clone()));
    let (replicas, token) = (Arc::clone(&bring_up.replicas), stop.clone());
    tasks.spawn(async move { replicas.run(token).await });
    tasks.spawn(async move {
        stop.run_until_cancelled(bring_up.run()).await;
    });
}

impl BringUp {
    async fn run(self) {
        if let Err(reason) = self.enter().await {
            self.fatal.fail(reason);
            return;
        }
        let registration = self
            .registration
            .get_or_init(|| Registration::start(self.metadata.clone(), self.registration_config.clone()));
        let status = registration.status();
        if let Err(reason) = self.follow(status).await {
            self.fatal.fail(reason);
        }
    }

    /// Waits for the cluster, and makes the directory part of it.
    async fn enter(&self) -> Result<(), String> {
        self.metadata.formed().await.map_err(|error| error.to_string())?;
        let mut images = self.metadata.subscribe();
        let named = images.wait_for(|image| image.cluster_id.is_some()).await;
        let Some(cluster) = named.ok().and_then(|image| image.cluster_id) else {
            return Err("the metadata log ended before the cluster had an id".to_owned());
        };
        let store = Arc::clone(&self.store);
        let adopted = tokio::task::spawn_blocking(move || store.adopt_cluster(cluster)).await;
        adopted
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        tracing::info!(%cluster, "part of a cluster");
        Ok(())
    }

    /// Hands every change of the metadata and of this broker's registration to the replicas, in
    /// order.
    async fn follow(&self, mut status: watch::Receiver<BrokerStatus>) -> Result<(), String> {
        let mut images = self.metadata.subscribe();
        let mut registered = None;
        loop {
            let epoch = status.borrow_and_update().epoch;
            let image = Arc::clone(&images.borrow_and_update());
            self.note_registration(&mut registered, epoch);
            self.note_topics(&image);
            self.replicas
                .apply_image_on(image)
                .await
                .map_err(|error| error.to_string())?;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return Ok(()) },
                changed = status.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn note_registration(&self, registered: &mut Option<BrokerEpoch>, epoch: Option<BrokerEpoch>) {
        if *registered == epoch {
            return;
        }
        match epoch {
            Some(epoch) => {
                tracing::info!(%epoch, "registered");
                self.replicas.registered(epoch);
            }
            None => {
                if self.stopping.is_cancelled() {
                    tracing::info!("not registered any more: the broker is being stopped");
                } else {
                    tracing::warn!("not registered any more: serving nothing until it is");
                }
                self.replicas.fence();
            }
        }
        *registered = epoch;
    }

    /// The groups' view of topics is as new as every leadership that the same image brings.
    fn note_topics(&self, image: &ClusterImage) {
        let topics = topics_of(image);
        self.topics.send_if_modified(|known| {
            let changed = **known != topics;
            if changed {
                *known = Arc::new(topics);
            }
            changed
        });
    }
}
