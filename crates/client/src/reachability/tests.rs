use super::*;

struct Run {
    state: Reachability,
    began: Instant,
}

impl Run {
    fn new() -> Self {
        Self {
            state: Reachability::default(),
            began: Instant::now(),
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.began + Duration::from_secs(seconds)
    }

    /// A call that failed in the second in which it began.
    fn failed(&mut self, address: &str, seconds: u64) -> Vec<String> {
        let at = self.at(seconds);
        told(&self.state.failed(&address.into(), "refused", at, at))
    }

    fn answered(&mut self, address: &str, seconds: u64) -> Vec<String> {
        let at = self.at(seconds);
        told(&self.state.answered(&address.into(), at))
    }
}

fn told(notices: &[Notice]) -> Vec<String> {
    notices.iter().map(ToString::to_string).collect()
}

fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

#[test]
fn each_change_is_told_once_with_broker_address_and_cause() {
    let mut run = Run::new();
    run.state
        .advertised([(broker(1), "one:1"), (broker(2), "nowhere:2")]);
    assert!(run.answered("one:1", 0).is_empty());
    assert_eq!(
        run.failed("nowhere:2", 1),
        [
            "broker 2 cannot be reached at nowhere:2, the address that it advertises: refused; it is tried again"
        ]
    );
    assert!(run.failed("nowhere:2", 2).is_empty());
    assert_eq!(
        run.failed("one:1", 3),
        [
            "broker 1 does not answer any more at one:1, the address that it advertises: refused; it is tried again"
        ]
    );
    assert!(run.failed("one:1", 4).is_empty());
    assert_eq!(
        run.answered("one:1", 9),
        ["broker 1 answers at one:1, after 6.0 s in which it did not"]
    );
    assert!(run.answered("one:1", 10).is_empty());
    assert_eq!(
        run.failed("bootstrap:1", 11),
        ["a broker cannot be reached at bootstrap:1: refused; it is tried again"]
    );
}

#[test]
fn an_address_that_comes_and_goes_is_told_within_bounds() {
    let mut run = Run::new();
    let mut lines = 0;
    for second in 0..100 {
        lines += run.failed("one:1", second).len();
        lines += run.answered("one:1", second).len();
        let _ = run.answered("other:1", second);
    }
    assert_eq!(lines, 20, "lost and back, once in ten seconds");
    // What stays away is told when its time has come.
    assert_eq!(run.failed("one:1", 99).len(), 0);
    assert_eq!(run.failed("one:1", 100).len(), 1);
}

#[test]
fn that_nobody_answers_is_told_once_a_minute() {
    let mut run = Run::new();
    run.answered("one:1", 0);
    let mut lines = Vec::new();
    for second in 5..=185 {
        lines.extend(run.failed("one:1", second));
        lines.extend(run.failed("two:1", second));
    }
    let silences: Vec<_> = lines.iter().filter(|line| line.contains("no broker")).collect();
    assert_eq!(
        silences,
        [
            "no broker has answered for 60 s: one:1: refused; two:1: refused",
            "no broker has answered for 120 s: one:1: refused; two:1: refused",
            "no broker has answered for 180 s: one:1: refused; two:1: refused",
        ]
    );
    assert_eq!(lines.len(), 3 + 2);
    assert_eq!(run.answered("two:1", 190).len(), 1);
    assert!(run.failed("one:1", 249).is_empty(), "one answers");
}

#[test]
fn a_slow_call_does_not_speak_against_a_broker_that_answered_another() {
    let mut run = Run::new();
    run.answered("one:1", 8);
    let (began, now) = (run.at(5), run.at(10));
    assert!(run.state.failed(&"one:1".into(), "slow", began, now).is_empty());
    let (began, now) = (run.at(9), run.at(14));
    assert_eq!(run.state.failed(&"one:1".into(), "slow", began, now).len(), 1);
}

#[test]
fn addresses_are_forgotten_beyond_a_bound() {
    let mut run = Run::new();
    for number in 0..2 * MAX_ADDRESSES {
        run.answered(&format!("a:{number}"), number as u64);
        run.state
            .advertised([(broker(1), format!("a:{number}").as_str())]);
    }
    assert_eq!(run.state.by_address.len(), MAX_ADDRESSES);
    assert!(run.state.brokers.len() <= MAX_ADDRESSES);
    let newest = format!("a:{}", 2 * MAX_ADDRESSES - 1);
    assert!(run.state.by_address.contains_key(newest.as_str()));
}
