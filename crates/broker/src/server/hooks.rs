//! What the replicas ask the rest of the broker for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::RwLock;
use tidelog_cluster::command::{AlterPartition, Command};
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::outcome::Accepted;
use tidelog_metadata::Metadata;
use tidelog_replica::{IsrChangeOutcome, IsrProposal};
use tidelog_types::{BrokerId, TopicIdPartition};
use tokio::sync::watch;

use super::disk::DiskHandle;
use crate::controller::Registration;
use crate::coordinator::ReplicaLog;
use crate::group::Groups;
use crate::partition::Hooks;

/// How long an ISR change may take to commit before its fate counts as unknown.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Says that the broker must stop; the first reason stands.
#[derive(Clone)]
pub(super) struct Fatal(Arc<watch::Sender<Option<String>>>);

impl Fatal {
    pub(super) fn new() -> (Self, watch::Receiver<Option<String>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(Arc::new(sender)), receiver)
    }

    pub(super) fn fail(&self, reason: String) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(reason, "the broker must stop");
                *first = Some(reason);
            }
            is_first
        });
    }
}

/// The coordinators, once there are any; emptied when the broker stops, since they and the replicas
/// hold each other.
pub(super) type GroupsSlot = Arc<RwLock<Option<Groups<ReplicaLog>>>>;

/// The hooks. Registration and groups come to be after the replicas that ask for them.
pub(super) fn hooks(
    metadata: &Metadata,
    fatal: &Fatal,
    disk: DiskHandle,
    registration: Arc<OnceLock<Registration>>,
    groups: GroupsSlot,
) -> Hooks {
    let (proposer, images, fatal) = (metadata.clone(), metadata.clone(), fatal.clone());
    let session = OnceLock::new();
    Hooks {
        propose_isr: Arc::new(move |partition, proposal| {
            propose_isr(proposer.clone(), partition, proposal).boxed()
        }),
        role_changed: Arc::new(move |change| {
            if let Some(groups) = groups.read().as_ref() {
                groups.runtime().follow_role(&images.image(), change);
            }
        }),
        fatal: Arc::new(move |error| fatal.fail(error.to_string())),
        serves: Arc::new(move || {
            registration
                .get()
                .is_some_and(|registration| session.get_or_init(|| registration.self_fence()).serves())
        }),
        disk: Arc::new(disk),
    }
}

async fn propose_isr(
    metadata: Metadata,
    partition: TopicIdPartition,
    proposal: IsrProposal,
) -> IsrChangeOutcome {
    let incarnation = |&(broker, epoch): &(BrokerId, _)| BrokerIncarnation { broker, epoch };
    let local = metadata.broker();
    let Some(leader) = proposal
        .isr
        .iter()
        .find(|(broker, _)| *broker == local)
        .map(incarnation)
    else {
        tracing::error!(%partition, "an ISR was proposed without its leader");
        return IsrChangeOutcome::Unknown;
    };
    let command = Command::AlterPartition(AlterPartition {
        partition,
        leader,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.iter().map(incarnation).collect(),
    });
    match metadata
        .propose(command, PROPOSE_TIMEOUT)
        .await
        .map(|outcome| outcome.result)
    {
        Ok(Ok(Accepted::PartitionAltered { registration })) => IsrChangeOutcome::Committed(registration),
        Ok(Ok(other)) => {
            tracing::error!(%partition, ?other, "an ISR change was answered with something else");
            IsrChangeOutcome::Unknown
        }
        Ok(Err(refused)) => {
            tracing::debug!(%partition, %refused, "an ISR change was refused");
            IsrChangeOutcome::Rejected(refused.code)
        }
        Err(error) => {
            tracing::debug!(%partition, %error, "an ISR change has an unknown fate");
            IsrChangeOutcome::Unknown
        }
    }
}
