use super::*;

mod model;

/// A broker's refusal, or a stream that broke.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Error(Option<ErrorCode>);

impl Cause for Error {
    fn code(&self) -> Option<ErrorCode> {
        self.0
    }

    fn is_retriable(&self) -> bool {
        self.0.is_none_or(ErrorCode::is_retriable)
    }
}

const DEADLINE: Duration = Duration::from_mins(2);

fn settings(idempotent: bool) -> LineSettings {
    LineSettings {
        idempotent,
        max_in_flight: 5,
    }
}

fn identity(epoch: u16) -> Identity {
    Identity {
        id: ProducerId(7),
        epoch: ProducerEpoch(epoch),
    }
}

fn line() -> Line<Error> {
    Line::new(settings(true), Some(identity(0)))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A batch of ten records.
fn batch(id: BatchId) -> NewBatch {
    NewBatch {
        id,
        record_count: 10,
        deadline: DEADLINE,
    }
}

fn sent(batch: BatchId, epoch: u16, sequence: i32) -> Effect<Error> {
    let Identity { id, epoch } = identity(epoch);
    let base_sequence = Sequence::from_wire(sequence).unwrap();
    Effect::Send {
        batch,
        stamp: Some(ProducerStamp {
            id,
            epoch,
            base_sequence,
        }),
    }
}

fn complete(batch: BatchId, base_offset: u64) -> Effect<Error> {
    Effect::Complete { batch, base_offset }
}

fn stored(base_offset: u64) -> Answer<Error> {
    Answer::Stored { base_offset }
}

fn refusal(code: ErrorCode) -> Error {
    Error(Some(code))
}

fn refused(code: ErrorCode) -> Answer<Error> {
    let error = refusal(code);
    Answer::Refused {
        error,
        at_once: false,
    }
}

fn lost() -> Answer<Error> {
    Answer::Lost { error: Error(None) }
}

/// Batches 0 to `count`, sent.
fn line_with(count: u64) -> Line<Error> {
    let mut line = line();
    for id in 0..count {
        assert_eq!(line.send(batch(id)), sent(id, 0, id as i32 * 10));
    }
    line
}

/// What a batch failed by, `None` for its deadline, and whether it may have been written.
fn failures(effects: &[Effect<Error>]) -> Vec<(BatchId, Option<ErrorCode>, bool)> {
    let failure = |effect: &Effect<Error>| match effect {
        Effect::Fail {
            batch,
            why: Why::TimedOut { .. },
            maybe_written,
        } => Some((*batch, None, *maybe_written)),
        Effect::Fail {
            batch,
            why: Why::Refused(error),
            maybe_written,
        } => Some((*batch, error.code(), *maybe_written)),
        _ => None,
    };
    effects.iter().filter_map(failure).collect()
}

#[test]
fn five_are_in_flight_and_the_sixth_waits_for_the_first() {
    let mut line = line_with(5);
    assert!(!line.takes_more(ms(0)));
    // What stands behind an open batch does not make room: the broker remembers five.
    assert_eq!(line.answered(1, stored(10), ms(1)), [complete(1, 10)]);
    assert!(!line.takes_more(ms(1)));
    assert_eq!(line.answered(0, stored(0), ms(1)), [complete(0, 0)]);
    assert!(line.takes_more(ms(1)));
    assert_eq!(line.send(batch(5)), sent(5, 0, 50));
    assert_eq!(line.send(batch(6)), sent(6, 0, 60));
    assert!(!line.takes_more(ms(1)));
}

#[test]
fn nothing_is_sent_before_there_is_an_identity() {
    let mut line = Line::<Error>::new(settings(true), None);
    assert!(line.needs_identity() && !line.takes_more(ms(0)));
    line.identified(identity(0));
    assert!(line.takes_more(ms(0)));
    let plain = Line::<Error>::new(settings(false), None);
    assert!(plain.takes_more(ms(0)));
}

#[test]
fn a_batch_that_grows_goes_when_nothing_is_in_flight_or_something_returned() {
    let mut line = line();
    assert!(line.takes_partial());
    line.send(batch(0));
    assert!(!line.takes_partial());
    line.send(batch(1));
    line.answered(0, stored(0), ms(1));
    assert!(line.takes_partial());
    line.send(batch(2));
    assert!(!line.takes_partial());
}

#[test]
fn a_retry_keeps_stamps_and_order() {
    let mut line = line_with(3);
    let none: [Effect<Error>; 0] = [];
    assert_eq!(
        line.answered(0, refused(ErrorCode::NotLeaderOrFollower), ms(0)),
        none
    );
    assert_eq!(
        line.answered(1, refused(ErrorCode::OutOfOrderSequenceNumber), ms(0)),
        none
    );
    assert_eq!(line.next_wake(ms(0)), Some(ms(20)));
    assert_eq!(line.resend(ms(19)), none);
    assert!(!line.takes_more(ms(20)));
    // Batch 2 has not come back yet, and is in nobody's way.
    assert_eq!(line.resend(ms(20)), [sent(0, 0, 0), sent(1, 0, 10)]);
    assert_eq!(
        line.answered(2, refused(ErrorCode::OutOfOrderSequenceNumber), ms(21)),
        none
    );
    assert_eq!(line.resend(ms(21)), [sent(2, 0, 20)]);
    let answers = [0, 1, 2].map(|id| line.answered(id, stored(id * 10), ms(22)));
    assert_eq!(
        answers.concat(),
        [complete(0, 0), complete(1, 10), complete(2, 20)]
    );
    assert!(line.is_empty());
}

#[test]
fn a_batch_refused_for_what_is_ahead_of_it_is_not_sent_again_before_that() {
    let mut line = line_with(2);
    line.answered(1, refused(ErrorCode::OutOfOrderSequenceNumber), ms(0));
    // Batch 0 was sent before batch 1 was refused: asking again now would be answered the same.
    assert_eq!(line.resend(ms(1)), []);
    line.answered(0, refused(ErrorCode::NotEnoughReplicas), ms(1));
    assert_eq!(line.resend(ms(30)), [sent(0, 0, 0), sent(1, 0, 10)]);
}

#[test]
fn pauses_grow_with_refusals_in_a_row_and_a_new_leader_ends_them() {
    let mut line = line_with(1);
    for (at, pause) in [(0, 20), (20, 40), (60, 80)] {
        line.answered(0, refused(ErrorCode::NotEnoughReplicas), ms(at));
        assert_eq!(line.resend(ms(at + pause - 1)), []);
        assert_eq!(line.resend(ms(at + pause)), [sent(0, 0, 0)]);
    }
    line.answered(0, lost(), ms(140));
    line.leader_changed();
    assert_eq!(line.resend(ms(140)), [sent(0, 0, 0)]);
    assert_eq!(line.answered(0, stored(4), ms(150)), [complete(0, 4)]);
    line.send(batch(1));
    line.answered(1, refused(ErrorCode::NotEnoughReplicas), ms(150));
    assert_eq!(line.next_wake(ms(150)), Some(ms(170)));
    // From then on it waits for a broker, and a timer would ring without end.
    assert_eq!(line.next_wake(ms(170)), Some(DEADLINE));
}

#[test]
fn a_better_broker_is_asked_at_once_but_two_that_name_each_other_are_not_asked_for_ever() {
    let mut line = line_with(1);
    let hint = || Answer::Refused {
        error: refusal(ErrorCode::NotLeaderOrFollower),
        at_once: true,
    };
    for _ in 0..2 {
        line.answered(0, hint(), ms(5));
        assert_eq!(line.resend(ms(5)), [sent(0, 0, 0)]);
    }
    line.answered(0, hint(), ms(5));
    assert_eq!(line.resend(ms(5)), []);
}

#[test]
fn a_lost_stream_has_everything_sent_again_as_it_was() {
    let mut line = line_with(3);
    for id in 0..3 {
        assert_eq!(line.answered(id, lost(), ms(0)), []);
    }
    // Three losses of one stream are one failure.
    assert_eq!(line.next_wake(ms(0)), Some(ms(20)));
    assert_eq!(
        line.resend(ms(20)),
        [sent(0, 0, 0), sent(1, 0, 10), sent(2, 0, 20)]
    );
}

#[test]
fn records_that_the_producers_epoch_lost_track_of_are_numbered_anew() {
    let mut line = line_with(2);
    assert_eq!(line.answered(0, refused(ErrorCode::UnknownProducerId), ms(0)), []);
    assert!(!line.takes_more(ms(0)));
    // Not before everything is back.
    assert_eq!(
        line.answered(1, refused(ErrorCode::UnknownProducerId), ms(1)),
        [Effect::RaiseEpoch(identity(0))]
    );
    assert_eq!(line.resend(ms(1)), []);
    line.identified(identity(1));
    assert_eq!(line.resend(ms(2)), [sent(0, 1, 0), sent(1, 1, 10)]);
    assert_eq!(line.answered(0, stored(50), ms(3)), [complete(0, 50)]);
    assert_eq!(line.send(batch(2)), sent(2, 1, 20));
}

#[test]
fn a_sequence_refusal_is_final_only_at_the_head() {
    let mut line = line_with(2);
    // The answers may come in any order: batch 1 was refused before batch 0 was sent again.
    line.answered(0, refused(ErrorCode::NotLeaderOrFollower), ms(0));
    assert_eq!(line.resend(ms(20)), [sent(0, 0, 0)]);
    assert_eq!(line.answered(0, stored(0), ms(21)), [complete(0, 0)]);
    assert_eq!(
        line.answered(1, refused(ErrorCode::OutOfOrderSequenceNumber), ms(22)),
        []
    );
    assert_eq!(line.resend(ms(22)), [sent(1, 0, 10)]);
    assert_eq!(
        line.answered(1, refused(ErrorCode::OutOfOrderSequenceNumber), ms(23)),
        [Effect::RaiseEpoch(identity(0))]
    );
}

#[test]
fn behind_a_batch_that_was_never_appended_nothing_was() {
    let mut line = line_with(3);
    let effects = line.answered(0, refused(ErrorCode::MessageTooLarge), ms(0));
    let too_large = Some(ErrorCode::MessageTooLarge);
    assert_eq!(failures(&effects), [(0, too_large, false)]);
    // Batch 1's stream breaks, but without batch 0 it cannot have been appended.
    assert_eq!(line.answered(1, lost(), ms(1)), []);
    assert_eq!(
        line.answered(2, refused(ErrorCode::OutOfOrderSequenceNumber), ms(2)),
        [Effect::RaiseEpoch(identity(0))]
    );
    line.identified(identity(1));
    assert_eq!(line.resend(ms(2)), [sent(1, 1, 0), sent(2, 1, 10)]);
}

#[test]
fn what_may_have_been_written_is_never_numbered_anew() {
    let mut line = line_with(3);
    for id in 0..2 {
        line.answered(id, lost(), ms(0));
    }
    line.answered(2, refused(ErrorCode::NotLeaderOrFollower), ms(0));
    line.entries[0].deadline = ms(10);
    // Batch 0 is given up without an answer. Whether batch 1 stands in the log is asked for with
    // its old number.
    assert_eq!(failures(&line.expire(ms(10))), [(0, None, true)]);
    assert_eq!(line.resend(ms(20)), [sent(1, 0, 10)]);
    let effects = line.answered(1, refused(ErrorCode::OutOfOrderSequenceNumber), ms(21));
    let out_of_order = Some(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(failures(&effects), [(1, out_of_order, true)]);
    assert_eq!(effects[1..], [Effect::RaiseEpoch(identity(0))]);
    line.identified(identity(1));
    assert_eq!(line.resend(ms(21)), [sent(2, 1, 0)]);
}

#[test]
fn a_batch_behind_a_gap_that_was_stored_completes() {
    let mut line = line_with(2);
    for id in 0..2 {
        line.answered(id, lost(), ms(0));
    }
    line.entries[0].deadline = ms(10);
    line.expire(ms(10));
    line.resend(ms(20));
    assert_eq!(
        line.answered(1, stored(10), ms(21)),
        [complete(1, 10), Effect::RaiseEpoch(identity(0))]
    );
}

#[test]
fn a_batch_given_up_in_flight_leaves_no_gap_if_it_is_stored_after_all() {
    let mut line = line_with(2);
    assert_eq!(line.next_wake(ms(0)), Some(DEADLINE));
    line.entries[0].deadline = ms(10);
    assert_eq!(failures(&line.expire(ms(10))), [(0, None, true)]);
    assert_eq!(line.expire(ms(11)), []);
    assert_eq!(line.answered(0, stored(0), ms(12)), []);
    assert_eq!(line.answered(1, stored(10), ms(12)), [complete(1, 10)]);
    assert!(line.takes_more(ms(12)));
}

#[test]
fn a_deadline_says_whether_the_record_may_have_been_written() {
    let outcome = |answer: Answer<Error>| {
        let mut line = line_with(1);
        line.answered(0, answer, ms(0));
        failures(&line.expire(DEADLINE))
    };
    let timed_out = |maybe_written| [(0, None, maybe_written)];
    assert_eq!(outcome(refused(ErrorCode::NotLeaderOrFollower)), timed_out(false));
    assert_eq!(outcome(refused(ErrorCode::NotEnoughReplicas)), timed_out(false));
    assert_eq!(
        outcome(refused(ErrorCode::NotEnoughReplicasAfterAppend)),
        timed_out(true)
    );
    assert_eq!(outcome(refused(ErrorCode::RequestTimedOut)), timed_out(true));
    assert_eq!(outcome(lost()), timed_out(true));
    assert_eq!(failures(&line_with(1).expire(DEADLINE)), timed_out(true));
}

#[test]
fn a_certain_refusal_does_not_make_an_earlier_doubt_go_away() {
    let mut line = line_with(1);
    line.answered(0, lost(), ms(0));
    line.resend(ms(20));
    line.answered(0, refused(ErrorCode::NotEnoughReplicas), ms(21));
    assert_eq!(failures(&line.expire(DEADLINE)), [(0, None, true)]);
}

#[test]
fn a_timeout_names_the_last_failure() {
    let mut line = line_with(1);
    line.answered(0, refused(ErrorCode::NotEnoughReplicas), ms(0));
    let last = Some(refusal(ErrorCode::NotEnoughReplicas));
    let failed = Effect::Fail {
        batch: 0,
        why: Why::TimedOut { last },
        maybe_written: false,
    };
    assert_eq!(line.expire(DEADLINE), [failed, Effect::RaiseEpoch(identity(0))]);
}

#[test]
fn a_duplicate_that_nobody_remembers_the_place_of_is_in_the_log() {
    let mut line = line_with(2);
    let effects = line.answered(0, refused(ErrorCode::DuplicateSequenceNumber), ms(0));
    let duplicate = Some(ErrorCode::DuplicateSequenceNumber);
    assert_eq!(failures(&effects), [(0, duplicate, true)]);
    assert_eq!(line.answered(1, stored(10), ms(0)), [complete(1, 10)]);
    assert!(line.takes_more(ms(0)));
}

#[test]
fn aborting_tells_of_each_whether_it_may_have_been_written() {
    let mut line = line_with(3);
    line.answered(0, lost(), ms(0));
    line.answered(1, refused(ErrorCode::NotEnoughReplicas), ms(0));
    assert_eq!(line.abort(), [(0, true), (1, false), (2, true)]);
    assert!(line.is_empty());
}

#[test]
fn without_idempotence_a_batch_is_tried_again_and_never_stamped() {
    let mut line = Line::new(settings(false), None);
    let plain = |batch| Effect::Send { batch, stamp: None };
    assert_eq!(line.send(batch(0)), plain(0));
    assert_eq!(line.send(batch(1)), plain(1));
    line.answered(0, lost(), ms(0));
    assert_eq!(line.resend(ms(20)), [plain(0)]);
    let effects = line.answered(0, refused(ErrorCode::MessageTooLarge), ms(21));
    assert_eq!(failures(&effects), [(0, Some(ErrorCode::MessageTooLarge), true)]);
    // A gap means nothing where nothing is numbered.
    assert_eq!(effects.len(), 1);
    assert!(line.takes_more(ms(21)));
}
