//! Silence, topics that come and go, and age.

use tidelog_types::ErrorCode;

use super::*;

const DAY: Duration = Duration::from_hours(24);

#[test]
fn silence_removes_a_member_after_the_session_timeout() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    bench.pass(Duration::from_secs(30));
    bench.heartbeat(2, 2);
    assert_eq!(bench.pass(Duration::from_millis(14_999)), []);
    let effects = bench.pass(Duration::from_millis(1));
    assert_eq!(refusal(&effects), Some(ErrorCode::UnknownMemberId));
    assert_eq!(effects[1..], [assign(2, 3, 3, &[p(1, 0), p(1, 1)])]);
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_removed() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    for _ in 0..2 {
        bench.pass(Duration::from_secs(29));
        bench.heartbeat(1, 1);
        bench.heartbeat(2, 2);
    }
    let effects = bench.pass(Duration::from_secs(3));
    assert!(
        matches!(&effects[0], Effect::End { stream: StreamId(1), error: Some(e) } if e.message.contains("max.poll"))
    );
    assert_eq!(effects[1..], [assign(2, 2, 3, &[p(1, 0), p(1, 1)])]);
}

#[test]
fn a_removal_that_could_not_be_written_comes_up_again() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    bench.now.monotonic += Duration::from_secs(46);
    let command = bench.coordinator.due(bench.now).unwrap();
    bench.coordinator.postpone(&command, bench.now);
    assert!(bench.coordinator.due(bench.now).is_none());
    assert_eq!(
        bench.coordinator.next_deadline(),
        bench.now.monotonic + limits::RETRY_AFTER
    );
    assert_eq!(bench.pass(limits::RETRY_AFTER).len(), 1);
}

#[test]
fn a_new_coordinator_grants_every_member_a_fresh_session() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    bench.now.monotonic += Duration::from_secs(100);
    bench.fail_over();
    bench.pass(Duration::from_secs(44));
    assert_eq!(
        bench
            .coordinator
            .latest()
            .group(&group_id())
            .unwrap()
            .member_count(),
        1
    );
    bench.pass(Duration::from_secs(2));
    assert_eq!(
        bench
            .coordinator
            .latest()
            .group(&group_id())
            .unwrap()
            .member_count(),
        0
    );
}

#[test]
fn new_topics_and_partitions_are_picked_up() {
    let mut bench = Bench::new(&[1]);
    let pattern = Subscription::new(BTreeSet::new(), Some("t.".to_owned()), AssignorName::Uniform).unwrap();
    bench.join(
        1,
        Join {
            subscription: pattern,
            ..join(1)
        },
    );
    assert_eq!(bench.set_topics(&[2]), [assign(1, 2, 2, &[p(1, 0), p(1, 1)])]);
    assert_eq!(
        bench.set_topics(&[2, 1]),
        [assign(1, 3, 3, &[p(1, 0), p(1, 1), p(2, 0)])]
    );
    assert_eq!(bench.set_topics(&[2, 1]), [], "nothing changed, nothing is told");
}

#[test]
fn a_deleted_topic_takes_its_offsets_with_it() {
    let mut bench = Bench::new(&[1, 1]);
    bench.commit(None, &[("t1", 0, 3), ("t2", 0, 4)]);
    bench.set_topics(&[1]);
    assert_eq!(
        (bench.committed(p(1, 0)), bench.committed(p(2, 0))),
        (Some(3), None)
    );
}

/// What changed topics do to members is one decision, which is appended whole; the offsets that go
/// are another, which may be cut.
#[test]
fn a_deleted_topic_moves_members_and_takes_offsets_in_two_decisions() {
    let mut bench = Bench::new(&[1, 1]);
    let both = Subscription::new([name("t1"), name("t2")].into(), None, AssignorName::Uniform).unwrap();
    bench.join(
        1,
        Join {
            subscription: both,
            ..join(1)
        },
    );
    bench.commit(Some((1, 1)), &[("t1", 0, 3), ("t2", 0, 4)]);
    bench.topics = topics(&[1]);
    bench.coordinator.set_topics(Arc::clone(&bench.topics));

    let command = bench.coordinator.due(bench.now).unwrap();
    let members = bench.coordinator.decide(&command, bench.now);
    assert!(!members.may_be_cut);
    let is_offset = |record: &Record| matches!(record, Record::Offset { .. });
    assert!(!members.records.is_empty() && !members.records.iter().any(is_offset));
    bench.run(command);

    let command = bench.coordinator.due(bench.now).expect("the group is still due");
    let offsets = bench.coordinator.decide(&command, bench.now);
    assert!(offsets.may_be_cut);
    let gone = Record::Offset {
        group: group_id(),
        partition: p(2, 0),
        value: None,
    };
    assert_eq!((offsets.records, offsets.effects), (vec![gone], vec![]));
    bench.run(command);
    assert!(bench.coordinator.due(bench.now).is_none());
}

#[test]
fn only_removals_of_offsets_and_groups_may_be_cut() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    let may_be_cut = |bench: &Bench, command| {
        let decision = bench.coordinator.decide(&command, bench.now);
        assert!(!decision.records.is_empty());
        decision.may_be_cut
    };
    let join = Command::Join {
        stream: StreamId(2),
        join: Box::new(join(2)),
    };
    assert!(!may_be_cut(&bench, join));
    let expire = Command::Expire {
        group: group_id(),
        members: vec![member_id(1)],
    };
    assert!(!may_be_cut(&bench, expire));
    let commit = Command::Commit {
        request: RequestId(1),
        group: group_id(),
        member: Some((member_id(1), MemberEpoch(1))),
        offsets: vec![to_commit("t1", None, 0, 3)],
    };
    assert!(!may_be_cut(&bench, commit));

    bench.commit(Some((1, 1)), &[("t1", 0, 3)]);
    bench.pass(Duration::from_secs(46));
    let delete = Command::Delete {
        request: RequestId(2),
        group: group_id(),
    };
    assert!(may_be_cut(&bench, delete));
    bench.now.wall_ms += 8 * DAY.as_millis() as i64;
    let expire_offsets = Command::ExpireOffsets { group: group_id() };
    assert!(may_be_cut(&bench, expire_offsets));
}

#[test]
fn offsets_expire_a_week_after_the_group_became_empty() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    bench.commit(Some((1, 1)), &[("t1", 0, 3)]);
    for _ in 0..(10 * 24 * 60 * 2) {
        bench.now.monotonic += Duration::from_secs(30);
        bench.now.wall_ms += 30_000;
        bench.heartbeat(1, 1);
    }
    assert_eq!(bench.pass(Duration::ZERO), []);
    assert_eq!(
        bench.committed(p(1, 0)),
        Some(3),
        "a group with members keeps its offsets"
    );
    bench.run(Command::Leave {
        stream: StreamId(1),
        keep_instance: false,
    });
    bench.pass(DAY * 6);
    bench.fail_over();
    bench.pass(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(
        bench.committed(p(1, 0)),
        Some(3),
        "the moment is persisted: another coordinator counts on"
    );
    bench.pass(Duration::from_secs(601));
    assert_eq!(bench.coordinator.committed(), &State::default());
}

#[test]
fn a_commit_without_members_lives_a_week_by_itself() {
    let mut bench = Bench::new(&[2]);
    bench.commit(None, &[("t1", 0, 3)]);
    bench.pass(DAY * 6);
    bench.commit(None, &[("t1", 1, 3)]);
    bench.pass(DAY * 2);
    assert_eq!(
        (bench.committed(p(1, 0)), bench.committed(p(1, 1))),
        (None, Some(3))
    );
}
