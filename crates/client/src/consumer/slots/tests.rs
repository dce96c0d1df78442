use tidelog_types::ErrorCode;

use super::super::options::OffsetReset;
use super::super::testing::{assigned, batch, partition};
use super::*;
use crate::error::ErrorKind;
use crate::offsets::OffsetAt;

fn slots(partitions: u32) -> Slots {
    let mut slots = Slots::new(FetchOptions::default());
    for index in 0..partitions {
        let id = slots.add(assigned("t", index), None);
        slots.begin(id, Some(StartAt::Offset(0)));
    }
    slots
}

fn bring(slots: &mut Slots, slot: u64, batches: Vec<Batch>) {
    let id = SlotId(slot);
    slots.by_id.get_mut(&id).unwrap().in_flight = Some(9);
    let brought = Brought {
        leader_epoch: LeaderEpoch(1),
        high_watermark: Offset(100),
        batches,
        damaged: None,
    };
    slots.brought(id, 9, brought);
}

fn take_all(slots: &mut Slots, ends: Option<&Ends>) -> Vec<(u32, u64)> {
    std::iter::from_fn(|| slots.take(ends, Instant::now()).record)
        .map(|record| record.unwrap())
        .map(|record| (record.partition, record.offset))
        .collect()
}

#[test]
fn partitions_take_turns_by_batch() {
    let mut slots = slots(2);
    bring(&mut slots, 0, vec![batch(0, 2), batch(2, 2)]);
    bring(&mut slots, 1, vec![batch(0, 1), batch(1, 1)]);
    assert_eq!(
        take_all(&mut slots, None),
        [(0, 0), (0, 1), (1, 0), (0, 2), (0, 3), (1, 1)]
    );
    assert_eq!(slots.buffered_bytes(), 0);
}

#[test]
fn a_paused_partition_keeps_what_it_has() {
    let mut slots = slots(2);
    bring(&mut slots, 0, vec![batch(0, 2)]);
    bring(&mut slots, 1, vec![batch(0, 1)]);
    slots.with(SlotId(0), |slot| slot.paused = true);
    assert_eq!(take_all(&mut slots, None), [(1, 0)]);
    slots.with(SlotId(0), |slot| slot.paused = false);
    assert_eq!(take_all(&mut slots, None), [(0, 0), (0, 1)]);
}

#[test]
fn nothing_at_an_end_or_beyond_is_taken() {
    let mut slots = slots(2);
    let ends = Ends::from([(partition("t", 0), 1), (partition("t", 1), 0)]);
    bring(&mut slots, 0, vec![batch(0, 3)]);
    bring(&mut slots, 1, vec![batch(0, 1)]);
    assert!(!slots.have_reached(&ends));
    assert_eq!(take_all(&mut slots, Some(&ends)), [(0, 0)]);
    assert!(slots.have_reached(&ends));
    assert_eq!(take_all(&mut slots, None).len(), 3);
}

#[test]
fn what_is_being_given_up_is_not_handed_out_and_its_marks_stay() {
    let mut slots = slots(1);
    bring(&mut slots, 0, vec![batch(0, 2)]);
    slots.take(None, Instant::now()).record.unwrap().unwrap();
    slots.get_mut(&partition("t", 0)).unwrap().marks.mark(Offset(0));
    slots.leave(SlotId(0));
    assert!(take_all(&mut slots, None).is_empty());
    assert_eq!(slots.committable(None)[0].2.offset, Offset(1));
    slots.remove(SlotId(0));
    assert_eq!((slots.buffered_bytes(), slots.todo.len()), (0, 0));
}

#[test]
fn an_answer_from_before_a_seek_is_not_taken() {
    let mut slots = slots(1);
    slots.by_id.get_mut(&SlotId(0)).unwrap().in_flight = Some(1);
    slots.with(SlotId(0), |slot| slot.seek(StartAt::Offset(50)));
    let late = Brought {
        leader_epoch: LeaderEpoch(1),
        high_watermark: Offset(9),
        batches: vec![batch(0, 3)],
        damaged: None,
    };
    slots.brought(SlotId(0), 1, late);
    assert!(take_all(&mut slots, None).is_empty());
    assert_eq!(slots.get(&partition("t", 0)).unwrap().position, Offset(50));
}

#[test]
fn a_position_outside_the_log_is_reset_or_said() {
    let now = Instant::now();
    let gone = || Error::new(ErrorKind::Refused(ErrorCode::OffsetOutOfRange), "gone");
    for reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None] {
        let mut slots = slots(1);
        slots.options.auto_offset_reset = reset;
        slots.by_id.get_mut(&SlotId(0)).unwrap().in_flight = Some(1);
        slots.refused(SlotId(0), 1, gone(), now, false);
        let start = slots.by_id[&SlotId(0)].start;
        match reset {
            OffsetReset::Earliest => assert_eq!(start, Start::Wanted(Lookup::Log(OffsetAt::Earliest))),
            OffsetReset::Latest => assert_eq!(start, Start::Wanted(Lookup::Log(OffsetAt::Latest))),
            OffsetReset::None => {
                let error = slots.take(None, Instant::now()).record.unwrap().unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
                assert!(error.message().contains("t-0 at offset 0"), "{error}");
            }
        }
    }
}

#[test]
fn damage_is_said_after_what_stands_before_it() {
    let mut slots = slots(1);
    slots.by_id.get_mut(&SlotId(0)).unwrap().in_flight = Some(1);
    let brought = Brought {
        leader_epoch: LeaderEpoch(1),
        high_watermark: Offset(9),
        batches: vec![batch(0, 1)],
        damaged: Some((Offset(1), "a wrong CRC".to_owned())),
    };
    slots.brought(SlotId(0), 1, brought);
    assert_eq!(
        slots.take(None, Instant::now()).record.unwrap().unwrap().offset,
        0
    );
    let now = Instant::now();
    let error = slots.take(None, now).record.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("t-0 is damaged at offset 1"), "{error}");
    let again = slots.take(None, now);
    assert!(again.record.is_none());
    let again = slots.take(None, again.repeats_at.unwrap());
    assert!(again.record.unwrap().is_err());
}

#[test]
fn an_error_that_was_told_holds_up_no_other_partition() {
    let mut slots = slots(2);
    let now = Instant::now();
    slots.with(SlotId(0), |slot| slot.fail(Error::new(ErrorKind::Corrupt, "bad")));
    bring(&mut slots, 1, vec![batch(0, 2), batch(2, 2)]);
    let mut seen = Vec::new();
    loop {
        let taken = slots.take(None, now);
        match taken.record {
            Some(record) => seen.push(record.map(|record| record.offset).ok()),
            None => break assert!(taken.repeats_at.is_some_and(|at| at > now)),
        }
    }
    assert_eq!(seen, [None, Some(0), Some(1), Some(2), Some(3)]);
}
