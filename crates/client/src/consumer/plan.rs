//! What to ask next.
//!
//! 1. Only partitions in `todo` are looked at: what changed since the last time, or waits for its
//!    moment.
//! 2. Those that can be fetched go into one question a leader, but hot ones (whose fetches bring
//!    something) and cold ones apart: a busy partition is asked again and again without the idle
//!    ones, which wait together in one long poll.
//! 3. A partition is in one question at a time. A question asks for what fits: a share of the
//!    budget for hot partitions, little for cold ones, which will hardly need it.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::LeaderEpoch;
use tokio::time::Instant;

use super::slot::{Lookup, Slot, Start};
use super::slots::{SlotId, Slots};
use crate::wire::fetch::{FetchAsk, PartitionAsk};
use crate::wire::session::Assigned;

/// Most questions that are out at one broker.
const MAX_QUESTIONS_PER_BROKER: usize = 16;
/// Most partitions in one question.
const MAX_PARTITIONS_PER_QUESTION: usize = 1_000;
/// A question of hot partitions reserves this part of the budget at most.
const HOT_SHARE: usize = 8;
/// What a question of cold partitions asks for, bytes.
const COLD_BYTES: usize = 1024 * 1024;

/// What is out: by broker, how many questions.
pub(super) type Questions = BTreeMap<String, usize>;

/// Things to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) asks: Vec<Ask>,
    pub(super) lookups: Vec<(SlotId, Assigned, Lookup, Option<LeaderEpoch>)>,
    /// When something comes up by itself.
    pub(super) wake: Option<Instant>,
    /// Whether a partition has no leader, as far as is known.
    pub(super) leaderless: bool,
}

/// One question, and to whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) address: String,
    pub(super) fetch: FetchAsk,
    pub(super) slots: Vec<SlotId>,
}

/// Who leads a slot's partition, where, and in which epoch.
pub(super) type LeaderOf<'a> = &'a dyn Fn(&Slot) -> Option<(String, LeaderEpoch)>;

impl Slots {
    /// Says what to ask now, and takes it as asked. `next_question` numbers the questions.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        leader_of: LeaderOf<'_>,
        out: &Questions,
        next_question: &mut u64,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut groups: BTreeMap<(String, bool), Vec<SlotId>> = BTreeMap::new();
        for id in std::mem::take(&mut self.todo) {
            self.sort_in(id, now, leader_of, &mut plan, &mut groups);
        }
        self.starved = false;
        let mut asked = out.clone();
        for ((address, hot), ids) in groups {
            for ids in ids.chunks(MAX_PARTITIONS_PER_QUESTION) {
                let questions = asked.entry(address.clone()).or_default();
                let max_bytes = self.share_bytes(hot, ids.len());
                if *questions >= MAX_QUESTIONS_PER_BROKER || max_bytes == 0 {
                    self.starved |= max_bytes == 0;
                    self.todo.extend(ids);
                    continue;
                }
                *questions += 1;
                let fetch = self.ask(ids, max_bytes, *next_question, leader_of);
                *next_question += 1;
                plan.asks.push(Ask {
                    address: address.clone(),
                    slots: ids.to_vec(),
                    fetch,
                });
            }
        }
        plan
    }

    fn sort_in(
        &mut self,
        id: SlotId,
        now: Instant,
        leader_of: LeaderOf<'_>,
        plan: &mut Plan,
        groups: &mut BTreeMap<(String, bool), Vec<SlotId>>,
    ) {
        let cap = self.options.max_partition_bytes as usize;
        let Some(slot) = self.by_id.get_mut(&id) else {
            return;
        };
        let lookup = slot.wants_lookup();
        if lookup.is_none() && !slot.wants_fetch(cap) {
            return;
        }
        if let Some(at) = slot.not_before.filter(|at| *at > now) {
            plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
            self.todo.insert(id);
            return;
        }
        if let Some(lookup) = lookup {
            slot.start = Start::Asked(lookup);
            plan.lookups
                .push((id, slot.as_assigned(), lookup, slot.seen_epoch));
            return;
        }
        match leader_of(slot) {
            Some((address, _)) => groups.entry((address, slot.is_hot())).or_default().push(id),
            None => {
                plan.leaderless = true;
                slot.back_off(now);
                let at = slot.not_before.unwrap_or(now);
                plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
                self.todo.insert(id);
            }
        }
    }

    /// How many bytes a question may be answered with.
    fn share_bytes(&self, hot: bool, partitions: usize) -> usize {
        let wanted = partitions * self.options.max_partition_bytes as usize;
        let share = if hot {
            (self.options.budget_bytes() / HOT_SHARE).max(self.options.max_partition_bytes as usize)
        } else {
            COLD_BYTES
        };
        wanted
            .min(share)
            .min(self.options.max_bytes as usize)
            .min(self.room_bytes())
    }

    fn ask(&mut self, ids: &[SlotId], max_bytes: usize, question: u64, leader_of: LeaderOf<'_>) -> FetchAsk {
        self.reserved_bytes += max_bytes;
        let mut partitions = Vec::with_capacity(ids.len());
        // The leader spends the bytes in this order: everybody comes first in turn.
        let turn = question as usize % ids.len().max(1);
        for id in ids[turn..].iter().chain(&ids[..turn]) {
            let Some(slot) = self.by_id.get_mut(id) else {
                continue;
            };
            slot.in_flight = Some(question);
            let known = leader_of(slot).map(|(_, epoch)| epoch);
            partitions.push(PartitionAsk {
                partition: slot.partition.clone(),
                topic_id: slot.topic_id,
                leader_epoch: slot.seen_epoch.max(known),
                fetch_offset: slot.fetch_offset,
                max_bytes: self.options.max_partition_bytes,
            });
        }
        FetchAsk {
            id: question,
            max_wait: self.options.max_wait,
            min_bytes: self.options.min_bytes,
            max_bytes: max_bytes as u32,
            partitions,
        }
    }

    /// Forgets what is out for partitions that are led elsewhere by now: their old leader may be
    /// dead and never answer.
    pub(super) fn abandon_moved(
        &mut self,
        question: u64,
        ids: &[SlotId],
        address: &str,
        leader_of: LeaderOf<'_>,
    ) {
        let moved: BTreeSet<SlotId> = ids
            .iter()
            .filter(|id| {
                self.by_id.get(id).is_some_and(|slot| {
                    slot.in_flight == Some(question)
                        && leader_of(slot).is_some_and(|(led_at, _)| led_at != address)
                })
            })
            .copied()
            .collect();
        for id in moved {
            self.unanswered(id, question, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidelog_types::Offset;

    use super::*;
    use crate::consumer::options::{FetchOptions, StartAt};
    use crate::consumer::slots::Brought;
    use crate::consumer::testing::{assigned, batch};

    struct Planner {
        slots: Slots,
        next: u64,
        now: Instant,
    }

    impl Planner {
        fn new(options: FetchOptions, partitions: u32) -> Self {
            let mut slots = Slots::new(options);
            for index in 0..partitions {
                let id = slots.add(assigned("t", index), None);
                slots.begin(id, Some(StartAt::Offset(0)));
            }
            Self {
                slots,
                next: 0,
                now: Instant::now(),
            }
        }

        /// Partitions from 100 on have no leader; odd ones are led by b.
        fn plan(&mut self) -> Plan {
            let leader_of = |slot: &Slot| {
                let index = slot.partition.partition.0;
                let address = if index % 2 == 1 { "b" } else { "a" };
                (index < 100).then(|| (address.to_owned(), LeaderEpoch(4)))
            };
            self.slots
                .plan(self.now, &leader_of, &Questions::new(), &mut self.next)
        }

        fn bring(&mut self, slot: u64, question: u64, count: u64) {
            let at = self.slots.by_id[&SlotId(slot)].fetch_offset.0;
            let brought = Brought {
                leader_epoch: LeaderEpoch(5),
                high_watermark: Offset(at + count),
                batches: (count > 0).then(|| batch(at, count)).into_iter().collect(),
                damaged: None,
            };
            self.slots.brought(SlotId(slot), question, brought);
        }
    }

    fn asked(plan: &Plan) -> Vec<(&str, Vec<u32>)> {
        let partitions = |ask: &Ask| {
            let mut all: Vec<u32> = ask
                .fetch
                .partitions
                .iter()
                .map(|p| p.partition.partition.0)
                .collect();
            all.sort_unstable();
            all
        };
        plan.asks
            .iter()
            .map(|ask| (ask.address.as_str(), partitions(ask)))
            .collect()
    }

    #[tokio::test]
    async fn one_question_a_leader_and_a_partition_in_one_only() {
        let mut planner = Planner::new(FetchOptions::default(), 4);
        assert_eq!(asked(&planner.plan()), [("a", vec![0, 2]), ("b", vec![1, 3])]);
        assert!(planner.plan().asks.is_empty());
        planner.bring(2, 0, 1);
        let plan = planner.plan();
        assert_eq!(asked(&plan), [("a", vec![2])]);
        // The newest epoch that was seen travels along (R6), whoever told it.
        assert_eq!(
            plan.asks[0].fetch.partitions[0].leader_epoch,
            Some(LeaderEpoch(5))
        );
        assert_eq!(plan.asks[0].fetch.partitions[0].fetch_offset, Offset(1));
    }

    #[tokio::test]
    async fn busy_partitions_do_not_carry_idle_ones_along() {
        let mut planner = Planner::new(FetchOptions::default(), 4);
        planner.plan();
        for round in 0..3 {
            planner.bring(0, round * 2, 1);
            planner.slots.unanswered(SlotId(2), round * 2, true);
            planner.plan();
            planner.next = (round + 1) * 2;
            for id in [0, 2] {
                planner.slots.by_id.get_mut(&SlotId(id)).unwrap().in_flight = Some((round + 1) * 2);
            }
        }
        planner.bring(0, 6, 1);
        planner.slots.unanswered(SlotId(2), 6, true);
        assert_eq!(asked(&planner.plan()), [("a", vec![2]), ("a", vec![0])]);
    }

    #[tokio::test]
    async fn what_is_buffered_bounds_what_is_asked_for() {
        let small = FetchOptions {
            max_partition_bytes: 100,
            ..FetchOptions::default()
        };
        let mut planner = Planner::new(small, 1);
        assert_eq!(planner.plan().asks[0].fetch.max_bytes, 100);
        planner.bring(0, 0, 20);
        assert!(planner.slots.buffered_bytes() > 100);
        assert!(planner.plan().asks.is_empty());
        let mut hungry = false;
        loop {
            let taken = planner.slots.take(None, planner.now);
            if taken.record.is_none() {
                break;
            }
            hungry |= taken.is_hungry;
        }
        assert!(hungry);
        assert_eq!(asked(&planner.plan()), [("a", vec![0])]);
    }

    #[tokio::test]
    async fn without_room_nothing_is_asked() {
        let mut planner = Planner::new(FetchOptions::default(), 1);
        planner.slots.reserved_bytes = planner.slots.options.budget_bytes();
        assert!(planner.plan().asks.is_empty() && planner.slots.starved);
        planner.slots.reserved_bytes = 0;
        assert_eq!(planner.plan().asks.len(), 1);
    }

    #[tokio::test]
    async fn a_partition_without_a_leader_is_looked_at_again_later() {
        let mut planner = Planner::new(FetchOptions::default(), 0);
        let id = planner.slots.add(assigned("t", 100), None);
        planner.slots.begin(id, Some(StartAt::Offset(0)));
        let plan = planner.plan();
        assert!(plan.leaderless && plan.asks.is_empty());
        assert!(plan.wake.unwrap() > planner.now);
        planner.now += Duration::from_millis(1);
        assert!(planner.plan().wake.is_some());
    }

    #[tokio::test]
    async fn a_question_to_a_broker_that_leads_no_more_is_abandoned() {
        let mut planner = Planner::new(FetchOptions::default(), 1);
        planner.plan();
        let moved = |_: &Slot| Some(("c".to_owned(), LeaderEpoch(6)));
        planner.slots.abandon_moved(0, &[SlotId(0)], "a", &moved);
        let plan = planner.plan();
        assert_eq!(asked(&plan), [("a", vec![0])]);
        // The late answer is not taken.
        planner.bring(0, 0, 5);
        assert_eq!(planner.slots.buffered_bytes(), 0);
    }
}
