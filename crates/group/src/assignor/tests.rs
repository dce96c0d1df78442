use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tidelog_types::{PartitionIndex, TopicIdPartition};

use super::*;
use crate::tests::{member_id, topic_id};

fn partition(topic: u8, partition: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: topic_id(topic),
        partition: PartitionIndex(partition),
    }
}

/// Members 0.. with the topics each subscribes to.
fn spec(members: &[&[u8]], topics: &[(u8, u32)]) -> AssignmentSpec {
    let member = |topics: &&[u8]| MemberSpec {
        topics: topics.iter().map(|topic| topic_id(*topic)).collect(),
        ..MemberSpec::default()
    };
    AssignmentSpec {
        members: members
            .iter()
            .enumerate()
            .map(|(i, topics)| (member_id(i as u8), member(topics)))
            .collect(),
        topics: topics
            .iter()
            .map(|(topic, count)| (topic_id(*topic), *count))
            .collect(),
    }
}

fn sizes(assignment: &Assignment) -> Vec<usize> {
    assignment.values().map(BTreeSet::len).collect()
}

fn remember(spec: &mut AssignmentSpec, assignment: &Assignment) {
    for (id, member) in &mut spec.members {
        member.previous = Arc::new(assignment.get(id).cloned().unwrap_or_default());
    }
}

/// How many partitions have another owner than before.
fn moved(before: &Assignment, after: &Assignment) -> usize {
    let owners = |assignment: &Assignment| -> BTreeMap<TopicIdPartition, MemberId> {
        assignment
            .iter()
            .flat_map(|(id, held)| held.iter().map(|p| (*p, id.clone())))
            .collect()
    };
    let (before, after) = (owners(before), owners(after));
    before
        .iter()
        .filter(|(p, owner)| after.get(p).is_some_and(|new| new != *owner))
        .count()
}

#[test]
fn uniform_shares_several_topics_within_one() {
    let assignment = assign(
        AssignorName::Uniform,
        &spec(&[&[1, 2], &[1, 2], &[1, 2]], &[(1, 4), (2, 3)]),
    );
    let mut sizes = sizes(&assignment);
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 3]);
}

#[test]
fn uniform_moves_only_what_a_newcomer_needs() {
    let mut two = spec(&[&[1], &[1]], &[(1, 6)]);
    let before = assign(AssignorName::Uniform, &two);
    two.members
        .extend(spec(&[&[1], &[1], &[1]], &[]).members.into_iter().skip(2));
    remember(&mut two, &before);
    let after = assign(AssignorName::Uniform, &two);
    assert_eq!(sizes(&after), [2, 2, 2]);
    assert_eq!(moved(&before, &after), 2);
}

#[test]
fn uniform_respects_what_each_member_subscribes_to() {
    // Member 1 alone reads topic 2, so topic 1 is member 0's as far as that balances.
    let assignment = assign(AssignorName::Uniform, &spec(&[&[1], &[1, 2]], &[(1, 4), (2, 4)]));
    assert_eq!(sizes(&assignment), [4, 4]);
    assert!(
        assignment[&member_id(0)]
            .iter()
            .all(|p| p.topic_id == topic_id(1))
    );
}

#[test]
fn uniform_hands_on_along_a_chain_of_members_that_share_no_topic() {
    // What member 0 has too much of can only come to member 2 by way of member 1.
    let mut spec = spec(&[&[1], &[1, 2], &[2]], &[(1, 4), (2, 5)]);
    let own = |topic, from, to| Arc::new((from..to).map(|number| partition(topic, number)).collect());
    for (member, held) in [(0, own(1, 0, 4)), (1, own(2, 0, 3)), (2, own(2, 3, 5))] {
        spec.members.get_mut(&member_id(member)).unwrap().previous = held;
    }
    let before = spec
        .members
        .iter()
        .map(|(id, member)| (id.clone(), (*member.previous).clone()))
        .collect();
    let after = assign(AssignorName::Uniform, &spec);
    assert_eq!(sizes(&after), [3, 3, 3]);
    assert_eq!(moved(&before, &after), 2);
}

#[test]
fn range_gives_contiguous_ranges_topic_by_topic() {
    let assignment = assign(AssignorName::Range, &spec(&[&[1, 2], &[1, 2]], &[(1, 3), (2, 3)]));
    let first = [partition(1, 0), partition(1, 1), partition(2, 0), partition(2, 1)];
    assert_eq!(assignment[&member_id(0)], first.into_iter().collect());
    assert_eq!(
        assignment[&member_id(1)],
        [partition(1, 2), partition(2, 2)].into_iter().collect()
    );
}

#[test]
fn range_sorts_static_members_by_their_names() {
    let mut spec = spec(&[&[1], &[1]], &[(1, 2)]);
    spec.members.get_mut(&member_id(0)).unwrap().instance_id = Some("b".parse().unwrap());
    spec.members.get_mut(&member_id(1)).unwrap().instance_id = Some("a".parse().unwrap());
    let assignment = assign(AssignorName::Range, &spec);
    assert_eq!(assignment[&member_id(1)], [partition(1, 0)].into_iter().collect());
}

#[test]
fn an_unknown_assignor_is_refused_by_name() {
    let refused = "sticky".parse::<AssignorName>().unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnsupportedAssignor);
    assert_eq!("".parse(), Ok(AssignorName::Uniform));
    assert_eq!(
        preferred([AssignorName::Range, AssignorName::Uniform]),
        AssignorName::Uniform
    );
    assert_eq!(preferred([AssignorName::Range]), AssignorName::Range);
}

#[derive(Debug, Clone)]
struct Change {
    members: Vec<BTreeSet<u8>>,
    topics: BTreeMap<u8, u32>,
    alike: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let members = prop::collection::vec(prop::collection::btree_set(0..5_u8, 0..5), 1..8);
    let topics = prop::collection::btree_map(0..5_u8, 0..12_u32, 0..5);
    (members, topics, any::<bool>()).prop_map(|(members, topics, alike)| Change {
        members,
        topics,
        alike,
    })
}

/// One that all assignments can be tried of.
fn small_change() -> impl Strategy<Value = Change> {
    let members = prop::collection::vec(prop::collection::btree_set(0..3_u8, 0..4), 1..5);
    let topics = prop::collection::btree_map(0..3_u8, 0..5_u32, 0..4);
    (members, topics).prop_map(|(members, topics)| Change {
        members,
        topics,
        alike: false,
    })
}

fn apply(change: &Change, before: &Assignment) -> AssignmentSpec {
    let all: BTreeSet<u8> = change.topics.keys().copied().collect();
    let subscribed: Vec<Vec<u8>> = change
        .members
        .iter()
        .map(|own| if change.alike { &all } else { own }.iter().copied().collect())
        .collect();
    let members: Vec<&[u8]> = subscribed.iter().map(Vec::as_slice).collect();
    let topics: Vec<(u8, u32)> = change.topics.iter().map(|(t, c)| (*t, *c)).collect();
    let mut spec = spec(&members, &topics);
    remember(&mut spec, before);
    spec
}

fn check_complete(spec: &AssignmentSpec, assignment: &Assignment) {
    let mut owners: BTreeMap<TopicIdPartition, &MemberId> = BTreeMap::new();
    for (id, held) in assignment {
        for p in held {
            assert!(
                spec.members[id].topics.contains(&p.topic_id),
                "{id} got a topic it does not read"
            );
            assert!(owners.insert(*p, id).is_none(), "{p} has two owners");
        }
    }
    for (topic, count) in &spec.topics {
        let read = spec.members.values().any(|member| member.topics.contains(topic));
        let owned = owners.keys().filter(|p| p.topic_id == *topic).count();
        assert_eq!(owned, if read { *count as usize } else { 0 });
    }
}

fn check_balanced(spec: &AssignmentSpec, assignment: &Assignment) {
    for (from, held) in assignment {
        for (to, other) in assignment {
            let movable = held.iter().any(|p| spec.members[to].topics.contains(&p.topic_id));
            assert!(
                !movable || held.len() <= other.len() + 1,
                "{from} has {} and {to} has {}",
                held.len(),
                other.len()
            );
        }
    }
}

/// Of all assignments the most balanced ones (the smallest sum of squared loads), and the fewest
/// partitions that one of them moves. By trying all.
fn best(spec: &AssignmentSpec) -> (usize, usize) {
    let readers = |topic: &TopicId| -> Vec<&MemberId> {
        let all = spec.members.iter();
        all.filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| id)
            .collect()
    };
    let mut partial: Vec<(BTreeMap<&MemberId, usize>, usize)> = vec![(BTreeMap::new(), 0)];
    for (topic_id, count) in &spec.topics {
        for index in (0..*count).map(PartitionIndex) {
            let partition = TopicIdPartition {
                topic_id: *topic_id,
                partition: index,
            };
            let held_by = spec
                .members
                .iter()
                .find(|(_, member)| member.previous.contains(&partition));
            let readers = readers(topic_id);
            if readers.is_empty() {
                continue;
            }
            let mut fewest: BTreeMap<BTreeMap<&MemberId, usize>, usize> = BTreeMap::new();
            for (loads, moves) in &partial {
                for reader in &readers {
                    let mut loads = loads.clone();
                    *loads.entry(*reader).or_default() += 1;
                    let moves = moves + usize::from(held_by.is_some_and(|(holder, _)| holder != *reader));
                    fewest
                        .entry(loads)
                        .and_modify(|known| *known = moves.min(*known))
                        .or_insert(moves);
                }
            }
            partial = fewest.into_iter().collect();
        }
    }
    let squares = |loads: &BTreeMap<&MemberId, usize>| loads.values().map(|load| load * load).sum();
    partial
        .iter()
        .map(|(loads, moves)| (squares(loads), *moves))
        .min()
        .unwrap_or_default()
}

/// The fewest partitions that must move so that loads differ by at most one, where all members are
/// alike.
fn fewest_moves(spec: &AssignmentSpec) -> usize {
    let total: usize = spec.topics.values().map(|count| *count as usize).sum();
    let mut kept: Vec<usize> = spec
        .members
        .values()
        .map(|m| {
            m.previous
                .iter()
                .filter(|p| spec.topics.get(&p.topic_id).is_some_and(|c| p.partition.0 < *c))
                .count()
        })
        .collect();
    kept.sort_unstable_by(|a, b| b.cmp(a));
    let (low, mut larger) = (total / kept.len(), total % kept.len());
    let mut moves = 0;
    for load in kept {
        let quota = low + usize::from(larger > 0);
        larger = larger.saturating_sub(1);
        moves += load.saturating_sub(quota);
    }
    moves
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn uniform_is_complete_balanced_and_settled(changes in prop::collection::vec(change(), 1..6)) {
        let mut before = Assignment::new();
        for change in &changes {
            let spec = apply(change, &before);
            let after = assign(AssignorName::Uniform, &spec);
            check_complete(&spec, &after);
            check_balanced(&spec, &after);
            if change.alike {
                let held: Assignment = spec.members.iter().map(|(id, m)| (id.clone(), (*m.previous).clone())).collect();
                prop_assert!(moved(&held, &after) <= fewest_moves(&spec));
            }
            // Asked again with nothing changed, it changes nothing.
            let mut again = spec.clone();
            remember(&mut again, &after);
            prop_assert_eq!(&assign(AssignorName::Uniform, &again), &after);
            before = after;
        }
    }

    #[test]
    fn uniform_is_the_most_balanced_and_moves_little(changes in prop::collection::vec(small_change(), 1..6)) {
        let mut before = Assignment::new();
        for change in &changes {
            let spec = apply(change, &before);
            let after = assign(AssignorName::Uniform, &spec);
            let (squares, fewest) = best(&spec);
            prop_assert_eq!(after.values().map(|held| held.len() * held.len()).sum::<usize>(), squares);
            let held: Assignment = spec.members.iter().map(|(id, m)| (id.clone(), (*m.previous).clone())).collect();
            let moves = moved(&held, &after);
            prop_assert!(moves <= fewest + 1, "{} moved, {} would do", moves, fewest);
            before = after;
        }
    }

    #[test]
    fn range_is_complete_and_level_within_a_topic(change in change()) {
        let spec = apply(&change, &Assignment::new());
        let assignment = assign(AssignorName::Range, &spec);
        check_complete(&spec, &assignment);
        for topic in spec.topics.keys() {
            let shares: Vec<usize> = spec.members.iter().filter(|(_, m)| m.topics.contains(topic))
                .map(|(id, _)| assignment[id].iter().filter(|p| p.topic_id == *topic).count()).collect();
            let (low, high) = (shares.iter().min(), shares.iter().max());
            prop_assert!(high.copied().unwrap_or(0) <= low.copied().unwrap_or(0) + 1);
        }
    }
}
