//! Rules one by one; random sequences of commands in a file of their own.

mod configs;
mod random;

use tidelog_types::{
    BrokerEpoch, BrokerId, ClusterId, DirectoryId, ErrorCode, LeaderEpoch, PartitionIndex,
    PartitionRegistration, ProducerId, TopicId, TopicIdPartition, TopicName,
};

use super::*;
use crate::command::{AlterPartition, CreateTopic, DeleteTopic, InitCluster, RegisterBroker};
use crate::ids::Listener;

/// A log of commands and the image after them.
#[derive(Default)]
struct Log {
    image: ClusterImage,
}

impl Log {
    fn with_brokers(count: u32) -> Self {
        let mut log = Self::default();
        for id in 1..=count {
            log.start(id, 1);
        }
        log
    }

    fn apply(&mut self, command: Command) -> Result<Accepted, PartitionError> {
        let index = MetadataIndex(self.image.index.0 + 1);
        let (changes, outcome) = decide(&self.image, index, &command);
        assert!(
            outcome.result.is_ok() || changes.is_empty(),
            "a refusal changes nothing"
        );
        self.image.replay(index, &changes);
        outcome.result
    }

    fn code(&mut self, command: Command) -> ErrorCode {
        self.apply(command).unwrap_err().code
    }

    fn register(&mut self, broker: u32, disk: u32) -> BrokerIncarnation {
        self.apply(Command::RegisterBroker(registration(broker, disk)))
            .unwrap();
        self.incarnation(broker)
    }

    fn start(&mut self, broker: u32, disk: u32) -> BrokerIncarnation {
        let incarnation = self.register(broker, disk);
        self.apply(Command::UnfenceBroker(incarnation)).unwrap();
        incarnation
    }

    fn fence(&mut self, broker: u32) {
        let incarnation = self.incarnation(broker);
        self.apply(Command::FenceBroker(incarnation)).unwrap();
    }

    fn incarnation(&self, broker: u32) -> BrokerIncarnation {
        let broker = id(broker);
        BrokerIncarnation {
            broker,
            epoch: self
                .image
                .broker(broker)
                .map_or(BrokerEpoch(0), |known| known.epoch),
        }
    }

    fn topic(&mut self, configs: &[(&str, &str)]) {
        self.apply(Command::CreateTopic(topic("t", 1, 3, configs)))
            .unwrap();
    }

    fn partition(&self) -> &PartitionRegistration {
        self.image.partition(partition()).unwrap()
    }

    fn alter(&self, leader: u32, isr: &[u32]) -> AlterPartition {
        let old = self.partition();
        AlterPartition {
            partition: partition(),
            leader: self.incarnation(leader),
            leader_epoch: old.leader_epoch,
            partition_epoch: old.partition_epoch,
            isr: isr.iter().map(|member| self.incarnation(*member)).collect(),
        }
    }
}

fn id(broker: u32) -> BrokerId {
    BrokerId::new(broker).unwrap()
}

fn ids(brokers: &[u32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(id).collect()
}

fn uuid(number: u32) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn topic_id(number: u32) -> TopicId {
    TopicId::from_slice(&uuid(number)).unwrap()
}

fn partition() -> TopicIdPartition {
    TopicIdPartition {
        topic_id: topic_id(1),
        partition: PartitionIndex(0),
    }
}

fn registration(broker: u32, disk: u32) -> RegisterBroker {
    RegisterBroker {
        broker: id(broker),
        directory: DirectoryId::from_slice(&uuid(broker * 100 + disk)).unwrap(),
        peer_address: format!("broker-{broker}:7172"),
        listeners: vec![Listener {
            name: "client".to_owned(),
            address: format!("broker-{broker}:7171"),
        }],
        feature_level: 1,
    }
}

fn topic(name: &str, partitions: u32, factor: u32, configs: &[(&str, &str)]) -> CreateTopic {
    CreateTopic {
        name: name.parse().unwrap(),
        topic_id: topic_id(1),
        partitions: Some(partitions),
        replication_factor: Some(factor),
        configs: configs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        placement_start: 0,
        internal: name.starts_with("__"),
    }
}

#[test]
fn a_cluster_is_named_once() {
    let mut log = Log::default();
    let name = |number| InitCluster {
        cluster_id: ClusterId::from_slice(&uuid(number)).unwrap(),
    };
    log.apply(Command::InitCluster(name(1))).unwrap();
    let again = log.apply(Command::InitCluster(name(2))).unwrap();
    assert_eq!(
        again,
        Accepted::Cluster {
            cluster_id: name(1).cluster_id
        }
    );
    assert_eq!(log.image.cluster_id, Some(name(1).cluster_id));
}

#[test]
fn broker_epochs_are_log_indexes_and_compare_and_set_m28() {
    let mut log = Log::default();
    let first = log.start(1, 1);
    let second = log.register(1, 1);
    assert!(second.epoch > first.epoch);
    for stale in [
        Command::FenceBroker(first),
        Command::UnfenceBroker(first),
        Command::DrainBroker(first),
    ] {
        assert_eq!(log.code(stale), ErrorCode::StaleBrokerEpoch);
    }
    assert_eq!(
        log.code(Command::AllocateProducerIds(first)),
        ErrorCode::StaleBrokerEpoch
    );
    assert!(!log.image.is_unfenced(id(1)), "a registered broker begins fenced");
}

#[test]
fn producer_ids_are_given_once() {
    let mut log = Log::with_brokers(1);
    for first in [0, 1000] {
        let broker = log.incarnation(1);
        let given = log.apply(Command::AllocateProducerIds(broker)).unwrap();
        assert_eq!(
            given,
            Accepted::ProducerIdsAllocated {
                first: ProducerId(first),
                count: 1000
            }
        );
    }
}

#[test]
fn an_older_version_does_not_register_on_a_newer_ones_disk() {
    let mut log = Log::default();
    log.apply(Command::RegisterBroker(RegisterBroker {
        feature_level: 2,
        ..registration(1, 1)
    }))
    .unwrap();
    assert_eq!(
        log.code(Command::RegisterBroker(registration(1, 1))),
        ErrorCode::InvalidRequest
    );
}

#[test]
fn a_topic_needs_a_free_name_sane_counts_and_enough_live_brokers() {
    let mut log = Log::with_brokers(3);
    let create = |topic| Command::CreateTopic(topic);
    assert_eq!(
        log.code(create(topic("t", 0, 3, &[]))),
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        log.code(create(topic("t", 10_001, 1, &[]))),
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        log.code(create(topic("t", 1, 0, &[]))),
        ErrorCode::InvalidReplicationFactor
    );
    assert_eq!(
        log.code(create(topic("t", 1, 4, &[]))),
        ErrorCode::InvalidReplicationFactor
    );
    assert_eq!(
        log.code(create(topic("t", 1, 3, &[("retention.ms", "5")]))),
        ErrorCode::InvalidConfig
    );
    let stranger = CreateTopic {
        internal: true,
        ..topic("t", 1, 3, &[])
    };
    assert_eq!(log.code(create(stranger)), ErrorCode::InvalidTopicException);
    let intruder = CreateTopic {
        internal: false,
        ..topic(TopicName::CONSUMER_OFFSETS, 1, 3, &[])
    };
    assert_eq!(log.code(create(intruder)), ErrorCode::InvalidTopicException);
    log.fence(3);
    assert_eq!(
        log.code(create(topic("t", 1, 3, &[]))),
        ErrorCode::InvalidReplicationFactor
    );
    log.apply(create(topic("t", 1, 2, &[]))).unwrap();
    let other = CreateTopic {
        topic_id: topic_id(2),
        ..topic("t", 1, 2, &[])
    };
    assert_eq!(log.code(create(other)), ErrorCode::TopicAlreadyExists);
    let again = log.apply(create(topic("t", 1, 2, &[]))).unwrap();
    assert_eq!(
        again,
        Accepted::TopicCreated {
            topic_id: topic_id(1),
            partitions: 1,
            replication_factor: 2
        },
        "a proposal sent again is answered as the first one"
    );
}

#[test]
fn defaults_of_a_topic_follow_the_brokers() {
    for (brokers, factor, min_insync) in [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)] {
        let mut log = Log::with_brokers(brokers);
        let defaults = CreateTopic {
            partitions: None,
            replication_factor: None,
            ..topic("t", 1, 1, &[])
        };
        let made = log.apply(Command::CreateTopic(defaults)).unwrap();
        assert_eq!(
            made,
            Accepted::TopicCreated {
                topic_id: topic_id(1),
                partitions: 3,
                replication_factor: factor
            }
        );
        assert_eq!(log.partition().min_insync_replicas, min_insync);
    }
}

#[test]
fn a_topic_is_deleted_by_id_and_its_name_is_free_again() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    log.apply(Command::DeleteTopic(DeleteTopic {
        topic_id: topic_id(1),
    }))
    .unwrap();
    assert_eq!(
        log.code(Command::DeleteTopic(DeleteTopic {
            topic_id: topic_id(1)
        })),
        ErrorCode::UnknownTopicId
    );
    assert_eq!((log.image.topics().len(), log.image.partition_count()), (0, 0));
    log.topic(&[]);
    log.apply(Command::CreateTopic(CreateTopic {
        topic_id: topic_id(2),
        ..topic(
            TopicName::CONSUMER_OFFSETS,
            16,
            3,
            &[("cleanup.policy", "compact")],
        )
    }))
    .unwrap();
    let refused = log.code(Command::DeleteTopic(DeleteTopic {
        topic_id: topic_id(2),
    }));
    assert_eq!(refused, ErrorCode::InvalidTopicException);
}

#[test]
fn r8_the_next_in_sync_replica_leads_when_the_leader_is_fenced() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    assert_eq!(log.partition().replicas, ids(&[1, 2, 3]));
    log.fence(1);
    let after = log.partition();
    assert_eq!((after.leader, after.leader_epoch), (Some(id(2)), LeaderEpoch(1)));
    assert_eq!((&after.isr, &after.elr), (&ids(&[2, 3]), &vec![]));
}

#[test]
fn r8_below_the_minimum_who_leaves_the_isr_stays_eligible_and_leads_when_the_isr_is_empty() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    log.fence(3);
    log.fence(2);
    assert_eq!(
        (&log.partition().isr, &log.partition().elr),
        (&ids(&[1]), &ids(&[2]))
    );
    log.fence(1);
    let dark = log.partition().clone();
    assert_eq!((dark.leader, dark.last_known_leader), (None, Some(id(1))));
    assert_eq!((&dark.isr, &dark.elr), (&vec![], &ids(&[1, 2])));

    log.start(3, 1);
    assert_eq!(
        log.partition().leader,
        None,
        "3 left while the minimum was met: it may lack records"
    );
    log.start(2, 1);
    let lit = log.partition();
    assert_eq!((lit.leader, lit.last_known_leader), (Some(id(2)), None));
    assert_eq!((&lit.isr, &lit.elr), (&ids(&[2]), &ids(&[1])));
    assert!(lit.leader_epoch > dark.leader_epoch);

    let alter = log.alter(2, &[2, 3]);
    log.apply(Command::AlterPartition(alter)).unwrap();
    assert_eq!(
        (&log.partition().isr, &log.partition().elr),
        (&ids(&[2, 3]), &vec![])
    );
}

#[test]
fn r3_a_leader_that_registers_anew_leads_only_in_a_new_epoch() {
    let mut log = Log::with_brokers(1);
    log.apply(Command::CreateTopic(topic("t", 1, 1, &[]))).unwrap();
    let before = log.partition().leader_epoch;
    log.register(1, 1);
    assert_eq!(log.partition().leader, None);
    let incarnation = log.incarnation(1);
    log.apply(Command::UnfenceBroker(incarnation)).unwrap();
    assert_eq!(log.partition().leader, Some(id(1)));
    assert!(log.partition().leader_epoch > before);
}

#[test]
fn m30_a_new_directory_is_in_no_isr_and_not_eligible() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    log.fence(3);
    log.fence(2);
    log.fence(1);
    assert_eq!(log.partition().elr, ids(&[1, 2]));
    log.start(1, 2);
    assert_eq!(log.partition().elr, ids(&[2]));
    assert_eq!(log.partition().leader, None, "its disk is empty");
    log.start(2, 1);
    assert_eq!(log.partition().leader, Some(id(2)));
}

#[test]
fn an_unclean_leader_is_elected_only_where_the_topic_asks_for_it() {
    for (asked, leader) in [("false", None), ("true", Some(id(3)))] {
        let mut log = Log::with_brokers(3);
        log.topic(&[("unclean.leader.election.enable", asked)]);
        log.fence(3);
        log.fence(2);
        log.fence(1);
        log.register(3, 1);
        let index = MetadataIndex(log.image.index.0 + 1);
        let (changes, _) = decide(&log.image, index, &Command::UnfenceBroker(log.incarnation(3)));
        let unclean = changes
            .iter()
            .any(|change| matches!(change, Change::Partition { unclean: true, .. }));
        assert_eq!(unclean, leader.is_some());
        log.image.replay(index, &changes);
        assert_eq!(log.partition().leader, leader);
        if leader.is_some() {
            assert_eq!(
                (&log.partition().isr, &log.partition().elr),
                (&ids(&[3]), &vec![])
            );
        }
    }
}

#[test]
fn r11_draining_moves_leadership_and_leaves_the_isr_unless_nobody_else_is_there() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    let first = log.incarnation(1);
    assert_eq!(
        log.apply(Command::DrainBroker(first)).unwrap(),
        Accepted::BrokerDrained { still_leading: 0 }
    );
    assert_eq!(
        (log.partition().leader, &log.partition().isr),
        (Some(id(2)), &ids(&[2, 3]))
    );
    let rejoin = log.alter(2, &[1, 2, 3]);
    assert_eq!(
        log.code(Command::AlterPartition(rejoin)),
        ErrorCode::IneligibleReplica
    );

    log.fence(3);
    let second = log.incarnation(2);
    assert_eq!(
        log.apply(Command::DrainBroker(second)).unwrap(),
        Accepted::BrokerDrained { still_leading: 1 }
    );
    assert_eq!(
        log.partition().leader,
        Some(id(2)),
        "a draining leader is better than none"
    );
    log.start(3, 1);
    let handover = log.alter(2, &[2, 3]);
    log.apply(Command::AlterPartition(handover)).unwrap();
    assert_eq!(
        (log.partition().leader, &log.partition().isr),
        (Some(id(3)), &ids(&[3]))
    );
    assert_eq!(
        log.apply(Command::DrainBroker(second)).unwrap(),
        Accepted::BrokerDrained { still_leading: 0 }
    );
    log.fence(2);
    assert_eq!(
        log.code(Command::UnfenceBroker(second)),
        ErrorCode::InvalidRequest
    );
}

#[test]
fn r7_an_isr_change_is_a_compare_and_set_on_every_epoch() {
    let mut log = Log::with_brokers(4);
    log.topic(&[]);
    let good = log.alter(1, &[1, 2]);
    let with = |change: fn(&mut AlterPartition)| {
        let mut alter = good.clone();
        change(&mut alter);
        Command::AlterPartition(alter)
    };
    let cases: [(Command, ErrorCode); 9] = [
        (
            with(|a| a.partition.topic_id = topic_id(9)),
            ErrorCode::UnknownTopicId,
        ),
        (
            with(|a| a.partition.partition = PartitionIndex(7)),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            with(|a| a.leader_epoch = a.leader_epoch.next()),
            ErrorCode::UnknownLeaderEpoch,
        ),
        (
            with(|a| a.partition_epoch = a.partition_epoch.next()),
            ErrorCode::InvalidUpdateVersion,
        ),
        (
            with(|a| a.leader.epoch = a.leader.epoch.next()),
            ErrorCode::StaleBrokerEpoch,
        ),
        (
            with(|a| a.isr[1].epoch = a.isr[1].epoch.next()),
            ErrorCode::IneligibleReplica,
        ),
        (with(|a| a.isr.push(a.isr[0])), ErrorCode::InvalidRequest),
        (with(|a| a.isr = a.isr.split_off(1)), ErrorCode::InvalidRequest),
        (
            Command::AlterPartition(log.alter(1, &[1, 4])),
            ErrorCode::InvalidRequest,
        ),
    ];
    for (command, code) in cases {
        assert_eq!(log.code(command), code);
    }
    let usurper = log.alter(2, &[1, 2]);
    assert_eq!(
        log.code(Command::AlterPartition(usurper)),
        ErrorCode::NotLeaderOrFollower
    );

    log.apply(Command::AlterPartition(good.clone())).unwrap();
    assert_eq!(log.partition().isr, ids(&[1, 2]));
    assert_eq!(
        log.code(Command::AlterPartition(good.clone())),
        ErrorCode::InvalidUpdateVersion,
        "once only"
    );
    log.fence(1);
    let deposed = log.apply(Command::AlterPartition(good)).unwrap_err();
    assert_eq!(deposed.code, ErrorCode::FencedLeaderEpoch);
    assert_eq!(
        deposed.leader,
        Some((id(2), LeaderEpoch(1))),
        "a deposed leader is told who leads"
    );
}

#[test]
fn preferred_leaders_lead_again_once_in_sync() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    log.fence(1);
    log.start(1, 1);
    let elect = |log: &mut Log| log.apply(Command::ElectPreferredLeaders).unwrap();
    assert_eq!(
        elect(&mut log),
        Accepted::PreferredLeadersElected { moved: 0 },
        "1 is not in sync yet"
    );
    let rejoin = log.alter(2, &[1, 2, 3]);
    log.apply(Command::AlterPartition(rejoin)).unwrap();
    assert_eq!(elect(&mut log), Accepted::PreferredLeadersElected { moved: 1 });
    assert_eq!(log.partition().leader, Some(id(1)));
}

#[test]
fn a_delta_names_what_differs() {
    let mut log = Log::with_brokers(3);
    let before = log.image.clone();
    log.topic(&[]);
    assert_eq!(log.image.delta_since(&before).topics, [topic_id(1)]);
    let with_topic = log.image.clone();
    log.fence(2);
    let delta = log.image.delta_since(&with_topic);
    assert_eq!((delta.brokers, delta.topics), (ids(&[2]), vec![topic_id(1)]));
    assert_eq!(before.delta_since(&log.image).deleted_topics, [topic_id(1)]);
    assert!(log.image.delta_since(&log.image.clone()).is_empty());
}
