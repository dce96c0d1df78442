//! Joining, reconciling, resuming, leaving.

use tidelog_types::ErrorCode;

use super::*;

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut bench = Bench::new(&[3]);
    let effects = bench.join(1, join(1));
    assert_eq!(
        effects,
        [joined(1, 1, 1), assign(1, 1, 1, &[p(1, 0), p(1, 1), p(1, 2)])]
    );
}

/// G14: revoke, acknowledge, assign, in this order.
#[test]
fn a_partition_moves_only_after_its_owner_gave_it_up() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    let effects = bench.join(2, join(2));
    assert_eq!(
        effects,
        [joined(2, 2, 2), assign(1, 2, 1, &[p(1, 0)]), assign(2, 1, 2, &[])]
    );
    // Still at its old epoch, so that it may commit what it gives up.
    assert_eq!(bench.commit(Some((1, 1)), &[("t1", 1, 7)]).len(), 1);
    assert_eq!(bench.committed(p(1, 1)), Some(7));

    let effects = bench.revoked(1, 2, &[p(1, 0)]);
    assert_eq!(
        effects,
        [assign(1, 3, 2, &[p(1, 0)]), assign(2, 2, 2, &[p(1, 1)])]
    );
    assert_eq!(
        bench.coordinator.describe(&group_id()).unwrap().phase,
        GroupPhase::Stable
    );
}

#[test]
fn an_acknowledgement_of_an_older_assignment_frees_nothing() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    // Version 1 gave it both partitions: that it says it owns nothing of them is no proof that it
    // will not.
    assert_eq!(bench.revoked(1, 1, &[]), []);
    let owner = bench
        .coordinator
        .committed()
        .group(&group_id())
        .unwrap()
        .owner(p(1, 1))
        .cloned();
    assert_eq!(owner, Some(member_id(1)));
}

#[test]
fn an_acknowledgement_that_still_owns_it_frees_nothing() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    assert_eq!(bench.revoked(1, 2, &[p(1, 0), p(1, 1)]), []);
}

#[test]
fn nothing_is_told_before_it_is_replicated() {
    let mut bench = Bench::new(&[2]);
    bench.hold = true;
    assert_eq!(bench.join(1, join(1)), []);
    // An answer that rests on what is not replicated waits with it, though it writes nothing
    // itself.
    assert_eq!(bench.heartbeat(1, 1), []);
    assert!(bench.coordinator.describe(&group_id()).is_err());
    let effects = bench.replicate();
    assert_eq!(effects.len(), 3);
    assert_eq!(effects[0], joined(1, 1, 1));
    assert!(bench.coordinator.describe(&group_id()).is_ok());
}

#[test]
fn a_leave_gives_the_rest_to_the_others_at_once() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    let effects = bench.run(Command::Leave {
        stream: StreamId(1),
        keep_instance: false,
    });
    assert_eq!(
        effects,
        [
            Effect::End {
                stream: StreamId(1),
                error: None
            },
            assign(2, 3, 3, &[p(1, 0), p(1, 1)])
        ]
    );
}

#[test]
fn a_broken_stream_is_resumed_with_the_same_assignment() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    assert_eq!(bench.run(Command::Disconnected { stream: StreamId(1) }), []);
    let owned = set(&[p(1, 0), p(1, 1)]);
    let effects = bench.join(
        5,
        Join {
            epoch: MemberEpoch(1),
            owned,
            ..join(1)
        },
    );
    assert_eq!(effects, [joined(5, 1, 1), assign(5, 1, 1, &[p(1, 0), p(1, 1)])]);
}

#[test]
fn a_newer_stream_replaces_the_older() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    let effects = bench.join(
        2,
        Join {
            epoch: MemberEpoch(1),
            ..join(1)
        },
    );
    assert_eq!(refusal(&effects), Some(ErrorCode::FencedMemberEpoch));
    assert!(matches!(
        &effects[0],
        Effect::End {
            stream: StreamId(1),
            ..
        }
    ));
    assert_eq!(bench.heartbeat(1, 1), [], "the older stream has no say any more");
    assert_eq!(bench.heartbeat(2, 1).len(), 1);
}

#[test]
fn the_previous_epoch_resumes_only_with_what_is_still_assigned() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    // The member is at epoch 2 now, and says 1: only the push of 2 was lost.
    let with = |owned: &[TopicIdPartition], epoch| Join {
        epoch: MemberEpoch(epoch),
        owned: set(owned),
        ..join(1)
    };
    assert_eq!(
        refusal(&bench.join(7, with(&[p(1, 0), p(1, 1)], 1))),
        Some(ErrorCode::FencedMemberEpoch)
    );
    assert_eq!(
        refusal(&bench.join(7, with(&[p(1, 0)], 3))),
        Some(ErrorCode::FencedMemberEpoch)
    );
    let effects = bench.join(7, with(&[p(1, 0)], 1));
    assert_eq!(effects[1..], [joined(7, 1, 2), assign(7, 1, 2, &[p(1, 0)])]);
}

#[test]
fn a_resuming_member_that_gave_up_meanwhile_needs_no_acknowledgement() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.run(Command::Disconnected { stream: StreamId(1) });
    bench.join(2, join(2));
    let effects = bench.join(
        3,
        Join {
            epoch: MemberEpoch(1),
            owned: set(&[p(1, 0)]),
            ..join(1)
        },
    );
    assert_eq!(
        effects,
        [
            joined(3, 1, 2),
            assign(3, 1, 2, &[p(1, 0)]),
            assign(2, 2, 2, &[p(1, 1)])
        ]
    );
}

#[test]
fn a_member_that_starts_over_gets_a_new_epoch() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    bench.run(Command::Disconnected { stream: StreamId(1) });
    assert_eq!(
        bench.join(2, join(1)),
        [joined(2, 1, 2), assign(2, 1, 2, &[p(1, 0)])]
    );
    assert_eq!(
        refusal(&bench.commit(Some((1, 1)), &[("t1", 0, 1)])),
        Some(ErrorCode::StaleMemberEpoch)
    );
}

#[test]
fn an_unknown_member_cannot_resume() {
    let mut bench = Bench::new(&[1]);
    let effects = bench.join(
        1,
        Join {
            epoch: MemberEpoch(3),
            ..join(1)
        },
    );
    assert_eq!(refusal(&effects), Some(ErrorCode::UnknownMemberId));
    assert_eq!(bench.log, [], "a refusal leaves no trace");
}

#[test]
fn a_heartbeat_of_a_future_epoch_is_fenced() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    assert_eq!(
        refusal(&bench.heartbeat(1, 9)),
        Some(ErrorCode::FencedMemberEpoch)
    );
}

fn static_join(member: u8) -> Join {
    Join {
        instance_id: Some("i".parse().unwrap()),
        ..join(member)
    }
}

#[test]
fn a_static_name_is_released_when_its_stream_is_broken() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, static_join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    assert_eq!(
        refusal(&bench.join(3, static_join(3))),
        Some(ErrorCode::UnreleasedInstanceId)
    );

    bench.run(Command::Disconnected { stream: StreamId(1) });
    let effects = bench.join(4, static_join(3));
    assert_eq!(
        effects,
        [joined(4, 3, 2), assign(4, 1, 2, &[p(1, 0)])],
        "and the other member notices nothing"
    );
    // The one that was replaced.
    let back = Join {
        epoch: MemberEpoch(2),
        ..static_join(1)
    };
    assert_eq!(refusal(&bench.join(5, back)), Some(ErrorCode::FencedInstanceId));
    assert_eq!(
        refusal(&bench.commit(Some((1, 2)), &[("t1", 0, 1)])),
        Some(ErrorCode::UnknownMemberId)
    );
}

/// It is a member already, by a member id and without a name: starting over it asks for one.
#[test]
fn a_member_that_starts_over_takes_no_name_from_one_that_is_connected() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, static_join(1));
    bench.join(2, join(2));
    let before = bench.log.clone();
    let effects = bench.join(3, static_join(2));
    assert_eq!(refusal(&effects), Some(ErrorCode::UnreleasedInstanceId));
    assert_eq!(bench.log, before, "a refusal leaves no trace");

    // Under its own name, or none, it starts over as before.
    bench.run(Command::Disconnected { stream: StreamId(1) });
    assert!(bench.join(4, static_join(1)).contains(&joined(4, 1, 3)));
    assert!(bench.join(5, join(2)).contains(&joined(5, 2, 4)));
}

#[test]
fn a_member_that_starts_over_under_a_released_name_puts_its_holder_out() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, static_join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    bench.run(Command::Disconnected { stream: StreamId(1) });
    assert!(bench.join(3, static_join(2)).contains(&joined(3, 2, 3)));
    let group = bench.coordinator.latest().group(&group_id()).unwrap();
    assert!(group.has_single_instances());
    assert_eq!(group.instance(&"i".parse().unwrap()), Some(&member_id(2)));
    assert_eq!(*group.current(&member_id(2)).assigned, set(&[p(1, 0), p(1, 1)]));
    let back = Join {
        epoch: MemberEpoch(2),
        ..static_join(1)
    };
    assert_eq!(refusal(&bench.join(4, back)), Some(ErrorCode::FencedInstanceId));
}

#[test]
fn a_static_member_that_will_be_back_keeps_its_partitions_until_its_session_ends() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, static_join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    let effects = bench.run(Command::Leave {
        stream: StreamId(1),
        keep_instance: true,
    });
    assert_eq!(
        effects,
        [Effect::End {
            stream: StreamId(1),
            error: None
        }]
    );
    bench.pass(Duration::from_secs(40));
    bench.heartbeat(2, 2);
    assert_eq!(
        bench.pass(Duration::from_secs(6)),
        [assign(2, 3, 3, &[p(1, 0), p(1, 1)])]
    );
}

#[test]
fn a_changed_subscription_is_reconciled() {
    let mut bench = Bench::new(&[1, 2]);
    bench.join(1, join(1));
    let subscription = subscription(&["t2", "missing"]);
    let effects = bench.run(Command::Subscribe {
        stream: StreamId(1),
        subscription,
    });
    let expected = Effect::Assign {
        stream: StreamId(1),
        version: AssignmentVersion(2),
        epoch: MemberEpoch(1),
        partitions: Arc::default(),
        unknown_topics: vec![name("missing")],
    };
    assert_eq!(effects, [expected]);
    let effects = bench.revoked(1, 2, &[]);
    assert!(
        matches!(&effects[..], [Effect::Assign { partitions, .. }] if **partitions == set(&[p(2, 0), p(2, 1)]))
    );
}

#[test]
fn a_full_group_refuses_the_next_member() {
    let mut bench = Bench::new(&[1]);
    let config = GroupConfig {
        max_members: 2,
        ..GroupConfig::default()
    };
    bench.coordinator = Coordinator::new(config, topics(&[1]));
    bench.join(1, join(1));
    bench.join(2, join(2));
    assert_eq!(
        refusal(&bench.join(3, join(3))),
        Some(ErrorCode::GroupMaxSizeReached)
    );
}

#[test]
fn another_coordinator_goes_on_where_the_last_one_stood() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.fail_over();
    let owned = set(&[p(1, 0)]);
    let effects = bench.join(
        1,
        Join {
            epoch: MemberEpoch(1),
            owned,
            ..join(1)
        },
    );
    assert_eq!(effects, [joined(1, 1, 2), assign(1, 1, 2, &[p(1, 0)])]);
    let effects = bench.join(
        2,
        Join {
            epoch: MemberEpoch(2),
            ..join(2)
        },
    );
    assert_eq!(effects, [joined(2, 2, 2), assign(2, 1, 2, &[p(1, 1)])]);
}

#[test]
fn a_compacted_log_may_bring_a_members_target_before_the_member() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.commit(Some((2, 2)), &[("t1", 0, 1)]);
    // Of each key only the newest record, in any order, makes the same state.
    let mut newest: Vec<Record> = Vec::new();
    let key = |record: &Record| match record {
        Record::Group { .. } => "g".to_owned(),
        Record::Member { member, .. } => format!("m{member}"),
        Record::Target { member, .. } => format!("t{member}"),
        Record::Current { member, .. } => format!("c{member}"),
        Record::Offset { partition, .. } => format!("o{partition}"),
    };
    for (record, _) in &bench.log {
        newest.retain(|earlier| key(earlier) != key(record));
        newest.push(record.clone());
    }
    for order in [newest.clone(), newest.into_iter().rev().collect()] {
        let mut state = State::default();
        for record in &order {
            state.replay(record);
        }
        assert_eq!(&state, bench.coordinator.committed());
    }
}
