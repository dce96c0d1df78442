use tidelog_types::{LeaderEpoch, ProducerEpoch, Sequence};

use super::*;

fn stamp(id: u64, epoch: u16, sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence::from_wire(sequence).unwrap(),
    }
}

fn batch(base: u64, count: u64, producer: ProducerStamp) -> BatchInfo {
    BatchInfo {
        producer: Some(producer),
        leader_epoch: LeaderEpoch(1),
        ..crate::log::tests::batch(base, count, 1)
    }
}

/// Batches of two records each of producer 7, epoch 0.
fn table(batches: u64) -> ProducerTable {
    let mut table = ProducerTable::default();
    for n in 0..batches {
        table.replay(&batch(2 * n, 2, stamp(7, 0, 2 * n as i32)), Duration::ZERO);
    }
    table
}

#[test]
fn r9_the_last_five_batches_are_recognised_as_duplicates() {
    let table = table(7);
    for n in 2..7 {
        let SequenceCheck::Duplicate(original) = table.check(stamp(7, 0, 2 * n), 2) else {
            panic!("batch {n} is not recognised")
        };
        assert_eq!(original.base_offset, Offset(2 * n as u64));
    }
    let too_old = SequenceCheck::Refused(ErrorCode::DuplicateSequenceNumber);
    assert_eq!(table.check(stamp(7, 0, 2), 2), too_old);
}

#[test]
fn r9_a_gap_is_out_of_order() {
    let table = table(3);
    assert_eq!(table.check(stamp(7, 0, 6), 1), SequenceCheck::Next);
    let gap = SequenceCheck::Refused(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(table.check(stamp(7, 0, 7), 1), gap);
    assert_eq!(table.check(stamp(7, 0, 5), 3), gap, "an overlap is no duplicate");
}

#[test]
fn r9_epochs_fence_and_begin_at_zero() {
    let mut table = table(1);
    table.replay(&batch(2, 1, stamp(7, 3, 0)), Duration::ZERO);
    let refused = SequenceCheck::Refused;
    assert_eq!(
        table.check(stamp(7, 2, 0), 1),
        refused(ErrorCode::InvalidProducerEpoch)
    );
    assert_eq!(table.check(stamp(7, 4, 0), 1), SequenceCheck::Next);
    assert_eq!(
        table.check(stamp(7, 4, 1), 1),
        refused(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(table.check(stamp(8, 0, 0), 1), SequenceCheck::Next);
    assert_eq!(
        table.check(stamp(8, 0, 1), 1),
        refused(ErrorCode::UnknownProducerId)
    );
}

#[test]
fn r9_sequences_wrap() {
    let mut table = ProducerTable::default();
    table.replay(&batch(0, 2, stamp(7, 0, i32::MAX - 1)), Duration::ZERO);
    assert_eq!(table.check(stamp(7, 0, 0), 1), SequenceCheck::Next);
    table.replay(&batch(2, 1, stamp(7, 0, 0)), Duration::ZERO);
    assert!(matches!(
        table.check(stamp(7, 0, i32::MAX - 1), 2),
        SequenceCheck::Duplicate(_)
    ));
}

#[test]
fn p25_truncation_gives_what_a_replay_of_the_rest_gives() {
    for left in 0..8 {
        let mut truncated = table(8);
        truncated.truncate(Offset(2 * left), Duration::ZERO);
        assert_eq!(truncated.states(), table(left).states(), "{left} batches left");
    }
}

#[test]
fn p25_truncation_names_what_changed() {
    let mut table = table(1);
    table.replay(&batch(2, 2, stamp(7, 0, 2)), Duration::ZERO);
    table.replay(&batch(4, 1, stamp(9, 0, 0)), Duration::ZERO);
    let changes = table.truncate(Offset(2), Duration::ZERO);
    let changed = vec![table.get(ProducerId(7)).unwrap().clone()];
    assert_eq!(
        changes,
        ProducerChanges {
            changed,
            forgotten: vec![ProducerId(9)]
        }
    );
}

#[test]
fn p25_a_recovered_tail_takes_a_scan() {
    let states = table(3).states();
    let mut recovered = ProducerTable::recovered(states, Offset(6), Duration::ZERO);
    assert!(recovered.can_truncate(Offset(6)));
    assert!(!recovered.can_truncate(Offset(4)));
    let changes = recovered.rebuilt(table(2).states(), Offset(4), Duration::ZERO);
    assert_eq!(changes.changed, table(2).states());
    assert!(recovered.can_truncate(Offset(4)));
}

#[test]
fn r9_an_idle_producer_expires_but_not_with_something_uncommitted() {
    let day = Duration::from_hours(24);
    let mut table = table(1);
    assert_eq!(table.expire(day, day), []);
    table.committed(Offset(2));
    assert_eq!(table.expire(Duration::from_hours(23), day), []);
    assert_eq!(table.expire(day, day), [ProducerId(7)]);
    assert!(table.is_empty());
}
