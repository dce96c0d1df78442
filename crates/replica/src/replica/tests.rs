//! One test or more a rule of replication (R1–R12), comparing whole vectors of effects.

mod divergence;
mod isr;

use std::collections::BTreeMap;

use tidelog_types::{
    BatchInfo, BrokerEpoch, EpochEntry, PartitionRegistration, ProducerEpoch, ProducerId, ProducerStamp,
    Sequence,
};

use super::*;
use crate::fetched::DivergingEpoch;
use crate::log::tests::batch;
use crate::messages::NewBatch;

const T0: Duration = Duration::ZERO;

fn id(n: u32) -> BrokerId {
    BrokerId::new(n).unwrap()
}

fn ids(of: &[u32]) -> Vec<BrokerId> {
    of.iter().map(|n| id(*n)).collect()
}

/// Brokers 1 to 3, each registered with ten times its id as epoch.
fn alive() -> BTreeMap<BrokerId, BrokerEpoch> {
    (1..=3).map(|n| (id(n), BrokerEpoch(u64::from(n) * 10))).collect()
}

fn registration(leader: u32, leader_epoch: u32, partition_epoch: u32, isr: &[u32]) -> PartitionRegistration {
    PartitionRegistration {
        replicas: ids(&[1, 2, 3]),
        isr: ids(isr),
        elr: Vec::new(),
        leader: (leader > 0).then(|| id(leader)),
        last_known_leader: None,
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        min_insync_replicas: 2,
    }
}

fn apply(replica: &mut Replica, registration: &PartitionRegistration) -> Vec<Effect> {
    let broker_epoch = alive()[&replica.local];
    let assignment = Assignment {
        registration,
        broker_epoch,
        metadata_index: 100,
        alive: &alive(),
    };
    replica.apply(&assignment, T0)
}

fn replica_on(local: u32, log: LogState) -> Replica {
    Replica::new(id(local), log, Settings::default(), T0)
}

/// Broker 1, leading in epoch 5 with this ISR.
fn leader(isr: &[u32]) -> Replica {
    let mut replica = replica_on(1, LogState::default());
    apply(&mut replica, &registration(1, 5, 1, isr));
    replica
}

fn request(offset_count: u64) -> AppendRequest {
    let batch = NewBatch {
        offset_count,
        max_timestamp_ms: 0,
        size_bytes: 100,
        producer: None,
    };
    AppendRequest {
        leader_epoch: None,
        batch,
        acks_all: true,
    }
}

fn append(replica: &mut Replica, offset_count: u64) -> Offset {
    match replica.append(&request(offset_count), T0).unwrap() {
        Appended::New { info, .. } => info.base_offset,
        Appended::Duplicate { .. } => panic!("without a producer nothing is a duplicate"),
    }
}

fn fetch(from: u32, fetch_offset: u64, last: Option<u32>, durable: u64) -> FollowerFetch {
    FollowerFetch {
        broker: id(from),
        broker_epoch: alive()[&id(from)],
        leader_epoch: LeaderEpoch(5),
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: last.map(LeaderEpoch),
        durable_end: Offset(durable),
    }
}

fn code<T>(result: Result<T, PartitionError>) -> ErrorCode {
    result.err().expect("a refusal").code
}

/// An answer that shows that the follower's log is a prefix of the leader's.
fn prefix(batches: &[BatchInfo], high_watermark: u64, log_start: u64) -> Fetched<&[BatchInfo]> {
    Fetched::Batches {
        batches,
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
    }
}

fn fetched(replica: &mut Replica, answer: Fetched<&[BatchInfo]>) -> TakenFromLeader {
    let leader_epoch = replica.leader().1;
    replica
        .fetched(FetchedFromLeader {
            leader_epoch,
            answer,
            now: T0,
        })
        .unwrap()
}

/// A log of two records an epoch, epochs 1 to 3.
fn three_epochs() -> LogState {
    let entry = |epoch| EpochEntry {
        epoch: LeaderEpoch(epoch),
        start_offset: Offset(u64::from(epoch - 1) * 2),
    };
    LogState {
        log_end: Offset(6),
        epochs: (1..=3).map(entry).collect(),
        ..LogState::default()
    }
}

#[test]
fn r1_the_high_watermark_is_the_lowest_durable_end() {
    let mut leader = leader(&[1, 2, 3]);
    append(&mut leader, 10);
    assert_eq!(
        leader.durable(Offset(10), T0),
        [Effect::Durable(Offset(10))],
        "no follower has spoken"
    );
    leader.follower_fetch(&fetch(2, 10, Some(5), 8), T0).unwrap();
    let (_, effects) = leader.follower_fetch(&fetch(3, 10, Some(5), 4), T0).unwrap();
    assert_eq!(effects, [Effect::HighWatermark(Offset(4))]);
    let mut durable = FollowerDurable {
        broker: id(3),
        broker_epoch: BrokerEpoch(30),
        leader_epoch: LeaderEpoch(5),
        durable_end: Offset(9),
    };
    assert_eq!(
        leader.follower_durable(&durable, T0).unwrap(),
        [Effect::HighWatermark(Offset(8))]
    );
    durable.durable_end = Offset(2);
    assert_eq!(
        leader.follower_durable(&durable, T0).unwrap(),
        [],
        "it never moves back"
    );
}

#[test]
fn r1_what_is_only_written_at_the_leader_is_not_committed() {
    let mut leader = leader(&[1, 2]);
    append(&mut leader, 10);
    assert_eq!(leader.written(Offset(10)), [Effect::Written(Offset(10))]);
    let (_, effects) = leader.follower_fetch(&fetch(2, 10, Some(5), 10), T0).unwrap();
    assert_eq!(effects, []);
    assert_eq!(
        leader.durable(Offset(10), T0),
        [Effect::Durable(Offset(10)), Effect::HighWatermark(Offset(10))]
    );
}

#[test]
fn r1_it_stands_while_the_committed_isr_is_too_small() {
    let mut leader = leader(&[1]);
    leader
        .append(
            &AppendRequest {
                acks_all: false,
                ..request(1)
            },
            T0,
        )
        .unwrap();
    assert_eq!(leader.durable(Offset(1), T0), [Effect::Durable(Offset(1))]);
}

#[test]
fn r1_a_replica_that_is_being_added_counts() {
    let mut leader = leader(&[1, 2]);
    leader.follower_fetch(&fetch(2, 0, None, 0), T0).unwrap();
    leader.follower_fetch(&fetch(3, 0, None, 0), T0).unwrap();
    assert_eq!(leader.maximal_isr(), ids(&[1, 2, 3]));
    append(&mut leader, 1);
    leader.durable(Offset(1), T0);
    let (_, effects) = leader.follower_fetch(&fetch(2, 1, Some(5), 1), T0).unwrap();
    assert_eq!(effects, [], "broker 3 may be a member already");
}

#[test]
fn r2_a_small_isr_refuses_before_and_fails_after_the_append() {
    let mut small = leader(&[1]);
    assert_eq!(code(small.append(&request(1), T0)), ErrorCode::NotEnoughReplicas);
    assert_eq!(small.log().log_end(), Offset(0));

    let mut shrinks = leader(&[1, 2]);
    append(&mut shrinks, 1);
    let effects = apply(&mut shrinks, &registration(1, 5, 2, &[1]));
    assert_eq!(effects, [Effect::FailProduces(LostProduces::NotEnoughReplicas)]);
}

/// A producer sends again what is stored: it is never told that nothing was appended.
#[test]
fn r9_a_duplicate_is_recognised_before_the_isr_is_looked_at() {
    let stamped = |base_sequence| {
        let mut request = request(1);
        request.batch.producer = Some(ProducerStamp {
            id: ProducerId(1),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence::ZERO.advanced_by(base_sequence),
        });
        request
    };
    let mut leader = leader(&[1, 2]);
    leader.append(&stamped(0), T0).unwrap();
    assert!(leader.is_duplicate(&stamped(0).batch));
    assert!(!leader.is_duplicate(&stamped(1).batch));
    leader.durable(Offset(1), T0);
    leader.follower_fetch(&fetch(2, 1, Some(5), 1), T0).unwrap();
    assert_eq!(leader.log().high_watermark(), Offset(1));
    leader.append(&stamped(1), T0).unwrap();
    apply(&mut leader, &registration(1, 5, 2, &[1]));

    let committed = leader.append(&stamped(0), T0).unwrap();
    assert!(matches!(
        committed,
        Appended::Duplicate {
            base_offset: Offset(0),
            ..
        }
    ));
    // Stored and not committed: indeterminate.
    assert_eq!(
        code(leader.append(&stamped(1), T0)),
        ErrorCode::NotEnoughReplicasAfterAppend
    );
    // New ones are refused for the ISR, the one after the gap too: it is in order once the other is
    // taken.
    assert_eq!(code(leader.append(&stamped(2), T0)), ErrorCode::NotEnoughReplicas);
    assert_eq!(code(leader.append(&stamped(3), T0)), ErrorCode::NotEnoughReplicas);
    assert_eq!(leader.log().log_end(), Offset(2));
}

#[test]
fn r3_an_image_older_than_the_registration_makes_no_leader() {
    let mut replica = replica_on(1, LogState::default());
    let registration = registration(1, 5, 1, &[1, 2, 3]);
    let alive = alive();
    let mut assignment = Assignment {
        registration: &registration,
        broker_epoch: BrokerEpoch(10),
        metadata_index: 9,
        alive: &alive,
    };
    assert_eq!(replica.apply(&assignment, T0), []);
    assert_eq!(
        code(replica.append(&request(1), T0)),
        ErrorCode::NotLeaderOrFollower
    );
    assignment.metadata_index = 10;
    assert_eq!(
        replica.apply(&assignment, T0),
        [],
        "an epoch of the broker's former life is not resumed"
    );
    assert!(!replica.is_leader());
}

#[test]
fn r3_a_new_registration_ends_a_leadership() {
    let mut leader = leader(&[1, 2, 3]);
    let registration = registration(1, 5, 2, &[1, 2, 3]);
    let alive = alive();
    let assignment = Assignment {
        registration: &registration,
        broker_epoch: BrokerEpoch(90),
        metadata_index: 100,
        alive: &alive,
    };
    let lost = Effect::FailProduces(LostProduces::LeadershipLost);
    assert_eq!(leader.apply(&assignment, T0), [lost, Effect::WentOffline]);
}

#[test]
fn r4_no_latest_offset_before_what_was_there_is_committed() {
    let mut replica = replica_on(1, three_epochs());
    let effects = apply(&mut replica, &registration(1, 5, 1, &[1, 2]));
    assert_eq!(
        effects,
        [Effect::BecameLeader {
            epoch: LeaderEpoch(5),
            start_offset: Offset(6)
        }]
    );
    assert_eq!(code(replica.latest_offset(None)), ErrorCode::OffsetNotAvailable);
    replica.follower_fetch(&fetch(2, 6, Some(3), 6), T0).unwrap();
    assert_eq!(replica.latest_offset(None), Ok((Offset(6), LeaderEpoch(5))));
}

#[test]
fn r7_stable_storage_is_told_only_of_a_prefix_of_the_leaders_log() {
    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    assert!(follower.next_fetch().is_some());
    assert_eq!(follower.durable_report(), None, "its tail may yet be cut off");
    let answer = prefix(&[], 0, 0);
    fetched(&mut follower, answer);
    assert_eq!(follower.durable_report(), follower.next_fetch());
}

#[test]
fn r7_a_follower_whose_fetch_waits_fetches_again_when_all_is_on_stable_storage() {
    let mut follower = replica_on(2, LogState::default());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let batches = [batch(0, 4, 5)];
    let answer = prefix(&batches, 0, 0);
    fetched(&mut follower, answer);
    // A new epoch begins, in which the leader has too few replicas in sync to append anything that
    // it could answer with.
    apply(&mut follower, &registration(1, 6, 2, &[1]));
    assert_eq!(follower.next_fetch().unwrap().durable_end, Offset(0));
    assert_eq!(follower.durable(Offset(2), T0), [Effect::Durable(Offset(2))]);
    assert_eq!(
        follower.durable(Offset(4), T0),
        [Effect::Durable(Offset(4)), Effect::FetchAgain]
    );
    assert_eq!(follower.next_fetch().unwrap().durable_end, Offset(4));
}

#[test]
fn r6_epochs_older_and_newer_are_told_apart() {
    let mut leader = leader(&[1, 2, 3]);
    for (epoch, expected) in [
        (4, ErrorCode::FencedLeaderEpoch),
        (6, ErrorCode::UnknownLeaderEpoch),
    ] {
        let asked = Some(LeaderEpoch(epoch));
        assert_eq!(
            code(leader.append(
                &AppendRequest {
                    leader_epoch: asked,
                    ..request(1)
                },
                T0
            )),
            expected
        );
        assert_eq!(code(leader.consumer_read(asked, Offset(0))), expected);
        assert_eq!(code(leader.latest_offset(asked)), expected);
        let fetch = FollowerFetch {
            leader_epoch: LeaderEpoch(epoch),
            ..fetch(2, 0, None, 0)
        };
        assert_eq!(code(leader.follower_fetch(&fetch, T0)), expected);
    }
    let mut follower = replica_on(2, LogState::default());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let refusal = follower.append(&request(1), T0).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.leader),
        (ErrorCode::NotLeaderOrFollower, Some((id(1), LeaderEpoch(5))))
    );
}

#[test]
fn r8_without_a_leader_the_replica_waits() {
    let mut leader = leader(&[1, 2]);
    let effects = apply(&mut leader, &registration(0, 6, 2, &[1]));
    assert_eq!(
        effects,
        [
            Effect::FailProduces(LostProduces::LeadershipLost),
            Effect::WentOffline
        ]
    );
    let effects = apply(&mut leader, &registration(2, 7, 3, &[2]));
    assert_eq!(
        effects,
        [Effect::BecameFollower {
            leader: id(2),
            epoch: LeaderEpoch(7)
        }]
    );
    assert_eq!(
        apply(&mut leader, &registration(1, 5, 1, &[1])),
        [],
        "an older registration changes nothing"
    );
}

#[test]
fn r9_a_duplicate_is_answered_by_the_original() {
    let mut leader = leader(&[1, 2]);
    let stamp = ProducerStamp {
        id: ProducerId(4),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence::ZERO,
    };
    let mut request = request(3);
    request.batch.producer = Some(stamp);
    append(&mut leader, 2);
    leader.append(&request, T0).unwrap();
    let again = leader.append(&request, T0).unwrap();
    let leader_epoch = LeaderEpoch(5);
    assert_eq!(
        again,
        Appended::Duplicate {
            base_offset: Offset(2),
            end: Offset(5),
            leader_epoch
        }
    );
    assert_eq!(leader.log().log_end(), Offset(5));
}

#[test]
fn r9_a_truncation_of_a_recovered_tail_asks_for_a_scan() {
    let mut table = crate::ProducerTable::default();
    let stamp = ProducerStamp {
        id: ProducerId(4),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence::ZERO,
    };
    table.replay(
        &BatchInfo {
            producer: Some(stamp),
            ..batch(4, 2, 3)
        },
        T0,
    );
    let mut follower = replica_on(
        2,
        LogState {
            producers: table.states(),
            ..three_epochs()
        },
    );
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let diverging = DivergingEpoch {
        epoch: LeaderEpoch(2),
        end_offset: Offset(4),
    };
    let taken = fetched(&mut follower, Fetched::Diverging(diverging));
    assert_eq!(
        taken.effects,
        [Effect::RebuildProducers {
            from: Offset(0),
            until: Offset(4)
        }]
    );
    assert_eq!(follower.next_fetch(), None);
    let truncate = Effect::Truncate {
        to: Offset(4),
        producers: vec![],
        forgotten: vec![ProducerId(4)],
    };
    assert_eq!(
        follower.producers_rebuilt(Offset(4), vec![], T0),
        [truncate, Effect::FetchAgain]
    );
}

#[test]
fn r10_consumers_read_to_the_high_watermark_and_followers_to_the_written_end() {
    let mut leader = leader(&[1, 2]);
    append(&mut leader, 5);
    leader.written(Offset(5));
    let (answer, _) = leader.follower_fetch(&fetch(2, 0, None, 0), T0).unwrap();
    let Fetched::Batches { batches, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        batches,
        LogRange {
            from: Offset(0),
            until: Offset(5)
        }
    );
    for between in 0..=5 {
        assert_eq!(
            leader.consumer_read(None, Offset(between)).unwrap().until,
            Offset(0)
        );
    }
    assert_eq!(
        code(leader.consumer_read(None, Offset(6))),
        ErrorCode::OffsetOutOfRange
    );
}

#[test]
fn p21_a_follower_takes_no_gap_and_no_older_epoch() {
    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    for wrong in [batch(7, 1, 5), batch(6, 1, 2), batch(6, 1, 6)] {
        let headers = [wrong];
        let answer = prefix(&headers, 0, 0);
        let fetched = FetchedFromLeader {
            leader_epoch: LeaderEpoch(5),
            answer,
            now: T0,
        };
        follower.fetched(fetched).unwrap_err();
    }
    assert_eq!(follower.log().log_end(), Offset(6));
}

#[test]
fn a_followers_high_watermark_stays_within_its_log() {
    let mut follower = replica_on(2, LogState::default());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let batches = [batch(0, 2, 5)];
    let answer = prefix(&batches, 9, 1);
    let taken = fetched(&mut follower, answer);
    assert_eq!(
        taken.effects,
        [
            Effect::HighWatermark(Offset(2)),
            Effect::Trim { log_start: Offset(1) }
        ]
    );
}
