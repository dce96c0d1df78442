//! R5: a follower finds what its log has in common with its leader's, and lets go of the rest.

use super::*;

fn diverging(epoch: u32, end: u64) -> Fetched<&'static [BatchInfo]> {
    Fetched::Diverging(DivergingEpoch {
        epoch: LeaderEpoch(epoch),
        end_offset: Offset(end),
    })
}

fn truncate(to: u64) -> Effect {
    Effect::Truncate {
        to: Offset(to),
        producers: vec![],
        forgotten: vec![],
    }
}

#[test]
fn r5_a_leader_tells_where_the_logs_part() {
    let mut leader = replica_on(1, three_epochs());
    apply(&mut leader, &registration(1, 5, 1, &[1, 2, 3]));
    let mut answer = |offset, last| {
        leader
            .follower_fetch(&fetch(2, offset, Some(last), 0), T0)
            .unwrap()
            .0
    };
    let parts = |epoch, end| {
        Fetched::Diverging(DivergingEpoch {
            epoch: LeaderEpoch(epoch),
            end_offset: Offset(end),
        })
    };
    assert_eq!(answer(5, 2), parts(2, 4), "its epoch 2 went on for longer");
    assert_eq!(answer(5, 4), parts(3, 6), "epoch 4 is unknown here");
    assert!(matches!(answer(4, 2), Fetched::Batches { .. }));
    assert_eq!(
        leader.log().high_watermark(),
        Offset(0),
        "what diverges counts for nothing"
    );
}

#[test]
fn r5_a_follower_truncates_to_the_smaller_end_of_the_epoch() {
    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    assert_eq!(
        fetched(&mut follower, diverging(2, 9)).effects,
        [truncate(4), Effect::FetchAgain]
    );
    assert_eq!(follower.durable(Offset(4), T0), []);
    assert_eq!(
        fetched(&mut follower, diverging(1, 1)).effects,
        [truncate(1), Effect::FetchAgain]
    );
    let position = follower.next_fetch().unwrap();
    assert_eq!(
        (position.fetch_offset, position.last_fetched_epoch),
        (Offset(1), Some(LeaderEpoch(1)))
    );
}

#[test]
fn r5_truncation_waits_for_what_is_under_way() {
    let mut follower = replica_on(2, LogState::default());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let batches = [batch(0, 2, 4), batch(2, 2, 5)];
    let answer = prefix(&batches, 0, 0);
    assert_eq!(fetched(&mut follower, answer).epochs.len(), 2);
    apply(&mut follower, &registration(3, 6, 2, &[2, 3]));
    assert_eq!(fetched(&mut follower, diverging(4, 2)).effects, []);
    assert_eq!(follower.next_fetch(), None);
    assert_eq!(follower.durable(Offset(2), T0), [Effect::Durable(Offset(2))]);
    assert_eq!(
        follower.durable(Offset(4), T0),
        [Effect::Durable(Offset(4)), truncate(2), Effect::FetchAgain]
    );
}

#[test]
fn r5_a_truncation_waits_until_the_one_before_it_is_durable() {
    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    fetched(&mut follower, diverging(2, 4));
    assert_eq!(
        fetched(&mut follower, diverging(1, 1)).effects,
        [],
        "4 is still to be told"
    );
    assert_eq!(follower.durable(Offset(4), T0), [truncate(1), Effect::FetchAgain]);
    // Else the first one's report would come here, and stand for records that nobody has synced.
    let batches = [batch(1, 5, 5)];
    let answer = prefix(&batches, 0, 0);
    fetched(&mut follower, answer);
    follower.durable(Offset(1), T0);
    assert_eq!(follower.log().durable_end(), Offset(1));
    follower.durable(Offset(6), T0);
    assert_eq!(follower.log().durable_end(), Offset(6));
}

#[test]
fn r5_what_moved_at_the_leader_counts_only_for_a_prefix_of_its_log() {
    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let progress = Fetched::Progress {
        high_watermark: Offset(6),
        log_start: Offset(0),
    };
    assert_eq!(
        fetched(&mut follower, progress).effects,
        [],
        "its tail may be another than the leader's"
    );
    let answer = prefix(&[], 2, 0);
    assert_eq!(
        fetched(&mut follower, answer).effects,
        [Effect::HighWatermark(Offset(2))]
    );
    assert_eq!(
        fetched(&mut follower, progress).effects,
        [Effect::HighWatermark(Offset(6))]
    );
    let late = FetchedFromLeader {
        leader_epoch: LeaderEpoch(5),
        answer: diverging(1, 1),
        now: T0,
    };
    assert_eq!(
        follower.fetched(late),
        Err(InvalidFetch::Stale {
            answered: LeaderEpoch(5)
        })
    );
}

#[test]
fn r5_a_follower_below_the_leaders_log_start_begins_anew() {
    let mut leader = replica_on(
        1,
        LogState {
            log_start: Offset(4),
            ..three_epochs()
        },
    );
    apply(&mut leader, &registration(1, 5, 1, &[1, 2]));
    let (answer, _) = leader.follower_fetch(&fetch(2, 2, Some(1), 2), T0).unwrap();
    assert_eq!(answer, Fetched::BeforeLogStart { log_start: Offset(4) });

    let mut follower = replica_on(2, LogState::default());
    apply(&mut follower, &registration(1, 5, 1, &[1, 2]));
    let taken = fetched(&mut follower, Fetched::BeforeLogStart { log_start: Offset(4) });
    let trim = Effect::Trim { log_start: Offset(4) };
    assert_eq!(taken.effects, [truncate(0), trim, Effect::FetchAgain]);
    assert_eq!(follower.next_fetch().unwrap().fetch_offset, Offset(4));
}

#[test]
fn r5_r16_a_follower_with_nothing_in_common_with_a_trimmed_leader_begins_anew() {
    let trimmed = LogState {
        log_start: Offset(6),
        log_end: Offset(8),
        high_watermark: Offset(8),
        epochs: vec![EpochEntry {
            epoch: LeaderEpoch(3),
            start_offset: Offset(6),
        }],
        producers: Vec::new(),
    };
    let mut leader = replica_on(1, trimmed);
    apply(&mut leader, &registration(1, 5, 1, &[1]));
    let anew = Fetched::BeforeLogStart { log_start: Offset(6) };
    for offset in [6, 7] {
        let (answer, _) = leader.follower_fetch(&fetch(2, offset, Some(2), 0), T0).unwrap();
        assert_eq!(answer, anew, "up to 6 it may have what was never committed");
    }
    let (answer, _) = leader.follower_fetch(&fetch(2, 7, Some(3), 0), T0).unwrap();
    assert!(matches!(answer, Fetched::Batches { .. }));

    let mut follower = replica_on(2, three_epochs());
    apply(&mut follower, &registration(1, 5, 1, &[1]));
    let answer = Fetched::BeforeLogStart { log_start: Offset(6) };
    let taken = fetched(&mut follower, answer);
    assert_eq!(taken.effects[1], Effect::Trim { log_start: Offset(6) });
    let position = follower.next_fetch().unwrap();
    assert_eq!(
        (position.fetch_offset, position.last_fetched_epoch),
        (Offset(6), None)
    );
    // The same answer to a fetch that was sent twice changes nothing.
    assert_eq!(fetched(&mut follower, answer).effects, []);
    let batches = [batch(6, 2, 3)];
    let answer_with = prefix(&batches, 8, 6);
    fetched(&mut follower, answer_with);
    let late = follower.fetched(FetchedFromLeader {
        leader_epoch: LeaderEpoch(5),
        answer,
        now: T0,
    });
    assert!(matches!(late, Err(InvalidFetch::Stale { .. })), "{late:?}");
}

#[test]
fn r5_a_log_that_is_known_to_be_a_prefix_is_not_begun_anew() {
    // What is in common is shown while it is still there.
    let before = LogState {
        log_end: Offset(2),
        epochs: vec![EpochEntry {
            epoch: LeaderEpoch(4),
            start_offset: Offset(0),
        }],
        ..LogState::default()
    };
    let mut leader = replica_on(1, before);
    apply(&mut leader, &registration(1, 5, 1, &[1, 2]));
    append(&mut leader, 2);
    leader.written(Offset(4));
    leader.durable(Offset(4), T0);
    leader.follower_fetch(&fetch(2, 2, Some(4), 2), T0).unwrap();
    leader.trim(Offset(2)).unwrap();
    let (answer, _) = leader.follower_fetch(&fetch(2, 2, Some(4), 2), T0).unwrap();
    let goes_on = Fetched::Batches {
        batches: LogRange {
            from: Offset(2),
            until: Offset(4),
        },
        high_watermark: Offset(2),
        log_start: Offset(2),
    };
    assert_eq!(answer, goes_on);
    assert_eq!(leader.status().followers[0], (id(2), Some(Offset(2))));
}
