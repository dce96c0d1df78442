use super::Dial::{Connected, Refused};
use super::*;
use crate::testing::{image, incarnation};

const TIMEOUT: Duration = Duration::from_secs(6);
/// The leader itself is broker 1.
const ME: u32 = 1;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn two() -> BrokerIncarnation {
    incarnation(2, 5)
}

fn duties(brokers: &[(BrokerIncarnation, bool)]) -> Duties {
    Duties::begin(BrokerId::new(ME).unwrap(), TIMEOUT, &image(9, brokers), ms(0))
}

/// A leader that has heard broker 2.
fn calm() -> Duties {
    let mut duties = duties(&[(incarnation(ME, 4), false), (two(), false)]);
    duties.heard(two(), ms(0));
    assert_eq!(duties.advance(ms(0)), None);
    duties
}

/// The dial that is due, of this broker.
fn dial(duties: &mut Duties, broker: BrokerIncarnation, now: Duration) -> DialOf {
    match duties.advance(now) {
        Some(Duty::Dial(dial)) if dial.broker == broker => dial,
        other => panic!("{other:?} at {now:?}"),
    }
}

fn fence(ground: Ground) -> Duty {
    Duty::Fence(two(), ground)
}

/// Dials until the verdict; when it fell.
fn refused_from(duties: &mut Duties, mut now: Duration) -> Duration {
    for _ in 0..REFUSALS_TO_FENCE {
        let dial = dial(duties, two(), now);
        duties.dialled(dial, Refused, now);
        now = duties.next_wake().unwrap().max(now);
    }
    now
}

#[test]
fn a_new_leader_dials_everybody_else_until_they_are_heard() {
    let three = incarnation(3, 6);
    let mut duties = duties(&[(incarnation(ME, 4), false), (two(), false), (three, false)]);
    dial(&mut duties, two(), ms(0));
    dial(&mut duties, three, ms(0));
    assert_eq!(duties.advance(ms(0)), None);
    duties.heard(two(), ms(1));
    duties.heard(three, ms(1));
    assert_eq!(duties.advance(ms(1_000)), None);
    assert_eq!(duties.next_wake(), Some(TIMEOUT), "of its own session");
}

#[test]
fn three_refused_dials_of_a_suspect_fence_it_and_a_fencing_that_failed_is_made_again() {
    let mut duties = calm();
    duties.broken(two(), ms(100));
    // That it broke twice makes no second suspect.
    duties.broken(two(), ms(100));
    let now = refused_from(&mut duties, ms(100));
    assert!(now <= ms(100) + REFUSAL_WINDOW, "{now:?}");
    assert_eq!(duties.advance(now), Some(fence(Ground::Refuses)));
    assert_eq!(duties.advance(now + ms(1_000)), None, "it is under way");
    duties.fencing_ended(two(), Ground::Refuses, now + ms(1_000));
    let again = duties.next_wake().unwrap();
    assert_eq!(again, now + ms(1_000) + DIAL_AGAIN);
    let now = refused_from(&mut duties, again);
    assert_eq!(duties.advance(now), Some(fence(Ground::Refuses)));
    duties.follow(&image(10, &[(two(), true)]), now);
    duties.fencing_ended(two(), Ground::Refuses, now);
    assert_eq!(
        (duties.advance(now + ms(9_000)), duties.next_wake()),
        (None, None)
    );
}

#[test]
fn a_dial_that_connects_proves_nothing_and_one_without_an_answer_neither() {
    let mut duties = calm();
    duties.broken(two(), ms(0));
    let first = dial(&mut duties, two(), ms(0));
    duties.dialled(first, Connected, ms(1));
    assert_eq!(duties.advance(ms(100)), None);
    let second = dial(&mut duties, two(), ms(1) + DIAL_AGAIN);
    let late = ms(1) + DIAL_AGAIN + DIAL_TIMEOUT;
    assert_eq!(duties.next_wake(), Some(late));
    assert_eq!(duties.advance(late), None);
    // What answers now was given up, and counts for no later dial.
    let third = dial(&mut duties, two(), late + DIAL_AGAIN);
    duties.dialled(second, Refused, late + DIAL_AGAIN);
    assert_eq!(duties.next_wake(), Some(late + DIAL_AGAIN + DIAL_TIMEOUT));
    duties.dialled(third, Refused, late + DIAL_AGAIN);
    let now = refused_once_more(&mut duties, late + DIAL_AGAIN);
    assert_eq!(duties.advance(now), None, "two refusals are not three");
}

fn refused_once_more(duties: &mut Duties, after: Duration) -> Duration {
    let now = duties.next_wake().unwrap();
    assert!(now > after);
    let dial = dial(duties, two(), now);
    duties.dialled(dial, Refused, now);
    now
}

#[test]
fn silence_for_a_session_fences_and_is_proposed_again_while_it_lasts() {
    let mut duties = calm();
    duties.heard(incarnation(ME, 4), ms(5_000));
    assert_eq!(duties.advance(ms(5_999)), None);
    assert_eq!(duties.advance(TIMEOUT), Some(fence(Ground::Silent)));
    assert_eq!(duties.advance(TIMEOUT + ms(3_000)), None, "it is under way");
    assert_eq!(duties.next_wake(), Some(ms(5_000) + TIMEOUT));
    duties.fencing_ended(two(), Ground::Silent, ms(9_000));
    assert_eq!(duties.next_wake(), Some(ms(9_000) + RETRY));
    assert_eq!(duties.advance(ms(9_000) + RETRY), Some(fence(Ground::Silent)));
    // It is heard before the second proposal fails as well.
    duties.heard(two(), ms(9_500));
    duties.fencing_ended(two(), Ground::Silent, ms(9_600));
    duties.heard(incarnation(ME, 4), ms(9_500));
    assert_eq!(duties.advance(ms(15_499)), None);
    assert_eq!(
        duties.advance(ms(15_500)),
        Some(Duty::Fence(incarnation(ME, 4), Ground::Silent))
    );
}

#[test]
fn who_is_unfenced_and_was_never_heard_here_is_a_suspect() {
    let mut duties = duties(&[(incarnation(ME, 4), false), (two(), true)]);
    assert_eq!(duties.advance(ms(0)), None);
    // The entry that unfenced it was proposed by the leader before, and is applied only now.
    duties.follow(&image(10, &[(incarnation(ME, 4), false), (two(), false)]), ms(50));
    dial(&mut duties, two(), ms(50));
}

#[test]
fn who_was_heard_before_it_was_unfenced_is_no_suspect_unless_its_stream_broke_since() {
    for breaks in [false, true] {
        let mut duties = duties(&[(incarnation(ME, 4), false), (two(), true)]);
        duties.heard(two(), ms(10));
        if breaks {
            duties.broken(two(), ms(20));
            assert_eq!(duties.advance(ms(20)), None, "it is fenced, and nobody's concern");
        }
        duties.follow(&image(10, &[(incarnation(ME, 4), false), (two(), false)]), ms(50));
        assert_eq!(duties.advance(ms(50)).is_some(), breaks);
    }
}

#[test]
fn a_new_registration_is_another_broker() {
    let mut duties = calm();
    let anew = incarnation(2, 20);
    duties.broken(two(), ms(100));
    duties.follow(&image(20, &[(anew, false)]), ms(100));
    dial(&mut duties, anew, ms(100));
    assert_eq!(duties.advance(ms(100)), None);
    duties.heard(two(), ms(200));
    assert_eq!(
        duties.next_wake(),
        Some(ms(100) + DIAL_TIMEOUT),
        "a word of the old one clears nothing"
    );
}
