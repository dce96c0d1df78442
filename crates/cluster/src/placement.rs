//! Which brokers hold a new topic's replicas.
//!
//! Kafka's striping: partition *p* is led by the *(start + p)*-th broker, so leaderships spread
//! evenly; its followers stand at a distance from the leader that grows by one each time all
//! brokers have led, so that the load of a lost leader spreads too.

use tidelog_types::BrokerId;

/// The replicas of each of `partitions` partitions, the preferred leader first.
///
/// `brokers` must hold at least `replication_factor` brokers, each once; the result depends on
/// nothing but the arguments.
pub fn place(
    brokers: &[BrokerId],
    partitions: u32,
    replication_factor: u32,
    start: u64,
) -> Vec<Vec<BrokerId>> {
    let (count, factor) = (brokers.len(), replication_factor as usize);
    assert!(
        (1..=count).contains(&factor),
        "{factor} replicas are placed on {count} brokers"
    );
    let start = (start % count as u64) as usize;
    (0..partitions as usize)
        .map(|partition| {
            let leader = (start + partition) % count;
            let shift = start + partition / count;
            let follower = |nth: usize| brokers[(leader + 1 + (shift + nth) % (count - 1)) % count];
            std::iter::once(brokers[leader])
                .chain((0..factor - 1).map(follower))
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn brokers(count: u32) -> Vec<BrokerId> {
        (1..=count).filter_map(BrokerId::new).collect()
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_load_is_even(
            count in 1_u32..9, factor in 1_u32..9, partitions in 1_u32..200, start: u64,
        ) {
            let factor = factor.min(count);
            let placed = place(&brokers(count), partitions, factor, start);
            let (mut leads, mut holds) = (BTreeMap::<_, u32>::new(), BTreeMap::<_, u32>::new());
            for replicas in &placed {
                prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor as usize);
                *leads.entry(replicas[0]).or_default() += 1;
                for replica in replicas {
                    *holds.entry(*replica).or_default() += 1;
                }
            }
            let spread = |load: &BTreeMap<_, u32>| {
                let of = |id: &BrokerId| load.get(id).copied().unwrap_or(0);
                let all = brokers(count);
                all.iter().map(of).max().unwrap() - all.iter().map(of).min().unwrap()
            };
            prop_assert!(spread(&leads) <= 1);
            prop_assert!(spread(&holds) <= factor);
        }
    }

    #[test]
    fn followers_of_one_leader_differ() {
        let placed = place(&brokers(4), 12, 2, 0);
        let of_first: BTreeSet<_> = placed
            .iter()
            .filter(|replicas| replicas[0].get() == 1)
            .map(|r| r[1])
            .collect();
        assert_eq!(
            of_first.len(),
            3,
            "a lost leader's load falls on all the others: {placed:?}"
        );
    }
}
