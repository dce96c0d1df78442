//! Who the configured voters say they are, and what follows.

use tidelog_types::DirectoryId;

use super::*;
use crate::config::RaftConfig;

fn id(broker: u32) -> BrokerId {
    BrokerId::new(broker).unwrap()
}

fn node(broker: u32, disk: u8) -> u64 {
    RaftNodeId::new(id(broker), DirectoryId::from_slice(&[disk; 16]).unwrap()).0
}

fn config(broker: u32) -> MetadataConfig {
    MetadataConfig {
        broker: id(broker),
        directory: DirectoryId::from_slice(&[broker as u8; 16]).unwrap(),
        cluster: None,
        path: std::path::PathBuf::new(),
        voters: (1..=3)
            .map(|broker| (id(broker), format!("b{broker}:1")))
            .collect(),
        peer_address: format!("b{broker}:1"),
        raft: RaftConfig::default(),
    }
}

fn pristine(broker: u32) -> (BrokerId, Heard) {
    let hello = pb::HelloResponse {
        node_id: node(broker, broker as u8),
        pristine: true,
        ..Default::default()
    };
    (id(broker), Heard::Hello(hello))
}

fn formed(broker: u32, members: &[u64], leader: u32) -> (BrokerId, Heard) {
    let hello = pb::HelloResponse {
        node_id: node(broker, broker as u8),
        member_node_ids: members.to_vec(),
        voter_node_ids: members
            .iter()
            .copied()
            .filter(|node| RaftNodeId(*node).broker() <= Some(id(3)))
            .collect(),
        leader,
        ..Default::default()
    };
    (id(broker), Heard::Hello(hello))
}

#[test]
fn m30_a_cluster_is_made_only_when_every_voter_is_pristine_and_by_the_lowest_id() {
    let all = [pristine(2), pristine(3)].into();
    let Step::Initialize(nodes) = decide(&config(1), &all) else {
        panic!("all are pristine")
    };
    assert_eq!(
        nodes.into_keys().collect::<Vec<_>>(),
        [node(1, 1), node(2, 2), node(3, 3)]
    );
    assert!(matches!(
        decide(&config(2), &[pristine(1), pristine(3)].into()),
        Step::Wait(_)
    ));
    assert!(matches!(
        decide(&config(1), &[pristine(2), (id(3), Heard::Nothing)].into()),
        Step::Wait(_)
    ));
    // It voted, but knows no members yet: it is part of something.
    let voted = (
        id(3),
        Heard::Hello(pb::HelloResponse {
            node_id: node(3, 3),
            ..Default::default()
        }),
    );
    assert!(matches!(
        decide(&config(1), &[pristine(2), voted].into()),
        Step::Wait(_)
    ));
    // A voter's address leads to another broker.
    let stranger = (id(3), pristine(2).1);
    assert!(matches!(
        decide(&config(1), &[pristine(2), stranger].into()),
        Step::Wait(_)
    ));
}

#[test]
fn m30_an_emptied_voter_asks_to_be_taken_in_while_a_majority_is_there() {
    let members = [node(1, 77), node(2, 2), node(3, 3)];
    let whole = [formed(2, &members, 3), formed(3, &members, 3)].into();
    assert_eq!(decide(&config(1), &whole), Step::Join { leader: id(3) });
    // It led: the others may still say so.
    let led = [formed(2, &members, 1), formed(3, &members, 1)].into();
    assert!(matches!(decide(&config(1), &led), Step::Wait(_)));
    // A change that was begun: two nodes of one broker vote, and two of three brokers are enough.
    let joint = [node(1, 76), node(1, 77), node(2, 2), node(3, 3)];
    let joint = [formed(2, &joint, 3), formed(3, &joint, 3)].into();
    assert_eq!(decide(&config(1), &joint), Step::Join { leader: id(3) });
}

#[test]
fn m30_without_a_majority_of_the_known_directories_an_emptied_voter_waits_and_says_what_is_missing() {
    let members = [node(1, 77), node(2, 2), node(3, 3)];
    let emptied = [node(1, 77), node(2, 78), node(3, 3)];
    let cases: [(Answers, &str); 2] = [
        (
            [formed(3, &members, 3), (id(2), Heard::Nothing)].into(),
            "broker 2 and it does not answer",
        ),
        (
            [formed(3, &emptied, 3), pristine(2)].into(),
            "broker 2 and its directory is a new one",
        ),
    ];
    for (answers, expected) in cases {
        let Step::Wait(what) = decide(&config(1), &answers) else {
            panic!("one of three is no majority")
        };
        assert!(what.contains(expected), "{what}");
        assert!(what.contains("broker 1 (this one)"), "{what}");
        assert!(what.contains("put the old directories back"), "{what}");
    }
}

#[test]
fn m30_a_directory_whose_place_was_taken_never_goes_on() {
    let members = [node(1, 77), node(2, 2), node(3, 3)];
    let knows = |broker, index| {
        let (id, heard) = formed(broker, &members, 3);
        let Heard::Hello(hello) = heard else {
            unreachable!()
        };
        let membership_index = index;
        (
            id,
            Heard::Hello(pb::HelloResponse {
                membership_index,
                ..hello
            }),
        )
    };
    let Step::Refuse(error) = go_on(&config(1), 5, &[knows(2, 9), knows(3, 9)].into()) else {
        panic!("another directory took its place")
    };
    assert!(error.to_string().contains("another one has taken"), "{error}");
    // One alone may know what never came about, and what is older than what this node knows says
    // nothing.
    assert!(matches!(
        go_on(&config(1), 5, &[knows(2, 9), (id(3), Heard::Nothing)].into()),
        Step::Wait(_)
    ));
    assert_eq!(
        go_on(&config(1), 9, &[knows(2, 9), knows(3, 9)].into()),
        Step::GoOn
    );
}

#[test]
fn a_member_waits_for_the_log_and_a_stranger_joins_as_a_learner() {
    let members = [node(1, 1), node(2, 2), node(3, 3)];
    assert!(matches!(
        decide(&config(1), &[formed(2, &members, 2)].into()),
        Step::Wait(_)
    ));
    let answers = [formed(2, &members, 2), formed(3, &members, 2)].into();
    assert_eq!(decide(&config(4), &answers), Step::Join { leader: id(2) });
    let with_old_learner = [members.as_slice(), &[node(4, 77)]].concat();
    assert_eq!(
        decide(
            &config(4),
            &[formed(2, &with_old_learner, 2), formed(3, &with_old_learner, 2)].into()
        ),
        Step::Join { leader: id(2) },
        "a learner never voted: its emptied disk joins again"
    );
    assert!(matches!(
        decide(&config(4), &[pristine(1), pristine(2)].into()),
        Step::Wait(_)
    ));
}

#[test]
fn a_node_of_another_cluster_refuses_and_one_stranger_does_not_stop_the_others() {
    let other = |broker| {
        (
            id(broker),
            Heard::OtherCluster(format!("broker {broker} is of cluster c")),
        )
    };
    let members = [node(1, 1), node(2, 2), node(3, 3)];
    let Step::Refuse(error) = go_on(&config(1), 1, &[other(2), other(3)].into()) else {
        panic!("all others are of another cluster")
    };
    assert!(error.to_string().contains("cluster c"), "{error}");
    assert!(matches!(
        go_on(&config(1), 1, &[other(2), (id(3), Heard::Nothing)].into()),
        Step::Wait(_)
    ));
    assert_eq!(
        go_on(&config(1), 1, &[other(2), formed(3, &members, 3)].into()),
        Step::GoOn
    );
    assert_eq!(go_on(&config(1), 1, &Answers::new()), Step::GoOn);
}
