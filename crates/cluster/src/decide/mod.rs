//! What a command comes to, given the image it is applied to: one file a family of commands.

mod brokers;
mod partitions;
mod topics;

#[cfg(test)]
mod tests;

pub use topics::{DEFAULT_PARTITIONS, DEFAULT_REPLICATION_FACTOR};

use tidelog_types::{
    BrokerId, ErrorCode, PartitionError, PartitionRegistration, ProducerId, TopicIdPartition,
};

use crate::broker::BrokerImage;
use crate::change::Change;
use crate::command::{Command, InitCluster};
use crate::election::Election;
use crate::ids::BrokerIncarnation;
use crate::image::{ClusterImage, MetadataIndex, TopicImage};
use crate::outcome::{Accepted, Outcome};

/// How many producer ids a broker is given at a time. Kafka's value.
pub const PRODUCER_ID_BLOCK: u64 = 1000;

type Decided = Result<(Vec<Change>, Accepted), PartitionError>;

/// Decides a command that stands at `index` in the metadata log. Changes nothing: the changes are
/// for [`ClusterImage::replay`]. A refusal comes with no change.
pub fn decide(image: &ClusterImage, index: MetadataIndex, command: &Command) -> (Vec<Change>, Outcome) {
    let decided = match command {
        Command::InitCluster(init) => Ok(init_cluster(image, *init)),
        Command::RegisterBroker(register) => brokers::register(image, index, register),
        Command::FenceBroker(incarnation) => brokers::fence(image, *incarnation),
        Command::UnfenceBroker(incarnation) => brokers::unfence(image, *incarnation),
        Command::DrainBroker(incarnation) => brokers::drain(image, *incarnation),
        Command::CreateTopic(create) => topics::create(image, create),
        Command::DeleteTopic(delete) => topics::delete(image, *delete),
        Command::AlterTopicConfigs(alter) => topics::alter_configs(image, alter),
        Command::AlterPartition(alter) => partitions::alter(image, alter),
        Command::ElectPreferredLeaders => Ok(partitions::elect_preferred(image)),
        Command::AllocateProducerIds(incarnation) => allocate_producer_ids(image, *incarnation),
    };
    match decided {
        Ok((changes, accepted)) => (
            changes,
            Outcome {
                index,
                result: Ok(accepted),
            },
        ),
        Err(refusal) => (
            Vec::new(),
            Outcome {
                index,
                result: Err(refusal),
            },
        ),
    }
}

fn init_cluster(image: &ClusterImage, init: InitCluster) -> (Vec<Change>, Accepted) {
    match image.cluster_id {
        Some(cluster_id) => (Vec::new(), Accepted::Cluster { cluster_id }),
        None => (
            vec![Change::ClusterNamed(init.cluster_id)],
            Accepted::Cluster {
                cluster_id: init.cluster_id,
            },
        ),
    }
}

fn allocate_producer_ids(image: &ClusterImage, incarnation: BrokerIncarnation) -> Decided {
    registered(image, incarnation)?;
    let first = image.next_producer_id.0;
    let changes = vec![Change::NextProducerId(ProducerId(first.0 + PRODUCER_ID_BLOCK))];
    Ok((
        changes,
        Accepted::ProducerIdsAllocated {
            first,
            count: PRODUCER_ID_BLOCK,
        },
    ))
}

/// The broker, if this is its newest registration.
fn registered(image: &ClusterImage, incarnation: BrokerIncarnation) -> Result<&BrokerImage, PartitionError> {
    let BrokerIncarnation { broker: id, epoch } = incarnation;
    match image.broker(id) {
        Some(broker) if broker.epoch == epoch => Ok(broker),
        Some(broker) => Err(PartitionError::new(
            ErrorCode::StaleBrokerEpoch,
            format!(
                "broker {id} of epoch {epoch} was registered anew with epoch {}",
                broker.epoch
            ),
        )),
        None => Err(PartitionError::new(
            ErrorCode::StaleBrokerEpoch,
            format!("broker {id} is not registered; it must register first"),
        )),
    }
}

/// Every partition of which a broker holds a replica.
fn replicas_of(
    image: &ClusterImage,
    broker: BrokerId,
) -> impl Iterator<Item = (&TopicImage, TopicIdPartition, Election<'_>)> {
    elections(image).filter(move |(_, _, election)| election.registration.replicas.contains(&broker))
}

/// Every partition, with an election that keeps its ISR.
fn elections(image: &ClusterImage) -> impl Iterator<Item = (&TopicImage, TopicIdPartition, Election<'_>)> {
    image.topics().flat_map(|topic| {
        let unclean_allowed = topic.configs.unclean_leader_election();
        topic.iter().map(move |(partition, registration)| {
            (&**topic, partition, Election::of(registration, unclean_allowed))
        })
    })
}

/// What an election comes to, if to anything.
fn partition_change(
    partition: TopicIdPartition,
    election: Election<'_>,
    image: &ClusterImage,
) -> Option<Change> {
    let elected = election.hold(image)?;
    Some(Change::Partition {
        partition,
        registration: elected.registration,
        unclean: elected.unclean,
    })
}

/// The same; where the election changes nothing, the registration as it is with the next partition
/// epoch. That shuts out whatever was proposed by the epoch before.
fn partition_change_or_epoch(
    partition: TopicIdPartition,
    election: Election<'_>,
    image: &ClusterImage,
) -> Change {
    let as_it_is = PartitionRegistration {
        partition_epoch: election.registration.partition_epoch.next(),
        ..election.registration.clone()
    };
    partition_change(partition, election, image).unwrap_or(Change::Partition {
        partition,
        registration: as_it_is,
        unclean: false,
    })
}
