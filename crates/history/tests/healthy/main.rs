//! A long run of a healthy cluster is accepted, and the same run with one event spoiled is
//! rejected: so the checks do look at it.

mod run;

use std::sync::Arc;

use run::{Run, partition};
use tidelog_history::event::{CommitResult, Entry, Value};
use tidelog_history::{Checker, Digest, Event, Invariant, What, check};
use tidelog_types::Offset;

fn events(rounds: u64) -> Vec<Event> {
    let mut run = Run::new(4, 20_261_125);
    for _ in 0..rounds {
        run.step();
    }
    run.end();
    run.events
}

#[test]
fn a_long_healthy_run_is_accepted() {
    let history = events(26_000);
    assert!(history.len() > 200_000, "{} events", history.len());
    let mut checker = Checker::new();
    for event in &history {
        if let Err(violation) = checker.take(event) {
            panic!("{violation}\n{event}");
        }
    }
    checker.finish().unwrap();
    assert_eq!(checker.taken(), history.len());
}

#[test]
fn a_run_is_the_same_whenever_it_is_made() {
    assert_eq!(Digest::of(&events(300)), Digest::of(&events(300)));
    assert_ne!(Digest::of(&events(300)), Digest::of(&events(301)));
}

/// Changes the event and says so, or leaves it.
type Spoil = fn(&mut What) -> bool;

#[test]
fn a_healthy_run_with_one_event_spoiled_is_rejected() {
    let spoils: [(Invariant, Spoil); 15] = [
        (Invariant::C1, lose_the_last_record),
        (Invariant::C2, acknowledge_one_further),
        (Invariant::C3, read_what_was_never_sent),
        (Invariant::C7, skip_a_record),
        (Invariant::C8, tell_an_old_end),
        (Invariant::C10, serve_one_too_many),
        (Invariant::G12, answer_nothing),
        (Invariant::P16, copy_another_value),
        (Invariant::P18, forget_to_sync),
        (Invariant::P21, forget_the_epochs),
        (Invariant::P23, truncate_everything),
        (Invariant::P24, acknowledge_another_batch),
        (Invariant::P25, forget_the_producers),
        (Invariant::M26, apply_another_command),
        (Invariant::M28, repeat_a_partition_epoch),
    ];
    let history = events(1_500);
    for (invariant, spoil) in spoils {
        let mut spoiled = history.clone();
        // In the second half, so that there is a past to contradict.
        let half = spoiled.len() / 2;
        let at = spoiled[half..]
            .iter_mut()
            .position(|event| spoil(&mut event.what))
            .unwrap_or_else(|| panic!("{invariant}: nothing to spoil"));
        let violation = check(&spoiled).expect_err(&format!("{invariant}: a spoiled run is accepted"));
        assert_eq!(violation.invariant, invariant, "{violation}");
        assert!(violation.position >= half + at, "{violation}");
    }
}

fn lose_the_last_record(what: &mut What) -> bool {
    match what {
        What::ReadToEnd { records, end, .. } => {
            records.pop();
            *end = *end - 1;
            true
        }
        _ => false,
    }
}

fn acknowledge_one_further(what: &mut What) -> bool {
    match what {
        What::SendAcknowledged { base_offset, .. } => {
            *base_offset = *base_offset - 1;
            true
        }
        _ => false,
    }
}

fn read_what_was_never_sent(what: &mut What) -> bool {
    match what {
        What::Read { records, .. } if !records.is_empty() => {
            records[0].value = Value(u64::MAX / 2);
            true
        }
        _ => false,
    }
}

fn skip_a_record(what: &mut What) -> bool {
    match what {
        What::Read { records, .. } if records.len() > 1 => {
            records.remove(0);
            true
        }
        _ => false,
    }
}

fn tell_an_old_end(what: &mut What) -> bool {
    match what {
        What::EndAnswered { offset, .. } => {
            *offset = *offset - 1;
            true
        }
        _ => false,
    }
}

fn serve_one_too_many(what: &mut What) -> bool {
    match what {
        What::Serves { until, .. } => {
            *until = until.next();
            true
        }
        _ => false,
    }
}

fn answer_nothing(what: &mut What) -> bool {
    match what {
        What::OffsetAnswered { offset, .. } => offset.take().is_some(),
        What::CommitEnded { result, .. } => {
            assert_eq!(*result, CommitResult::Acknowledged);
            false
        }
        _ => false,
    }
}

fn copy_another_value(what: &mut What) -> bool {
    match what {
        What::Appended {
            entry,
            leading: false,
            ..
        } => {
            let mut other = Entry::clone(entry);
            other.values[0] = Value(u64::MAX / 2);
            *entry = Arc::new(other);
            true
        }
        _ => false,
    }
}

fn forget_to_sync(what: &mut What) -> bool {
    match what {
        What::Durable { end, .. } => {
            *end = Offset::ZERO;
            true
        }
        _ => false,
    }
}

fn forget_the_epochs(what: &mut What) -> bool {
    match what {
        What::Derived { epochs, .. } => epochs.pop().is_some(),
        _ => false,
    }
}

fn truncate_everything(what: &mut What) -> bool {
    match what {
        What::Truncated { to, .. } => {
            *to = Offset::ZERO;
            true
        }
        _ => false,
    }
}

fn acknowledge_another_batch(what: &mut What) -> bool {
    match what {
        What::Acknowledges { values, .. } => {
            values.push(Value(u64::MAX / 2));
            true
        }
        _ => false,
    }
}

fn forget_the_producers(what: &mut What) -> bool {
    match what {
        What::Derived { producers, .. } => !std::mem::take(producers).is_empty(),
        _ => false,
    }
}

fn apply_another_command(what: &mut What) -> bool {
    match what {
        What::Applied { command, .. } => {
            *command ^= 1;
            true
        }
        _ => false,
    }
}

fn repeat_a_partition_epoch(what: &mut What) -> bool {
    match what {
        What::Registered {
            partition: which,
            registration,
            ..
        } if *which == partition(0) => {
            registration.partition_epoch.0 -= 1;
            true
        }
        _ => false,
    }
}
