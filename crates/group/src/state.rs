//! The replicated state: a replay of one partition of `__consumer_offsets`, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_types::{GroupId, TopicIdPartition};

use crate::ids::{InstanceId, MemberEpoch, MemberId};
use crate::record::{CommittedOffset, CurrentAssignment, GroupValue, MemberValue, Partitions, Record};

/// Every group of a coordinator, and every committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    groups: BTreeMap<GroupId, Group>,
    /// Apart from the groups, so that a decision about members copies no offsets.
    offsets: BTreeMap<GroupId, BTreeMap<TopicIdPartition, CommittedOffset>>,
}

impl State {
    /// Takes one record in. The only thing that changes a state.
    pub fn replay(&mut self, record: &Record) {
        if let Record::Offset {
            group,
            partition,
            value,
        } = record
        {
            return self.replay_offset(group, *partition, value.as_ref());
        }
        let group = self.groups.entry(record.group().clone()).or_default();
        group.replay(record);
        if group.is_nothing() {
            self.groups.remove(record.group());
        }
    }

    /// A group's members, if it was ever registered and not deleted since.
    pub fn group(&self, group: &GroupId) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Every group, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.groups.iter()
    }

    /// Groups whose id is greater than `after`, by id.
    pub fn groups_after(&self, after: Option<&GroupId>) -> impl Iterator<Item = (&GroupId, &Group)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.groups
            .range::<GroupId, _>((from, std::ops::Bound::Unbounded))
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// A group's committed offsets, by partition.
    pub fn offsets(&self, group: &GroupId) -> impl Iterator<Item = (&TopicIdPartition, &CommittedOffset)> {
        self.offsets.get(group).into_iter().flatten()
    }

    /// Of how many partitions a group committed anything.
    pub fn offset_count(&self, group: &GroupId) -> usize {
        self.offsets.get(group).map_or(0, BTreeMap::len)
    }

    /// One committed offset.
    pub fn offset(&self, group: &GroupId, partition: TopicIdPartition) -> Option<&CommittedOffset> {
        self.offsets.get(group)?.get(&partition)
    }

    /// The groups that committed anything.
    pub fn groups_with_offsets(&self) -> impl Iterator<Item = &GroupId> {
        self.offsets.keys()
    }

    fn replay_offset(
        &mut self,
        group: &GroupId,
        partition: TopicIdPartition,
        value: Option<&CommittedOffset>,
    ) {
        match value {
            Some(value) => {
                self.offsets
                    .entry(group.clone())
                    .or_default()
                    .insert(partition, value.clone());
            }
            None => {
                if let Some(offsets) = self.offsets.get_mut(group) {
                    offsets.remove(&partition);
                    if offsets.is_empty() {
                        self.offsets.remove(group);
                    }
                }
            }
        }
    }
}

/// What Kafka calls the state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPhase {
    /// It has no members.
    Empty,
    /// Some member has not reached the target yet.
    Reconciling,
    /// Every member owns its target.
    Stable,
}

impl GroupPhase {
    /// Kafka's word. "Assigning" never shows: a target is computed in the step that asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One group's members and who owns what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    value: Option<GroupValue>,
    members: BTreeMap<MemberId, Arc<MemberValue>>,
    targets: BTreeMap<MemberId, Partitions>,
    currents: BTreeMap<MemberId, Arc<CurrentAssignment>>,
    /// Who holds each partition (assigned or not given up yet): derived from `currents`.
    owners: BTreeMap<TopicIdPartition, MemberId>,
}

impl Group {
    /// Takes one record of this group in; offsets are not its matter.
    pub(crate) fn replay(&mut self, record: &Record) {
        match record {
            Record::Group { value, .. } => self.value = *value,
            Record::Member { member, value, .. } => put(&mut self.members, member, value.clone()),
            Record::Target { member, value, .. } => put(&mut self.targets, member, value.clone()),
            Record::Current { member, value, .. } => self.replay_current(member, value.clone()),
            Record::Offset { .. } => {}
        }
    }

    /// The group as a whole; the default until it is first written.
    pub fn value(&self) -> GroupValue {
        self.value.unwrap_or(GroupValue {
            epoch: crate::GroupEpoch(0),
            assignor: crate::AssignorName::default(),
            empty_since_ms: None,
        })
    }

    /// Every member, by id.
    pub fn members(&self) -> impl Iterator<Item = (&MemberId, &Arc<MemberValue>)> {
        self.members.iter()
    }

    /// One member.
    pub fn member(&self, member: &MemberId) -> Option<&Arc<MemberValue>> {
        self.members.get(member)
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The member that holds an instance id.
    pub fn instance(&self, instance: &InstanceId) -> Option<&MemberId> {
        let holds = |value: &MemberValue| value.instance_id.as_ref() == Some(instance);
        self.members
            .iter()
            .find(|(_, value)| holds(value))
            .map(|(member, _)| member)
    }

    /// What a member shall own.
    pub fn target(&self, member: &MemberId) -> Partitions {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// What a member owns.
    pub fn current(&self, member: &MemberId) -> Arc<CurrentAssignment> {
        self.currents.get(member).cloned().unwrap_or_default()
    }

    /// A member's epoch; [`MemberEpoch::NONE`] for who is none.
    pub fn member_epoch(&self, member: &MemberId) -> MemberEpoch {
        self.currents
            .get(member)
            .map_or(MemberEpoch::NONE, |current| current.epoch)
    }

    /// Who holds a partition: has it assigned, or has not given it up yet.
    pub fn owner(&self, partition: TopicIdPartition) -> Option<&MemberId> {
        self.owners.get(&partition)
    }

    /// What Kafka calls its state.
    pub fn phase(&self) -> GroupPhase {
        if self.members.is_empty() {
            return GroupPhase::Empty;
        }
        let epoch = MemberEpoch::at(self.value().epoch);
        let settled = |member: &MemberId| {
            let current = self.current(member);
            current.epoch == epoch && current.revoking.is_empty() && current.assigned == self.target(member)
        };
        if self.members.keys().all(settled) {
            GroupPhase::Stable
        } else {
            GroupPhase::Reconciling
        }
    }

    /// Whether every partition has at most one holder (G14). Always true after a whole decision was
    /// replayed.
    pub fn has_single_owners(&self) -> bool {
        let held: usize = self
            .currents
            .values()
            .map(|c| c.assigned.len() + c.revoking.len())
            .sum();
        held == self.owners.len()
    }

    /// Whether every instance id is held by one member. Always true after a whole decision was
    /// replayed.
    pub fn has_single_instances(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.members
            .values()
            .filter_map(|member| member.instance_id.as_ref())
            .all(|instance| seen.insert(instance))
    }

    fn is_nothing(&self) -> bool {
        self.value.is_none() && self.members.is_empty() && self.targets.is_empty() && self.currents.is_empty()
    }

    fn replay_current(&mut self, member: &MemberId, value: Option<Arc<CurrentAssignment>>) {
        if let Some(old) = self.currents.get(member) {
            for partition in old.assigned.iter().chain(old.revoking.iter()) {
                // In a compacted log another member's newer record may have come first: only one's
                // own entry goes.
                if self.owners.get(partition) == Some(member) {
                    self.owners.remove(partition);
                }
            }
        }
        if let Some(new) = &value {
            for partition in new.assigned.iter().chain(new.revoking.iter()) {
                self.owners.insert(*partition, member.clone());
            }
        }
        put(&mut self.currents, member, value);
    }
}

fn put<V>(map: &mut BTreeMap<MemberId, V>, member: &MemberId, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(member.clone(), value);
        }
        None => {
            map.remove(member);
        }
    }
}
