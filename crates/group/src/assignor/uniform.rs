//! `uniform`: balanced within one, moving as little as possible.
//!
//! 1. Every member keeps what it had and still subscribes to.
//! 2. Every free partition goes to the least loaded of its topic's subscribers, topics with few
//!    subscribers first.
//! 3. While some partition's owner holds at least two more than another subscriber of its topic, it
//!    moves there, where the two are furthest apart first. Each move lowers the sum of the squared
//!    loads, so this ends.
//! 4. Where members subscribe to different topics, two may be far apart and share none. Then a
//!    chain of members between them hands on: each gives a partition to the next, which reads its
//!    topic. When no chain helps, no assignment is more balanced (an optimal semi-matching).
//!
//! Where all members subscribe to the same topics, loads then differ by at most one, and no
//! assignment so balanced moves fewer partitions. Where they do not, one that moves a partition or
//! two fewer may exist: it is not searched for. Topics with the same subscribers form one *class*,
//! so that the usual group, all members alike, costs one ordered set instead of one a topic.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidelog_types::{PartitionIndex, TopicId, TopicIdPartition};

use super::{Assignment, AssignmentSpec};
use crate::ids::MemberId;

pub(super) fn assign(spec: &AssignmentSpec) -> Assignment {
    let mut balance = Balance::new(spec);
    balance.keep_previous(spec);
    balance.place_free(spec);
    balance.level();
    while let Some(chain) = balance.chain() {
        balance.hand_on(&chain);
    }
    balance.into_assignment()
}

/// Index of a class of topics with the same subscribers.
type Class = usize;
/// Index of a member, in the order of ids.
type Place = usize;
/// From whom to whom a partition of the class goes.
type Move = (Place, Class, Place);

struct Balance {
    members: Vec<MemberId>,
    /// What each member has, by class, so that a move finds a partition of the right class at once.
    held: Vec<BTreeMap<Class, BTreeSet<Held>>>,
    loads: Vec<usize>,
    class_of: BTreeMap<TopicId, Class>,
    /// Per class its subscribers, least loaded first.
    subscribers: Vec<BTreeSet<(usize, Place)>>,
    classes_of: Vec<Vec<Class>>,
    /// Who keeps what it had.
    keepers: BTreeMap<TopicIdPartition, Place>,
}

/// A partition that a member has. The last goes first: what it did not have before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    is_new: bool,
    partition: TopicIdPartition,
}

impl Balance {
    fn new(spec: &AssignmentSpec) -> Self {
        let members: Vec<MemberId> = spec.members.keys().cloned().collect();
        let mut by_topic: BTreeMap<TopicId, BTreeSet<Place>> = BTreeMap::new();
        for (place, member) in spec.members.values().enumerate() {
            for topic in member
                .topics
                .iter()
                .filter(|topic| spec.topics.contains_key(topic))
            {
                by_topic.entry(*topic).or_default().insert(place);
            }
        }

        let mut classes: BTreeMap<Arc<BTreeSet<Place>>, Class> = BTreeMap::new();
        let mut subscribers = Vec::new();
        let mut classes_of = vec![Vec::new(); members.len()];
        let mut class_of = BTreeMap::new();
        for (topic, places) in by_topic {
            let places = Arc::new(places);
            let class = *classes.entry(Arc::clone(&places)).or_insert_with(|| {
                let class = subscribers.len();
                subscribers.push(places.iter().map(|place| (0, *place)).collect());
                for &place in places.iter() {
                    classes_of[place].push(class);
                }
                class
            });
            class_of.insert(topic, class);
        }
        Self {
            held: vec![BTreeMap::new(); members.len()],
            loads: vec![0; members.len()],
            members,
            class_of,
            subscribers,
            classes_of,
            keepers: BTreeMap::new(),
        }
    }

    fn keep_previous(&mut self, spec: &AssignmentSpec) {
        for (place, member) in spec.members.values().enumerate() {
            for &partition in member.previous.iter() {
                let exists = spec
                    .topics
                    .get(&partition.topic_id)
                    .is_some_and(|&count| partition.partition.0 < count);
                let keeps = exists && member.topics.contains(&partition.topic_id);
                if keeps && !self.keepers.contains_key(&partition) {
                    self.keepers.insert(partition, place);
                    self.give(place, partition);
                }
            }
        }
    }

    fn place_free(&mut self, spec: &AssignmentSpec) {
        let mut topics: Vec<(usize, TopicId, Class)> = self
            .class_of
            .iter()
            .map(|(&topic, &class)| (self.subscribers[class].len(), topic, class))
            .collect();
        topics.sort_unstable();
        for (_, topic_id, class) in topics {
            for partition in 0..spec.topics[&topic_id] {
                let partition = TopicIdPartition {
                    topic_id,
                    partition: PartitionIndex(partition),
                };
                if self.keepers.contains_key(&partition) {
                    continue;
                }
                if let Some(&(_, place)) = self.subscribers[class].first() {
                    self.give(place, partition);
                }
            }
        }
    }

    fn level(&mut self) {
        let classes = 0..self.subscribers.len();
        let widest = |balance: &Self| {
            let improvements = classes.clone().filter_map(|class| balance.improvement(class));
            improvements.max_by_key(|(gap, _)| *gap)
        };
        while let Some((_, (from, class, to))) = widest(self) {
            let partition = self.take(from, class);
            self.give(to, partition);
        }
    }

    /// From the most loaded holder of a partition of this class to the least loaded subscriber, if
    /// they are two apart; and how far they are.
    fn improvement(&self, class: Class) -> Option<(usize, Move)> {
        let &(least, to) = self.subscribers[class].first()?;
        self.subscribers[class]
            .iter()
            .rev()
            .take_while(|(load, _)| *load >= least + 2)
            .find(|(_, place)| self.held[*place].contains_key(&class))
            .map(|&(load, from)| (load - least, (from, class, to)))
    }

    /// The shortest way from a member, the most loaded first, to one with at least two less.
    ///
    /// What was reached in vain from one member has no less than that one's load but one, and so
    /// nothing for those with a smaller load: each member and class is looked at once.
    fn chain(&self) -> Option<Vec<Move>> {
        // All alike: whatever a chain reaches is reached directly.
        if self.subscribers.len() < 2 {
            return None;
        }
        let mut sources: Vec<Place> = (0..self.members.len()).collect();
        sources.sort_by_key(|place| Reverse(self.loads[*place]));
        let mut reached = vec![false; self.members.len()];
        let mut came_by: Vec<Option<Move>> = vec![None; self.members.len()];
        let mut looked_at = vec![false; self.subscribers.len()];
        for source in sources {
            let mut waiting = VecDeque::new();
            if !std::mem::replace(&mut reached[source], true) {
                waiting.push_back(source);
            }
            while let Some(from) = waiting.pop_front() {
                for &class in self.held[from].keys() {
                    if std::mem::replace(&mut looked_at[class], true) {
                        continue;
                    }
                    for &(load, to) in &self.subscribers[class] {
                        if std::mem::replace(&mut reached[to], true) {
                            continue;
                        }
                        came_by[to] = Some((from, class, to));
                        if load + 2 <= self.loads[source] {
                            let way_back = std::iter::successors(came_by[to], |(from, ..)| came_by[*from]);
                            return Some(way_back.collect());
                        }
                        waiting.push_back(to);
                    }
                }
            }
        }
        None
    }

    /// Makes the moves of a chain, the last one first: nobody hands on what it was just handed.
    fn hand_on(&mut self, chain: &[Move]) {
        for &(from, class, to) in chain {
            let partition = self.take(from, class);
            self.give(to, partition);
        }
    }

    fn give(&mut self, place: Place, partition: TopicIdPartition) {
        let class = self.class_of[&partition.topic_id];
        let is_new = self.keepers.get(&partition) != Some(&place);
        let held = Held { is_new, partition };
        self.held[place].entry(class).or_default().insert(held);
        self.set_load(place, self.loads[place] + 1);
    }

    fn take(&mut self, place: Place, class: Class) -> TopicIdPartition {
        let held = self.held[place]
            .get_mut(&class)
            .expect("a mover was chosen for holding this class");
        let Held { partition, .. } = held.pop_last().expect("empty classes are removed");
        if held.is_empty() {
            self.held[place].remove(&class);
        }
        self.set_load(place, self.loads[place] - 1);
        partition
    }

    fn set_load(&mut self, place: Place, load: usize) {
        let before = std::mem::replace(&mut self.loads[place], load);
        for &class in &self.classes_of[place] {
            self.subscribers[class].remove(&(before, place));
            self.subscribers[class].insert((load, place));
        }
    }

    fn into_assignment(self) -> Assignment {
        let held = self.held.into_iter().map(|classes| {
            classes
                .into_values()
                .flatten()
                .map(|held| held.partition)
                .collect()
        });
        self.members.into_iter().zip(held).collect()
    }
}
