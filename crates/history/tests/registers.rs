//! G12 against random histories of one register: whatever a correct one does is accepted, also
//! where requests overlap, and most of what a forgetful one does is not.

use std::time::Duration;

use tidelog_history::event::{CommitResult, Name, Request};
use tidelog_history::{Event, Invariant, What, check};
use tidelog_types::{Offset, PartitionIndex, TopicId, TopicIdPartition};

/// Numbers by a linear congruence.
struct Random(u64);

impl Random {
    fn draw(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One request: it begins, takes effect somewhere between, and ends.
#[derive(Clone, Copy)]
struct Operation {
    began: u64,
    effect: u64,
    ended: u64,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Acknowledged(u64),
    Refused(u64),
    /// Of unknown fate, and takes effect; perhaps long after its sender gave up.
    Late(u64),
    /// Of unknown fate, and never takes effect.
    Lost(u64),
    Asked,
}

fn operations(random: &mut Random) -> Vec<Operation> {
    let count = 2 + random.draw(24);
    (0..count)
        .map(|_| {
            let began = random.draw(1000);
            let effect = began + 1 + random.draw(60);
            let ended = effect + 1 + random.draw(60);
            // Few offsets, so that several commits of the same one are common.
            let offset = random.draw(6);
            match random.draw(8) {
                0 => Operation {
                    began,
                    effect: effect + random.draw(600),
                    ended,
                    kind: Kind::Late(offset),
                },
                1 => Operation {
                    began,
                    effect,
                    ended,
                    kind: Kind::Lost(offset),
                },
                2 => Operation {
                    began,
                    effect,
                    ended,
                    kind: Kind::Refused(offset),
                },
                3..=5 => Operation {
                    began,
                    effect,
                    ended,
                    kind: Kind::Acknowledged(offset),
                },
                _ => Operation {
                    began,
                    effect,
                    ended,
                    kind: Kind::Asked,
                },
            }
        })
        .collect()
}

/// What the register holds at a moment, if those commits take effect that `counts` lets.
fn held(operations: &[Operation], at: u64, counts: impl Fn(usize) -> bool) -> Option<u64> {
    let effective = operations
        .iter()
        .enumerate()
        .filter(|(index, operation)| operation.effect < at && counts(*index));
    effective
        .filter_map(|(index, operation)| match operation.kind {
            Kind::Acknowledged(offset) | Kind::Late(offset) => Some((operation.effect, index, offset)),
            Kind::Refused(_) | Kind::Lost(_) | Kind::Asked => None,
        })
        .max()
        .map(|(_, _, offset)| offset)
}

/// The history of those requests, where the register forgets the commit of the number `forgotten`.
fn history(operations: &[Operation], forgotten: Option<usize>) -> Vec<Event> {
    let group = || Name::from("g");
    let partition = TopicIdPartition {
        topic_id: TopicId::from_slice(&[7; 16]).expect("16 bytes"),
        partition: PartitionIndex(0),
    };
    let mut events = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let request = Request(index as u64);
        let commit = |offset| What::CommitBegan {
            request,
            group: group(),
            partition,
            offset: Some(Offset(offset)),
        };
        let ended = |result| What::CommitEnded { request, result };
        let (began, end) = match operation.kind {
            Kind::Acknowledged(offset) => (commit(offset), ended(CommitResult::Acknowledged)),
            Kind::Refused(offset) => (commit(offset), ended(CommitResult::Refused)),
            Kind::Late(offset) | Kind::Lost(offset) => (commit(offset), ended(CommitResult::Unknown)),
            Kind::Asked => {
                let asked = What::OffsetAsked {
                    request,
                    group: group(),
                    partition,
                };
                let offset =
                    held(operations, operation.effect, |commit| Some(commit) != forgotten).map(Offset);
                (asked, What::OffsetAnswered { request, offset })
            }
        };
        events.push((operation.began, began));
        events.push((operation.ended, end));
    }
    // At one moment endings come first or not, as they were drawn: both are possible.
    events.sort_by_key(|(at, _)| *at);
    let event = |(at, what)| Event {
        at: Duration::from_millis(at),
        what,
    };
    events.into_iter().map(event).collect()
}

#[test]
fn g12_whatever_a_register_does_is_accepted() {
    let mut random = Random(12);
    for round in 0..5_000 {
        let history = history(&operations(&mut random), None);
        if let Err(violation) = check(&history) {
            let lines: Vec<_> = history.iter().map(ToString::to_string).collect();
            panic!("round {round}: {violation}\n{}", lines.join("\n"));
        }
    }
}

#[test]
fn g12_most_of_what_a_forgetful_register_does_is_rejected() {
    let mut random = Random(13);
    let (mut wrong, mut rejected) = (0, 0);
    for _ in 0..5_000 {
        let operations = operations(&mut random);
        let is_commit = |index: &usize| matches!(operations[*index].kind, Kind::Acknowledged(_));
        let Some(forgotten) = (0..operations.len()).find(is_commit) else {
            continue;
        };
        // Only where somebody asks who must be told the forgotten offset, or a later one, is
        // anything amiss.
        let commit = operations[forgotten];
        let quiet = |other: &Operation| other.ended < commit.began || other.kind == Kind::Asked;
        let others_are_over = operations.iter().enumerate().all(|(index, other)| {
            index == forgotten || quiet(other) || matches!(other.kind, Kind::Refused(_))
        });
        let late = operations
            .iter()
            .any(|other| matches!(other.kind, Kind::Late(_) | Kind::Lost(_)));
        let asked = operations
            .iter()
            .any(|other| other.kind == Kind::Asked && other.began > commit.ended);
        let before = held(&operations, commit.effect, |_| true);
        let Kind::Acknowledged(offset) = commit.kind else {
            continue;
        };
        if !(others_are_over && asked && !late) || before == Some(offset) {
            continue;
        }
        wrong += 1;
        if let Err(violation) = check(&history(&operations, Some(forgotten))) {
            assert_eq!(violation.invariant, Invariant::G12, "{violation}");
            rejected += 1;
        }
    }
    assert!(wrong > 20, "{wrong} histories are wrong for certain");
    assert_eq!(rejected, wrong, "each of them is rejected");
}
