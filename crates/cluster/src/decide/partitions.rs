//! Partitions: the leader changes the ISR, the cluster puts leaderships back in balance.

use std::collections::BTreeSet;

use tidelog_types::{ErrorCode, PartitionError, PartitionRegistration};

use super::{Decided, elections, partition_change, partition_change_or_epoch, registered};
use crate::change::Change;
use crate::command::AlterPartition;
use crate::election::Election;
use crate::image::ClusterImage;
use crate::outcome::Accepted;

/// The leader changes the ISR: a compare-and-set on leader epoch, partition epoch and every
/// member's broker epoch (R7, KIP-903).
pub(super) fn alter(image: &ClusterImage, alter: &AlterPartition) -> Decided {
    registered(image, alter.leader)?;
    let partition = alter.partition;
    let Some(topic) = image.topic(partition.topic_id) else {
        return refuse(
            ErrorCode::UnknownTopicId,
            format!("no topic has the id {}", partition.topic_id),
        );
    };
    let Some(old) = topic.partition(partition.partition) else {
        return refuse(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic {} has no partition {}", topic.name, partition.partition),
        );
    };
    let name = format!("{}-{}", topic.name, partition.partition);
    check_proposer(&name, old, alter).map_err(|refusal| {
        let leader = old.leader.map(|leader| (leader, old.leader_epoch));
        refusal.with_leader(leader)
    })?;
    check_members(&name, old, alter)?;
    check_eligible(&name, old, alter, image)?;

    let isr = alter.isr.iter().map(|member| member.broker).collect();
    let election = Election::of(old, topic.configs.unclean_leader_election()).with_isr(isr);
    // Proposing the ISR as it is raises the partition epoch all the same: that is how a leader
    // shuts out an earlier proposal of its own whose fate it does not know (P19).
    let change = partition_change_or_epoch(partition, election, image);
    let registration = match &change {
        Change::Partition { registration, .. } => registration.clone(),
        _ => old.clone(),
    };
    Ok((vec![change], Accepted::PartitionAltered { registration }))
}

fn check_proposer(
    name: &str,
    old: &PartitionRegistration,
    alter: &AlterPartition,
) -> Result<(), PartitionError> {
    if alter.leader_epoch < old.leader_epoch {
        return refuse(
            ErrorCode::FencedLeaderEpoch,
            format!(
                "{name} is in leader epoch {}, the proposal of epoch {}",
                old.leader_epoch, alter.leader_epoch
            ),
        );
    }
    if alter.leader_epoch > old.leader_epoch {
        return refuse(
            ErrorCode::UnknownLeaderEpoch,
            format!(
                "{name} is in leader epoch {}, the proposal already in {}",
                old.leader_epoch, alter.leader_epoch
            ),
        );
    }
    if old.leader != Some(alter.leader.broker) {
        return refuse(
            ErrorCode::NotLeaderOrFollower,
            format!(
                "broker {} proposes for {name} but does not lead it",
                alter.leader.broker
            ),
        );
    }
    if alter.partition_epoch != old.partition_epoch {
        return refuse(
            ErrorCode::InvalidUpdateVersion,
            format!(
                "{name} is in partition epoch {}, the proposal starts from {}",
                old.partition_epoch, alter.partition_epoch
            ),
        );
    }
    Ok(())
}

fn check_members(
    name: &str,
    old: &PartitionRegistration,
    alter: &AlterPartition,
) -> Result<(), PartitionError> {
    let members: BTreeSet<_> = alter.isr.iter().map(|member| member.broker).collect();
    let invalid = |message| refuse(ErrorCode::InvalidRequest, message);
    if members.len() != alter.isr.len() {
        return invalid(format!("the ISR proposed for {name} names a broker twice"));
    }
    if let Some(stranger) = members.iter().find(|member| !old.replicas.contains(member)) {
        return invalid(format!(
            "the ISR proposed for {name} names broker {stranger}, which holds no replica"
        ));
    }
    if !alter.isr.contains(&alter.leader) {
        return invalid(format!(
            "the ISR proposed for {name} lacks its leader, broker {}",
            alter.leader.broker
        ));
    }
    Ok(())
}

/// A member must be unfenced and of the registration it fetched with; a broker that is being
/// drained does not join.
fn check_eligible(
    name: &str,
    old: &PartitionRegistration,
    alter: &AlterPartition,
    image: &ClusterImage,
) -> Result<(), PartitionError> {
    for member in &alter.isr {
        let id = member.broker;
        let why = match image.broker(id) {
            None => "is not registered".to_owned(),
            Some(broker) if broker.epoch != member.epoch => {
                format!(
                    "was registered anew with epoch {}, not {}",
                    broker.epoch, member.epoch
                )
            }
            Some(broker) if broker.fenced => "is fenced".to_owned(),
            Some(broker) if broker.draining && !old.isr.contains(&id) => "is being drained".to_owned(),
            Some(_) => continue,
        };
        return refuse(
            ErrorCode::IneligibleReplica,
            format!("broker {id} may not be in the ISR of {name}: it {why}"),
        );
    }
    Ok(())
}

/// Leaderships go back to the preferred leaders that can take them.
pub(super) fn elect_preferred(image: &ClusterImage) -> (Vec<Change>, Accepted) {
    let changes: Vec<_> = elections(image)
        .filter(|(_, _, election)| election.registration.leader.is_some())
        .filter_map(|(_, partition, mut election)| {
            election.prefer_first = true;
            partition_change(partition, election, image)
        })
        .collect();
    let moved = changes.len() as u32;
    (changes, Accepted::PreferredLeadersElected { moved })
}

fn refuse<T>(code: ErrorCode, message: String) -> Result<T, PartitionError> {
    Err(PartitionError::new(code, message))
}
