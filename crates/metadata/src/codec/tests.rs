//! Every command, outcome and record survives its round trip; committed bytes of version 1 are
//! still read.

use tidelog_cluster::command::{
    AlterPartition, AlterTopicConfigs, CreateTopic, DeleteTopic, InitCluster, RegisterBroker,
};
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::ids::Listener;
use tidelog_cluster::image::MetadataIndex;
use tidelog_cluster::{Accepted, Command, Outcome};
use tidelog_types::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionError,
    PartitionIndex, PartitionRegistration, ProducerId, TopicId, TopicIdPartition,
};

use super::*;

fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

fn incarnation(id: u32) -> BrokerIncarnation {
    BrokerIncarnation {
        broker: broker(id),
        epoch: BrokerEpoch(u64::from(id) * 10),
    }
}

fn topic_id() -> TopicId {
    TopicId::from_slice(&[2; 16]).unwrap()
}

fn commands() -> Vec<Command> {
    vec![
        Command::InitCluster(InitCluster {
            cluster_id: ClusterId::from_slice(&[1; 16]).unwrap(),
        }),
        Command::RegisterBroker(RegisterBroker {
            broker: broker(3),
            directory: DirectoryId::from_slice(&[3; 16]).unwrap(),
            peer_address: "broker-3:7172".to_owned(),
            listeners: vec![Listener {
                name: "client".to_owned(),
                address: "broker-3:7171".to_owned(),
            }],
            feature_level: 1,
        }),
        Command::FenceBroker(incarnation(1)),
        Command::UnfenceBroker(incarnation(2)),
        Command::DrainBroker(incarnation(3)),
        Command::CreateTopic(CreateTopic {
            name: "flights".parse().unwrap(),
            topic_id: topic_id(),
            partitions: Some(6),
            replication_factor: None,
            configs: [("min.insync.replicas".to_owned(), "2".to_owned())].into(),
            placement_start: 99,
            internal: false,
        }),
        Command::DeleteTopic(DeleteTopic { topic_id: topic_id() }),
        Command::AlterPartition(AlterPartition {
            partition: TopicIdPartition {
                topic_id: topic_id(),
                partition: PartitionIndex(4),
            },
            leader: incarnation(1),
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(6),
            isr: vec![incarnation(1), incarnation(2)],
        }),
        Command::AllocateProducerIds(incarnation(1)),
        Command::ElectPreferredLeaders,
        Command::AlterTopicConfigs(AlterTopicConfigs {
            topic_id: topic_id(),
            set: [("min.insync.replicas".to_owned(), "1".to_owned())].into(),
            remove: vec!["max.message.bytes".to_owned()],
        }),
    ]
}

#[test]
fn commands_survive_the_log() {
    for command in commands() {
        assert_eq!(
            command::from_bytes(&command::to_bytes(&command)).unwrap(),
            command
        );
    }
}

#[test]
fn outcomes_survive_the_way_to_the_proposer() {
    let registration = PartitionRegistration {
        replicas: vec![broker(1), broker(2), broker(3)],
        isr: vec![broker(1)],
        elr: vec![broker(2)],
        leader: None,
        last_known_leader: Some(broker(1)),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(9),
        min_insync_replicas: 2,
    };
    let refusal = PartitionError::new(ErrorCode::FencedLeaderEpoch, "old")
        .with_leader(Some((broker(2), LeaderEpoch(4))));
    let results = [
        Err(refusal),
        Ok(Accepted::Cluster {
            cluster_id: ClusterId::from_slice(&[1; 16]).unwrap(),
        }),
        Ok(Accepted::BrokerRegistered {
            epoch: BrokerEpoch(12),
        }),
        Ok(Accepted::BrokerFenced),
        Ok(Accepted::BrokerUnfenced),
        Ok(Accepted::BrokerDrained { still_leading: 2 }),
        Ok(Accepted::TopicCreated {
            topic_id: topic_id(),
            partitions: 3,
            replication_factor: 2,
        }),
        Ok(Accepted::TopicDeleted),
        Ok(Accepted::TopicConfigsAltered),
        Ok(Accepted::PartitionAltered { registration }),
        Ok(Accepted::ProducerIdsAllocated {
            first: ProducerId(2000),
            count: 1000,
        }),
        Ok(Accepted::PreferredLeadersElected { moved: 4 }),
    ];
    for result in results {
        let outcome = Outcome {
            index: MetadataIndex(77),
            result,
        };
        assert_eq!(
            outcome::from_bytes(&outcome::to_bytes(outcome.clone())).unwrap(),
            outcome
        );
    }
}

/// The commands above as version 1 wrote them, one a line, hexadecimal. Never rewritten: a change
/// that breaks them breaks clusters.
const FIXTURE_V1: &str = include_str!("../../fixtures/commands-v1.hex");

fn from_hex(line: &str) -> Vec<u8> {
    (0..line.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn commands_of_version_1_are_read() {
    let read: Vec<_> = FIXTURE_V1
        .lines()
        .map(|line| command::from_bytes(&from_hex(line)).unwrap())
        .collect();
    assert_eq!(read, commands());
}

#[test]
fn damaged_values_and_later_versions_are_refused() {
    let corrupt = from_hex(include_str!("../../fixtures/value-corrupt.hex").trim());
    assert!(matches!(decode(&corrupt), Err(DecodeError::Damaged(_))));
    let later = from_hex(include_str!("../../fixtures/value-version-2.hex").trim());
    assert_eq!(decode(&later).unwrap_err(), DecodeError::Version(2));
    assert_eq!(decode(&[]).unwrap_err(), DecodeError::Version(0));
    let v1 = from_hex(include_str!("../../fixtures/value-v1.hex").trim());
    assert_eq!(
        decode(&v1).unwrap(),
        Value::Vote(pb::RaftVote {
            term: 3,
            node_id: 7,
            committed: true
        })
    );
    assert_eq!(encode(decode(&v1).unwrap()), v1);
    let node = from_hex(include_str!("../../fixtures/node-v1.hex").trim());
    assert_eq!(
        decode(&node).unwrap(),
        Value::Node(pb::NodeIdentity {
            broker_id: 1,
            directory_id: vec![7; 16].into(),
        })
    );
    assert_eq!(encode(decode(&node).unwrap()), node);
}
