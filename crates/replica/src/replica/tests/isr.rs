//! R7 and P19: who belongs to the in-sync replicas, and since when.

use super::*;

fn proposal(partition_epoch: u32, isr: &[u32]) -> IsrProposal {
    let isr = isr
        .iter()
        .map(|n| (id(*n), BrokerEpoch(u64::from(*n) * 10)))
        .collect();
    IsrProposal {
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(partition_epoch),
        isr,
    }
}

#[test]
fn r7_a_replica_joins_when_it_has_all_that_is_committed() {
    let mut replica = replica_on(1, three_epochs());
    apply(&mut replica, &registration(1, 5, 1, &[1, 2]));
    let (_, effects) = replica.follower_fetch(&fetch(3, 6, Some(3), 5), T0).unwrap();
    assert_eq!(effects, [], "it is below the start of the leader's epoch");
    let (_, effects) = replica.follower_fetch(&fetch(3, 6, Some(3), 6), T0).unwrap();
    assert_eq!(effects, [Effect::ProposeIsr(proposal(1, &[1, 2, 3]))]);
    let (_, effects) = replica.follower_fetch(&fetch(3, 6, Some(3), 6), T0).unwrap();
    assert_eq!(effects, [], "one proposal is in flight");
}

#[test]
fn r7_only_the_registered_life_of_a_broker_joins() {
    let mut leader = leader(&[1, 2]);
    let stale = FollowerFetch {
        broker_epoch: BrokerEpoch(29),
        ..fetch(3, 0, None, 0)
    };
    assert_eq!(
        code(leader.follower_fetch(&stale, T0)),
        ErrorCode::StaleBrokerEpoch
    );
    let unknown = FollowerFetch {
        broker_epoch: BrokerEpoch(31),
        ..stale
    };
    assert_eq!(
        leader.follower_fetch(&unknown, T0).unwrap().1,
        [],
        "its registration has not been seen"
    );
}

#[test]
fn r7_a_replica_that_lags_leaves() {
    let mut leader = leader(&[1, 2, 3]);
    append(&mut leader, 1);
    leader
        .follower_fetch(&fetch(2, 1, Some(5), 1), Duration::from_secs(9))
        .unwrap();
    leader
        .follower_fetch(&fetch(3, 0, None, 0), Duration::from_secs(9))
        .unwrap();
    let heard = |_| Duration::from_secs(9);
    assert_eq!(leader.tick(Duration::from_secs(10), &heard), []);
    let effects = leader.tick(Duration::from_millis(10_001), &heard);
    assert_eq!(effects, [Effect::ProposeIsr(proposal(1, &[1, 2]))]);
}

#[test]
fn r7_an_idle_replica_stays_while_its_broker_is_heard() {
    let mut leader = leader(&[1, 2]);
    leader.follower_fetch(&fetch(2, 0, None, 0), T0).unwrap();
    let late = Duration::from_mins(1);
    assert_eq!(leader.tick(late, &|_| late), []);
    append(&mut leader, 1);
    assert_eq!(leader.tick(late, &|_| late), []);
}

#[test]
fn r7_a_steady_small_lag_is_no_lag() {
    let mut leader = leader(&[1, 2]);
    for second in 0..60 {
        let now = Duration::from_secs(second);
        leader.append(&request(1), now).unwrap();
        let reached = second.saturating_sub(3);
        leader
            .follower_fetch(&fetch(2, reached, (reached > 0).then_some(5), reached), now)
            .unwrap();
        assert_eq!(leader.tick(now, &|_| now), [], "second {second}");
    }
}

#[test]
fn r7_a_committed_change_takes_effect_and_a_refused_one_does_not() {
    let mut leader = leader(&[1, 2]);
    leader.follower_fetch(&fetch(3, 0, None, 0), T0).unwrap();
    let wished = proposal(1, &[1, 2, 3]);
    leader.isr_changed(
        &wished,
        &IsrChangeOutcome::Committed(registration(1, 5, 2, &[1, 2, 3])),
        T0,
    );
    assert_eq!(leader.status().isr, ids(&[1, 2, 3]));

    let mut refused = self::leader(&[1, 2]);
    refused.follower_fetch(&fetch(3, 0, None, 0), T0).unwrap();
    refused.isr_changed(
        &wished,
        &IsrChangeOutcome::Rejected(ErrorCode::IneligibleReplica),
        T0,
    );
    assert_eq!(refused.maximal_isr(), ids(&[1, 2]));
}

#[test]
fn p19_a_change_of_unknown_fate_counts_until_it_is_shut_out() {
    let mut leader = leader(&[1, 2]);
    leader.follower_fetch(&fetch(3, 0, None, 0), T0).unwrap();
    let wished = proposal(1, &[1, 2, 3]);
    leader.isr_changed(&wished, &IsrChangeOutcome::Unknown, T0);
    let later = Duration::from_millis(500);
    assert_eq!(
        leader.tick(later, &|_| later),
        [Effect::ProposeIsr(wished.clone())]
    );
    leader.isr_changed(
        &wished,
        &IsrChangeOutcome::Rejected(ErrorCode::IneligibleReplica),
        later,
    );
    assert_eq!(
        leader.maximal_isr(),
        ids(&[1, 2, 3]),
        "the first attempt may still arrive"
    );
    let later = Duration::from_secs(1);
    let as_it_is = proposal(1, &[1, 2]);
    assert_eq!(
        leader.tick(later, &|_| later),
        [Effect::ProposeIsr(as_it_is.clone())]
    );
    leader.isr_changed(
        &as_it_is,
        &IsrChangeOutcome::Committed(registration(1, 5, 2, &[1, 2])),
        later,
    );
    assert_eq!(leader.status().isr, ids(&[1, 2]));
}
