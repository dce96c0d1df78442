//! G12, G13: committing and reading offsets.

use tidelog_types::ErrorCode;

use super::*;

#[test]
fn a_commit_is_read_back_once_it_is_replicated() {
    let mut bench = Bench::new(&[1]);
    bench.join(1, join(1));
    bench.hold = true;
    assert_eq!(bench.commit(Some((1, 1)), &[("t1", 0, 5)]), []);
    assert_eq!(bench.committed(p(1, 0)), None);
    let effects = bench.replicate();
    let committed = Reply::Committed(Ok(Vec::new()));
    assert_eq!(
        effects,
        [Effect::Reply {
            request: RequestId(1),
            reply: committed
        }]
    );
    assert_eq!(bench.committed(p(1, 0)), Some(5));
}

#[test]
fn commits_are_fenced_by_member_epoch() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.run(Command::Leave {
        stream: StreamId(1),
        keep_instance: false,
    });
    bench.join(2, join(2));
    let code = |effects: Vec<Effect>| refusal(&effects);
    assert_eq!(
        code(bench.commit(Some((1, 1)), &[("t1", 0, 1)])),
        Some(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        code(bench.commit(Some((2, 2)), &[("t1", 0, 1)])),
        Some(ErrorCode::StaleMemberEpoch)
    );
    assert_eq!(
        code(bench.commit(Some((2, 4)), &[("t1", 0, 1)])),
        Some(ErrorCode::FencedMemberEpoch)
    );
    assert_eq!(
        code(bench.commit(None, &[("t1", 0, 1)])),
        Some(ErrorCode::UnknownMemberId)
    );
    assert_eq!(code(bench.commit(Some((2, 3)), &[("t1", 0, 1)])), None);
    assert_eq!(bench.committed(p(1, 0)), Some(1));
}

#[test]
fn a_member_cannot_move_the_offset_of_anothers_partition() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.join(2, join(2));
    bench.revoked(1, 2, &[p(1, 0)]);
    let effects = bench.commit(Some((1, 2)), &[("t1", 0, 3), ("t1", 1, 3)]);
    assert_eq!(refusal(&effects), Some(ErrorCode::FencedMemberEpoch));
    assert_eq!(
        (bench.committed(p(1, 0)), bench.committed(p(1, 1))),
        (Some(3), None)
    );
}

#[test]
fn a_commit_for_a_topic_never_lands_on_another_that_was_made_under_its_name() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.recreate(7, 2);
    // The member read the old topic up to 5, and its commit comes before the new assignment reached
    // it.
    for partition in [0, 1] {
        let late = to_commit("t1", Some(1), partition, 5);
        let refused = bench.commit_all(Some((1, 1)), vec![late]);
        assert_eq!(refusal(&refused), Some(ErrorCode::UnknownTopicId));
    }
    let epoch = bench
        .coordinator
        .latest()
        .group(&group_id())
        .unwrap()
        .member_epoch(&member_id(1))
        .0;
    for id in [Some(1), Some(8)] {
        let late = to_commit("t1", id, 0, 5);
        let refused = bench.commit_all(Some((1, epoch)), vec![late.clone()]);
        assert_eq!(refusal(&refused), Some(ErrorCode::UnknownTopicId));
    }
    assert_eq!(bench.committed(p(7, 0)), None);
    let right = to_commit("t1", Some(7), 0, 3);
    assert_eq!(refusal(&bench.commit_all(Some((1, epoch)), vec![right])), None);
    assert_eq!(bench.committed(p(7, 0)), Some(3));
}

#[test]
fn a_commit_for_a_topic_that_is_gone_says_so_whoever_commits() {
    let mut bench = Bench::new(&[1]);
    let gone = to_commit("t9", Some(9), 0, 5);
    assert_eq!(
        refusal(&bench.commit_all(None, vec![gone.clone()])),
        Some(ErrorCode::UnknownTopicId)
    );
    bench.join(1, join(1));
    assert_eq!(
        refusal(&bench.commit_all(Some((1, 1)), vec![gone])),
        Some(ErrorCode::UnknownTopicId)
    );
}

#[test]
fn without_the_topics_id_a_member_commits_only_what_somebody_owns() {
    let mut bench = Bench::new(&[1, 1]);
    bench.join(1, join(1));
    // It owns t1-0; nobody reads t2.
    assert_eq!(refusal(&bench.commit(Some((1, 1)), &[("t1", 0, 3)])), None);
    assert_eq!(
        refusal(&bench.commit(Some((1, 1)), &[("t2", 0, 3)])),
        Some(ErrorCode::FencedMemberEpoch)
    );
    let by_id = to_commit("t2", Some(2), 0, 3);
    assert_eq!(refusal(&bench.commit_all(Some((1, 1)), vec![by_id])), None);
    assert_eq!(bench.committed(p(2, 0)), Some(3));
}

#[test]
fn a_group_without_members_takes_anybodys_commit() {
    let mut bench = Bench::new(&[1]);
    bench.commit(None, &[("t1", 0, 3)]);
    bench.commit(None, &[("t1", 0, 2)]);
    assert_eq!(bench.committed(p(1, 0)), Some(2), "a reset may go back");
    let description = bench.coordinator.describe(&group_id()).unwrap();
    assert_eq!(
        (description.phase, description.offsets.len()),
        (GroupPhase::Empty, 1)
    );
}

#[test]
fn what_is_wrong_with_one_partition_concerns_that_one_alone() {
    let mut bench = Bench::new(&[1]);
    let effects = bench.commit(
        None,
        &[("t1", 0, 3), ("t1", 1, 3), ("nope", 0, 3), ("t1", 0, u64::MAX)],
    );
    let [
        Effect::Reply {
            reply: Reply::Committed(Ok(failures)),
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    let codes: Vec<ErrorCode> = failures.iter().map(|failure| failure.error.code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidRequest
        ]
    );
    assert_eq!(bench.committed(p(1, 0)), Some(3));
}

#[test]
fn metadata_and_commits_are_bounded() {
    let mut bench = Bench::new(&[1]);
    let offset = |metadata: usize| OffsetToCommit {
        metadata: "x".repeat(metadata),
        ..to_commit("t1", None, 0, 1)
    };
    let mut commit = |offsets| {
        refusal(&bench.run(Command::Commit {
            request: RequestId(1),
            group: group_id(),
            member: None,
            offsets,
        }))
    };
    assert_eq!(commit(vec![offset(4096)]), None);
    assert_eq!(
        commit(vec![offset(4097)]),
        Some(ErrorCode::OffsetMetadataTooLarge)
    );
    assert_eq!(commit(vec![offset(4096); 65]), Some(ErrorCode::InvalidRequest));
    assert_eq!(
        commit(vec![offset(0); limits::MAX_OFFSETS_PER_COMMIT + 1]),
        Some(ErrorCode::InvalidRequest)
    );
}

#[test]
fn offsets_are_fenced_for_members_and_open_for_others() {
    let mut bench = Bench::new(&[2]);
    bench.join(1, join(1));
    bench.commit(Some((1, 1)), &[("t1", 0, 3), ("t1", 1, 4)]);
    let read = |member: Option<(u8, u32)>, wanted: Option<&[TopicIdPartition]>| {
        let member = member.map(|(member, epoch)| (member_id(member), MemberEpoch(epoch)));
        let offsets = bench.coordinator.offsets(&group_id(), member.as_ref(), wanted);
        offsets.map(|all| {
            all.into_iter()
                .map(|found| found.committed.offset.0)
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(read(None, None), Ok(vec![3, 4]));
    assert_eq!(read(Some((1, 1)), Some(&[p(1, 1)])), Ok(vec![4]));
    assert_eq!(
        read(Some((1, 2)), None).unwrap_err().code,
        ErrorCode::FencedMemberEpoch
    );
    assert_eq!(
        read(Some((2, 1)), None).unwrap_err().code,
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut bench = Bench::new(&[1]);
    let delete = || Command::Delete {
        request: RequestId(2),
        group: group_id(),
    };
    assert_eq!(refusal(&bench.run(delete())), Some(ErrorCode::GroupIdNotFound));
    bench.join(1, join(1));
    bench.commit(Some((1, 1)), &[("t1", 0, 3)]);
    assert_eq!(refusal(&bench.run(delete())), Some(ErrorCode::NonEmptyGroup));
    bench.run(Command::Leave {
        stream: StreamId(1),
        keep_instance: false,
    });
    let deleted = Effect::Reply {
        request: RequestId(2),
        reply: Reply::Deleted(Ok(())),
    };
    assert_eq!(bench.run(delete()), [deleted]);
    assert_eq!(bench.coordinator.committed(), &State::default());
}

#[test]
fn groups_are_listed_in_pages() {
    let mut bench = Bench::new(&[1]);
    for n in 0..5 {
        bench.join(
            n,
            Join {
                group: format!("g{n}").parse().unwrap(),
                ..join(1)
            },
        );
    }
    let first = bench.coordinator.list(None, 3);
    let rest = bench.coordinator.list(Some(&first[2].group), 3);
    let ids: Vec<&str> = first
        .iter()
        .chain(&rest)
        .map(|summary| summary.group.as_str())
        .collect();
    assert_eq!(ids, ["g0", "g1", "g2", "g3", "g4"]);
    assert_eq!((rest[0].phase, rest[0].member_count), (GroupPhase::Stable, 1));
}
