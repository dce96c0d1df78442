//! Voters that come back on an empty directory (M30), and processes that share a broker's id.

use std::collections::BTreeSet;

use openraft::BasicNode;
use tidelog_cluster::ids::BrokerIncarnation;

use super::*;
use crate::Formation;

impl Group {
    async fn of_three() -> Self {
        let mut group = Self::new(3, 3).await;
        for broker in 1..=3 {
            group.start(broker).await;
        }
        for broker in 1..=3 {
            formed(&group, broker).await.unwrap();
        }
        group
    }

    /// Takes a stopped broker's disk away and gives it an empty one.
    fn empty(&mut self, broker: u32) -> Disk {
        self.disks.insert(id(broker), Disk::new()).unwrap()
    }

    /// Waits until the group is the three nodes that run, each of them a voter, as one of them
    /// knows it.
    async fn is_whole(&self, via: u32) {
        let expected: BTreeSet<u64> = (1..=3).map(|broker| self.config(broker).node_id().0).collect();
        let mut metrics = self.node(via).raft().metrics();
        let whole = metrics.wait_for(|metrics| {
            let membership = metrics.membership_config.membership();
            let nodes: BTreeSet<u64> = membership.nodes().map(|(node, _)| *node).collect();
            nodes == expected && *membership.get_joint_config() == [expected.clone()]
        });
        tokio::time::timeout(DEADLINE, whole)
            .await
            .expect("three nodes vote, and nobody else is known")
            .unwrap();
    }

    /// Waits until a node says that it waits for something.
    async fn waits_for(&self, broker: u32, what: &str) {
        let mut last = Formation::Formed;
        let waits = async {
            loop {
                last = self.node(broker).formation();
                if matches!(&last, Formation::Waiting(why) if why.contains(what)) {
                    return;
                }
                assert!(
                    matches!(last, Formation::Waiting(_)),
                    "it waits for {what:?}: {last:?}"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, waits).await;
        assert!(waited.is_ok(), "it waits for {what:?}: {last:?}");
    }

    async fn holds(&self, node: u32, brokers: std::ops::RangeInclusive<u32>) {
        let expected: BTreeSet<u32> = brokers.collect();
        let mut images = self.node(node).subscribe();
        let holds = images.wait_for(|image| {
            let known: BTreeSet<u32> = image.brokers.keys().map(|id| id.get()).collect();
            known.is_superset(&expected)
        });
        tokio::time::timeout(DEADLINE, holds)
            .await
            .expect("M27: every registration is there")
            .unwrap();
    }
}

/// Empties one broker, has it take its place, and has the other two restarted.
async fn replace(mut group: Group, victim: u32) {
    let cluster = group.node(victim).image().cluster_id;
    let others: Vec<u32> = (1..=3).filter(|broker| *broker != victim).collect();
    group.stop(victim).await;
    let old = group.empty(victim);
    group.start(victim).await;
    formed(&group, victim).await.unwrap();
    group.is_whole(victim).await;
    group.holds(victim, 10..=40).await;

    // The new directory votes: with one of the two others it is a majority.
    group.register(victim, 41).await;
    for other in &others {
        group.stop(*other).await;
    }
    group.start(others[0]).await;
    group.register(victim, 42).await;
    group.start(others[1]).await;
    for broker in 1..=3 {
        formed(&group, broker).await.unwrap();
        group.holds(broker, 10..=42).await;
        assert_eq!(group.node(broker).image().cluster_id, cluster);
    }

    // The old directory never votes again, neither registers.
    let old_node = crate::RaftNodeId::new(id(victim), old.directory);
    let registered = group
        .node(others[0])
        .propose(
            Command::RegisterBroker(RegisterBroker {
                broker: id(victim),
                directory: old.directory,
                peer_address: String::new(),
                listeners: Vec::new(),
                feature_level: 1,
            }),
            PROPOSE,
        )
        .await
        .unwrap();
    assert_eq!(registered.result.unwrap_err().code, ErrorCode::InvalidRequest);
    group.stop(victim).await;
    let new = group.disks.insert(id(victim), old).unwrap();
    group.start(victim).await;
    let refused = formed(&group, victim).await.unwrap_err();
    let FormError::Replaced { found, known, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!((found, known.broker()), (old_node, Some(id(victim))));
    group.stop(victim).await;
    group.disks.insert(id(victim), new);
    group.start(victim).await;
    formed(&group, victim).await.unwrap();
    group.is_whole(victim).await;
    group.shutdown().await;
}

async fn with_registrations() -> (Group, u32) {
    let group = Group::of_three().await;
    // More than the log keeps: an empty directory is sent a snapshot.
    for broker in 10..=40 {
        group.register(1, broker).await;
    }
    let leader = group.leader().await;
    (group, leader)
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_an_emptied_follower_takes_its_place_by_itself_and_its_old_directory_never_votes_again() {
    let (group, leader) = with_registrations().await;
    let victim = group.follower_of(leader);
    replace(group, victim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_an_emptied_leader_takes_its_place_by_itself_and_its_old_directory_never_votes_again() {
    let (group, leader) = with_registrations().await;
    replace(group, leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_two_emptied_voters_form_no_cluster_and_forget_nothing() {
    let (mut group, _) = with_registrations().await;
    for broker in 1..=3 {
        group.stop(broker).await;
    }
    let (first, second) = (group.empty(1), group.empty(2));
    group.start(1).await;
    group.start(2).await;
    group.waits_for(1, "broker 3").await;
    group.waits_for(2, "broker 3").await;
    group.start(3).await;
    for broker in 1..=2 {
        group.waits_for(broker, "put the old directories back").await;
        let metrics = group.node(broker).raft().metrics();
        assert_eq!(metrics.borrow().last_log_index, None, "it is part of nothing");
    }
    let alone = group.node(3).leader();
    assert!(
        alone.is_none_or(|leader| leader.broker != id(3)),
        "one of three leads nobody: {alone:?}"
    );

    // With one of the lost directories put back there is a majority, and the other one's place is
    // taken.
    group.stop(2).await;
    drop(group.disks.insert(id(2), second));
    group.start(2).await;
    for broker in 1..=3 {
        formed(&group, broker).await.unwrap();
    }
    group.is_whole(1).await;
    group.holds(1, 10..=40).await;
    drop(first);
    group.shutdown().await;
}

/// A second process for a broker that runs, on a directory and at an address of its own.
async fn second_process(group: &Group, broker: u32) -> Group {
    let mut second = Group::new(1, 1).await;
    let disk = second.disks.remove(&id(1)).unwrap();
    let address = second.addresses.remove(&id(1)).unwrap();
    second.disks.insert(id(broker), disk);
    second.addresses.insert(id(broker), address);
    let config = MetadataConfig {
        voters: group.config(broker).voters,
        ..second.config_of(broker)
    };
    second.start_with(config).await;
    second
}

impl Group {
    fn config_of(&self, broker: u32) -> MetadataConfig {
        let disk = &self.disks[&id(broker)];
        MetadataConfig {
            broker: id(broker),
            directory: disk.directory,
            cluster: None,
            path: Path::join(disk.folder.path(), "metadata"),
            voters: BTreeMap::new(),
            peer_address: self.addresses[&id(broker)].clone(),
            raft: self.raft.clone(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_of_two_processes_with_one_broker_id_the_one_that_was_there_keeps_its_place() {
    let (mut group, leader) = with_registrations().await;
    let follower = group.follower_of(leader);
    for (victim, why) in [
        (follower, "answers at"),
        (leader, "leads, on another data directory"),
    ] {
        let second = second_process(&group, victim).await;
        second.waits_for(victim, why).await;
        group.is_whole(follower).await;
        second.shutdown().await;
    }
    // It is gone, but the second process is not where the group looks for the broker.
    group.stop(follower).await;
    let second = second_process(&group, follower).await;
    second.waits_for(follower, "does not answer there").await;
    second.shutdown().await;
    group.start(follower).await;
    formed(&group, follower).await.unwrap();
    group.is_whole(follower).await;
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m30_a_directory_with_a_session_keeps_its_place_until_the_session_is_over() {
    let (mut group, leader) = with_registrations().await;
    let victim = group.follower_of(leader);
    let register = RegisterBroker {
        broker: id(victim),
        directory: group.disks[&id(victim)].directory,
        peer_address: group.addresses[&id(victim)].clone(),
        listeners: Vec::new(),
        feature_level: 1,
    };
    let via = group.node(leader);
    let registered = via
        .propose(Command::RegisterBroker(register), PROPOSE)
        .await
        .unwrap();
    let Ok(Accepted::BrokerRegistered { epoch }) = registered.result else {
        panic!("{registered:?}")
    };
    let incarnation = BrokerIncarnation {
        broker: id(victim),
        epoch,
    };
    let unfenced = via.propose(Command::UnfenceBroker(incarnation), PROPOSE).await;
    unfenced.unwrap().result.unwrap();
    group.stop(victim).await;
    group.empty(victim);
    group.start(victim).await;
    group.waits_for(victim, "still has a session").await;
    let fenced = group
        .node(leader)
        .propose(Command::FenceBroker(incarnation), PROPOSE)
        .await;
    fenced.unwrap().result.unwrap();
    formed(&group, victim).await.unwrap();
    group.is_whole(victim).await;
    group.shutdown().await;
}

/// As after a leader that died in the middle: the new directory is a learner, and the old one still
/// votes.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_begun_is_finished() {
    let (mut group, leader) = with_registrations().await;
    let victim = group.follower_of(leader);
    group.stop(victim).await;
    group.empty(victim);
    let node = group.config(victim).node_id();
    let address = BasicNode::new(&group.addresses[&id(victim)]);
    group
        .node(leader)
        .raft()
        .add_learner(node.0, address, false)
        .await
        .unwrap();
    group.start(victim).await;
    formed(&group, victim).await.unwrap();
    group.is_whole(victim).await;
    group.shutdown().await;
}
