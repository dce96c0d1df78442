//! `range`: topic by topic, contiguous ranges in the order of the members.

use std::collections::BTreeSet;

use tidelog_types::{PartitionIndex, TopicIdPartition};

use super::{Assignment, AssignmentSpec, MemberSpec};
use crate::ids::MemberId;

pub(super) fn assign(spec: &AssignmentSpec) -> Assignment {
    let mut assignment: Assignment = spec
        .members
        .keys()
        .map(|member| (member.clone(), BTreeSet::new()))
        .collect();
    // Static members first and by their names, as Kafka sorts them: ids change over a restart,
    // names do not.
    let mut members: Vec<(&MemberId, &MemberSpec)> = spec.members.iter().collect();
    members.sort_by_key(|(id, member)| {
        (
            member.instance_id.is_none(),
            member.instance_id.as_ref().map(crate::ids::InstanceId::as_str),
            *id,
        )
    });

    for (&topic_id, &partition_count) in &spec.topics {
        let subscribers: Vec<&MemberId> = members
            .iter()
            .filter(|(_, member)| member.topics.contains(&topic_id))
            .map(|(id, _)| *id)
            .collect();
        let mut next = 0;
        for (place, member) in subscribers.iter().enumerate() {
            let subscriber_count = subscribers.len() as u32;
            let one_more = u32::from((place as u32) < partition_count % subscriber_count);
            let end = next + partition_count / subscriber_count + one_more;
            let range = (next..end).map(|partition| TopicIdPartition {
                topic_id,
                partition: PartitionIndex(partition),
            });
            assignment.entry((*member).clone()).or_default().extend(range);
            next = end;
        }
    }
    assignment
}
