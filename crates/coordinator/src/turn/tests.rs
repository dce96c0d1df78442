//! A machine that sums numbers, over a log that the test writes.

use tidelog_types::ErrorCode;

use super::*;
use crate::machine::Refused;

/// Adds numbers, as one batch or one by one; or is due to add one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Add(Vec<u64>),
    AddEach(Vec<u64>),
    Due(u64),
    Ask,
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
struct Decision {
    records: Vec<u64>,
    told: Vec<Told>,
    may_be_cut: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Sum(u64),
    Refused(ErrorCode),
}

/// The total of every record that was appended.
#[derive(Debug, Default)]
struct Sum {
    total: u64,
    pending: VecDeque<(Offset, Vec<Told>)>,
    end: Offset,
    due: Option<u64>,
    postponed: Vec<Command>,
    gone_count: usize,
}

impl Machine for Sum {
    type Command = Command;
    type Record = u64;
    type Decision = Decision;
    type Effect = Told;

    fn replay(&mut self, record: &u64) {
        self.total += record;
    }

    fn start(&mut self, end: Offset, _now: Now) {
        self.end = end;
    }

    fn decide(&self, command: &Command, _now: Now) -> Decision {
        let (records, may_be_cut) = match command {
            Command::Add(numbers) => (numbers.clone(), false),
            Command::AddEach(numbers) => (numbers.clone(), true),
            Command::Due(number) => (vec![*number], false),
            Command::Ask | Command::Gone => (Vec::new(), false),
        };
        let sum = Told::Sum(self.total + records.iter().sum::<u64>());
        let told = if *command == Command::Gone {
            Vec::new()
        } else {
            vec![sum]
        };
        Decision {
            records,
            told,
            may_be_cut,
        }
    }

    fn records(decision: &Decision) -> &[u64] {
        &decision.records
    }

    fn may_be_cut(decision: &Decision) -> bool {
        decision.may_be_cut
    }

    fn first_records(mut decision: Decision, count: usize) -> Decision {
        decision.records.truncate(count);
        decision.told.clear();
        decision
    }

    fn apply(&mut self, decision: Decision, end: Option<Offset>, _now: Now) {
        self.end = end.unwrap_or(self.end);
        self.total += decision.records.iter().sum::<u64>();
        self.gone_count += usize::from(decision.records.is_empty() && decision.told.is_empty());
        self.pending.push_back((self.end, decision.told));
    }

    fn advance(&mut self, high_watermark: Offset) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some((_, more)) = self.pending.pop_front_if(|(end, _)| *end <= high_watermark) {
            told.extend(more);
        }
        told
    }

    fn pending_count(&self) -> usize {
        self.pending.len()
    }

    fn due(&mut self, _now: Now) -> Option<Command> {
        self.due.take().map(Command::Due)
    }

    fn postpone(&mut self, command: &Command, _now: Now) {
        self.postponed.push(command.clone());
    }

    fn next_deadline(&self) -> Duration {
        Duration::MAX
    }

    fn refused(_command: &Command, error: PartitionError) -> Refused<Self> {
        Refused {
            effects: vec![Told::Refused(error.code)],
            then: Some(Command::Gone),
        }
    }

    fn unheard(_effect: &Told) -> Option<Command> {
        Some(Command::Gone)
    }

    fn refusal(why: Refusal) -> PartitionError {
        match why {
            Refusal::Log(error) => error,
            Refusal::TooLarge(why) => PartitionError::new(ErrorCode::InvalidRequest, why),
            Refusal::NotHere | Refusal::Loading => PartitionError::new(ErrorCode::NotCoordinator, ""),
        }
    }
}

const NOW: Now = Now {
    monotonic: Duration::ZERO,
    wall_ms: 0,
};

fn turn() -> Turn<Sum> {
    Turn::new(Sum::default(), Offset(10), NOW)
}

fn full() -> PartitionError {
    PartitionError::new(ErrorCode::DiskFull, "full")
}

/// The next step, which must be to append these.
fn must_append(turn: &mut Turn<Sum>, wanted: &[u64], whole: bool) {
    let step = turn.next(NOW);
    let append = Step::Append {
        records: wanted,
        as_one: whole,
    };
    assert_eq!(step, Some(append));
}

/// Everything that is told before the next append.
fn told(turn: &mut Turn<Sum>) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(Step::Tell(effect)) = turn.next(NOW) {
        told.push(effect);
    }
    told
}

#[test]
fn effects_wait_for_the_high_watermark_while_the_next_command_is_worked_off() {
    let mut turn = turn();
    turn.take(Command::Add(vec![1, 2]), NOW);
    must_append(&mut turn, &[1, 2], true);
    turn.appended(2, Offset(12));
    turn.take(Command::Add(vec![4]), NOW);
    must_append(&mut turn, &[4], true);
    turn.appended(1, Offset(13));
    turn.take(Command::Ask, NOW);
    assert_eq!(
        turn.next(NOW),
        None,
        "what it asks for builds on what is not replicated"
    );
    assert!(turn.awaits_replication());
    turn.advance(Offset(12));
    assert_eq!(told(&mut turn), [Told::Sum(3)]);
    turn.advance(Offset(13));
    assert_eq!(told(&mut turn), [Told::Sum(7), Told::Sum(7)]);
    assert!(!turn.awaits_replication());
    assert_eq!((turn.high_watermark(), turn.log_end()), (Offset(13), Offset(13)));
}

#[test]
fn a_refused_decision_leaves_no_trace_and_its_giver_is_told_at_once() {
    let mut turn = turn();
    turn.take(Command::Add(vec![1]), NOW);
    must_append(&mut turn, &[1], true);
    turn.refused(full());
    assert_eq!(told(&mut turn), [Told::Refused(ErrorCode::DiskFull)]);
    assert_eq!((turn.machine().total, turn.machine().gone_count), (0, 1));
    assert!(turn.machine().postponed.is_empty());
    turn.take(Command::Add(vec![2; 3]), NOW);
    turn.too_large("three numbers".to_owned());
    assert_eq!(told(&mut turn), [Told::Refused(ErrorCode::InvalidRequest)]);
}

#[test]
fn what_was_appended_of_a_decision_stands_without_its_effects() {
    let mut turn = turn();
    turn.take(Command::AddEach(vec![1, 2, 4]), NOW);
    must_append(&mut turn, &[1, 2, 4], false);
    turn.appended(1, Offset(11));
    assert!(turn.is_appending());
    must_append(&mut turn, &[2, 4], false);
    turn.appended(1, Offset(12));
    must_append(&mut turn, &[4], false);
    turn.refused(full());
    assert_eq!(told(&mut turn), [Told::Refused(ErrorCode::DiskFull)]);
    assert_eq!((turn.machine().total, turn.machine().end), (3, Offset(12)));
    turn.take(Command::Ask, NOW);
    assert_eq!(told(&mut turn), []);
    turn.advance(Offset(12));
    assert_eq!(told(&mut turn), [Told::Sum(3)]);
}

#[test]
fn several_batches_are_one_decision() {
    let mut turn = turn();
    turn.take(Command::AddEach(vec![1, 2, 4]), NOW);
    turn.appended(2, Offset(12));
    turn.advance(Offset(12));
    must_append(&mut turn, &[4], false);
    turn.appended(1, Offset(13));
    assert_eq!(told(&mut turn), []);
    turn.advance(Offset(13));
    assert_eq!(told(&mut turn), [Told::Sum(7)]);
}

#[test]
#[should_panic(expected = "belong together")]
fn a_decision_that_may_not_be_cut_is_appended_whole() {
    let mut turn = turn();
    turn.take(Command::Add(vec![1, 2]), NOW);
    turn.appended(1, Offset(11));
}

#[test]
fn what_is_due_comes_after_what_was_given_and_is_postponed_when_refused() {
    let mut turn = turn();
    turn.machine_mut().due = Some(8);
    turn.take(Command::Add(vec![1]), NOW);
    must_append(&mut turn, &[1], true);
    turn.appended(1, Offset(11));
    assert!(!turn.is_due());
    must_append(&mut turn, &[8], true);
    assert!(turn.is_due());
    turn.refused(full());
    assert_eq!(turn.machine().postponed, [Command::Due(8)]);
    turn.advance(Offset(11));
    assert_eq!(
        told(&mut turn),
        [Told::Sum(1)],
        "nobody is told of a due command's refusal"
    );
}

#[test]
fn an_addressee_that_takes_nothing_is_followed_up() {
    let mut turn = turn();
    turn.unheard(&Told::Sum(0));
    assert_eq!(turn.next(NOW), None);
    assert_eq!(turn.machine().gone_count, 1);
}
