use super::*;
use crate::testing;

const TIMEOUT: Duration = Duration::from_secs(6);
const EPOCH: BrokerEpoch = BrokerEpoch(7);

fn me() -> BrokerId {
    BrokerId::new(1).unwrap()
}

fn incarnation() -> BrokerIncarnation {
    BrokerIncarnation {
        broker: me(),
        epoch: EPOCH,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The metadata up to an index, with this broker in them.
fn image(index: u64, epoch: BrokerEpoch, fenced: bool) -> ClusterImage {
    let known = BrokerIncarnation {
        epoch,
        ..incarnation()
    };
    testing::image(index, &[(known, fenced)])
}

fn answer(stale_epoch: bool, fenced: bool) -> HeartbeatAnswer {
    HeartbeatAnswer { stale_epoch, fenced }
}

/// Registered at index 7, and not unfenced yet.
fn registered() -> BrokerSession {
    let mut session = BrokerSession::new(me(), TIMEOUT);
    assert_eq!(
        session.advance(ms(0), &ClusterImage::default()),
        Some(Step::Register)
    );
    session.registered(EPOCH, MetadataIndex(7), ms(0));
    session
}

/// Unfenced at index 9, which this broker has applied.
fn serving() -> BrokerSession {
    let mut session = registered();
    let caught_up = image(7, EPOCH, true);
    assert_eq!(
        session.advance(ms(1), &caught_up),
        Some(Step::Unfence(incarnation()))
    );
    session.unfenced(incarnation(), MetadataIndex(9));
    assert_eq!(session.heartbeat_answered(ms(1), answer(false, false)), None);
    assert_eq!(session.advance(ms(2), &image(9, EPOCH, false)), None);
    assert!(session.is_unfenced());
    session
}

fn lost(why: Loss) -> Step {
    Step::Lost { epoch: EPOCH, why }
}

#[test]
fn one_registration_is_proposed_at_a_time_and_again_after_a_pause() {
    let mut session = BrokerSession::new(me(), TIMEOUT);
    let empty = ClusterImage::default();
    assert_eq!(session.advance(ms(0), &empty), Some(Step::Register));
    assert_eq!(session.advance(ms(1), &empty), None);
    assert_eq!(session.next_wake(), None, "the proposal ends by itself");
    session.not_registered(ms(50));
    assert_eq!(session.next_wake(), Some(ms(150)));
    assert_eq!(session.advance(ms(149), &empty), None);
    // Another leader may take it at once.
    session.leader_changed();
    assert_eq!(session.advance(ms(149), &empty), Some(Step::Register));
}

#[test]
fn it_asks_to_be_unfenced_when_it_has_caught_up_with_its_registration() {
    let mut session = registered();
    assert_eq!(session.advance(ms(1), &image(6, EPOCH, true)), None);
    let caught_up = image(7, EPOCH, true);
    assert_eq!(
        session.advance(ms(2), &caught_up),
        Some(Step::Unfence(incarnation()))
    );
    assert_eq!(session.advance(ms(3), &caught_up), None, "once");
    session.unfencing_failed(incarnation(), ms(10));
    assert_eq!(session.next_wake(), Some(ms(110)));
    assert_eq!(
        session.advance(ms(110), &caught_up),
        Some(Step::Unfence(incarnation()))
    );
    assert!(!session.is_unfenced());
    assert_eq!(
        session.unfencing_refused(incarnation()),
        Some(lost(Loss::NotUnfenced))
    );
    assert_eq!(session.advance(ms(111), &caught_up), Some(Step::Register));
}

#[test]
fn it_serves_for_a_session_from_when_an_answered_heartbeat_was_sent() {
    let mut session = serving();
    assert_eq!(session.serves_until(), ms(6_001));
    let image = image(9, EPOCH, false);
    session.heartbeat_answered(ms(2_000), answer(false, false));
    assert_eq!(session.serves_until(), ms(8_000));
    assert_eq!(session.next_wake(), Some(ms(8_000)));
    assert_eq!(session.advance(ms(7_999), &image), None);
    assert_eq!(session.advance(ms(8_000), &image), Some(lost(Loss::Silence)));
    assert_eq!((session.epoch(), session.serves_until()), (None, ms(0)));
    // An answer that comes late is to a registration that is over.
    assert_eq!(session.heartbeat_answered(ms(7_000), answer(false, false)), None);
    assert_eq!(session.serves_until(), ms(0));
    assert_eq!(session.advance(ms(8_000), &image), Some(Step::Register));
}

#[test]
fn an_image_without_it_ends_it_once_it_was_unfenced() {
    // A registration that is not unfenced yet is fenced, and lasts.
    let mut session = registered();
    assert_eq!(session.advance(ms(1), &image(6, EPOCH, true)), None);
    assert_eq!(
        serving().advance(ms(3), &image(10, EPOCH, true)),
        Some(lost(Loss::Fenced))
    );
    // The image that had it unfenced may have been skipped.
    let mut session = registered();
    session.advance(ms(1), &image(7, EPOCH, true));
    session.unfenced(incarnation(), MetadataIndex(9));
    assert_eq!(session.advance(ms(2), &image(8, EPOCH, true)), None);
    assert_eq!(
        session.advance(ms(3), &image(12, EPOCH, true)),
        Some(lost(Loss::Fenced))
    );
}

#[test]
fn a_newer_registration_ends_it_whoever_tells_of_it() {
    let newer = image(12, BrokerEpoch(12), false);
    assert_eq!(serving().advance(ms(3), &newer), Some(lost(Loss::RegisteredAnew)));
    let told = serving().heartbeat_answered(ms(3), answer(true, true));
    assert_eq!(told, Some(lost(Loss::RegisteredAnew)));
}

#[test]
fn a_leader_that_has_it_fenced_prolongs_nothing_unless_it_merely_lags_behind() {
    let mut session = serving();
    session.heartbeat_answered(ms(3_000), answer(false, true));
    assert_eq!(session.serves_until(), ms(6_001), "the leader knows better");
    let mut session = registered();
    session.heartbeat_answered(ms(3_000), answer(false, true));
    assert_eq!(session.serves_until(), ms(9_000), "it is not unfenced yet");
}

#[test]
fn an_answer_about_an_earlier_registration_changes_nothing() {
    let mut session = registered();
    let earlier = BrokerIncarnation {
        epoch: BrokerEpoch(6),
        ..incarnation()
    };
    let caught_up = image(7, EPOCH, true);
    assert_eq!(
        session.advance(ms(1), &caught_up),
        Some(Step::Unfence(incarnation()))
    );
    assert_eq!(session.unfencing_refused(earlier), None);
    // Had they counted, it would retry by then, and take the image for one of a later fencing.
    session.unfencing_failed(earlier, ms(2));
    session.unfenced(earlier, MetadataIndex(8));
    assert_eq!(session.advance(ms(2) + RETRY, &image(8, EPOCH, true)), None);
    assert_eq!(session.epoch(), Some(EPOCH));
}
